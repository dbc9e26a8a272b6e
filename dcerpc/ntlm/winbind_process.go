package ntlm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// errHelperGone means that a helper ended, or closed its pipes.
var errHelperGone = errors.New("the process has ended")

// A helperProcess is one running ntlm_auth. Only kill is safe for concurrent use.
type helperProcess struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	lines  *bufio.Reader
	stderr tail
}

func startHelper(command []string) (*helperProcess, error) {
	p := &helperProcess{cmd: exec.Command(command[0], command[1:]...)}
	p.cmd.Stderr = &p.stderr
	p.cmd.WaitDelay = time.Second // children of a wrapper may hold its pipes open
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("ntlm: winbind helper: %w", err)
	}
	if p.stdout, err = p.cmd.StdoutPipe(); err != nil {
		return nil, fmt.Errorf("ntlm: winbind helper: %w", err)
	}
	p.lines = bufio.NewReader(p.stdout)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("ntlm: winbind helper: %w", err)
	}
	return p, nil
}

func (p *helperProcess) write(b []byte) error {
	if _, err := p.stdin.Write(b); err != nil {
		return fmt.Errorf("%w: %w", errHelperGone, err)
	}
	return nil
}

// readLine returns a line without its end; one longer than bufio's 4096 bytes is an error.
func (p *helperProcess) readLine() (string, error) {
	line, err := p.lines.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", errors.New("a line without end")
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", errHelperGone, err)
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// kill ends the process, and with it reads from it and writes to it. It may be called at any time.
func (p *helperProcess) kill() {
	p.cmd.Process.Kill()
	p.stdin.Close()
	p.stdout.Close()
}

// stop kills the process and waits until it has ended.
func (p *helperProcess) stop() {
	p.kill()
	p.cmd.Wait()
}

// stopWith stops the process and adds its last output to err.
func (p *helperProcess) stopWith(err error) error {
	p.stop()
	if said := p.stderr.String(); said != "" {
		return fmt.Errorf("ntlm: winbind helper: %w; it said %q", err, said)
	}
	return fmt.Errorf("ntlm: winbind helper: %w", err)
}

// A tail keeps the last bytes written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailSize = 512

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b[max(len(b)-tailSize, 0):]...)
	t.b = t.b[max(len(t.b)-tailSize, 0):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.b))
}
