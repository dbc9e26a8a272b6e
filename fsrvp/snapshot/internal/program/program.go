// Package program runs the programs that some backends take snapshots by: for a limited time, with
// limited output, and so that nothing of them stays behind.
package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

const (
	// MaxOutput is how many bytes a program may write to its standard output, of lines that are
	// kept.
	MaxOutput = 8 << 20
	// MaxLine is how long a line may be where a Call says which lines to keep.
	MaxLine   = 64 << 10
	maxStderr = 4 << 10
)

// An Error says how a program failed.
type Error struct {
	Argv   []string
	Exit   int    // its exit status; -1 where it was ended, or never ran
	Stderr string // the end of what it wrote to its standard error
	Err    error
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %v", strings.Join(e.Argv, " "), e.Err)
	if e.Stderr != "" {
		s += ": " + e.Stderr
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// A Call is a program to run.
type Call struct {
	Argv  []string // the program and its arguments; a program without a slash is looked for in PATH
	Input []byte   // its standard input
	Env   []string // "KEY=value": more of its environment than this process has
	// Timeout is how long it may run; zero: without limit. When it has run so long, or ctx ends, it
	// is killed with all processes of its group (on Unix; elsewhere alone).
	Timeout time.Duration
	// Keep says which lines of the output, without their newline, Run returns; the others count for
	// no limit. Nil: all.
	Keep func(line []byte) bool
	// Hold is a file that the program has open as its descriptor 3, and so has what it starts, but
	// for what closes it. Nil: none. Not on Windows.
	Hold *os.File
}

// Run runs a program, and returns what it wrote to its standard output. It fails with an *[Error],
// or with context.Cause(ctx) where that is why the program was killed. On Linux the program is
// killed, too, when this process dies; what it has started is not.
func Run(ctx context.Context, c Call) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if c.Timeout > 0 {
		t := time.AfterFunc(c.Timeout, func() { cancel(fmt.Errorf("it was killed: it ran for more than %v", c.Timeout)) })
		defer t.Stop()
	}
	cmd := exec.CommandContext(limited, c.Argv[0], c.Argv[1:]...)
	cmd.Stdin = bytes.NewReader(c.Input)
	if c.Env != nil {
		cmd.Env = append(os.Environ(), c.Env...)
	}
	out := &bounded{keep: c.Keep, over: func(what string, limit int) {
		cancel(fmt.Errorf("it was killed: it wrote %s of more than %d bytes", what, limit))
	}}
	stderr := new(tail)
	cmd.Stdout, cmd.Stderr = out, stderr
	if c.Hold != nil {
		cmd.ExtraFiles = []*os.File{c.Hold}
	}
	cmd.Cancel = func() error { return kill(cmd) }
	cmd.WaitDelay = 5 * time.Second // for pipes that a process of another group holds
	group(cmd)
	runtime.LockOSThread() // the program dies with the thread that has started it
	err := cmd.Run()
	runtime.UnlockOSThread()
	if err == nil {
		err = out.end()
	}
	if err == nil {
		err = context.Cause(limited)
	}
	if err == nil {
		return out.buf.Bytes(), nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	e := &Error{Argv: c.Argv, Exit: -1, Stderr: stderr.String(), Err: err}
	if cause := context.Cause(limited); cause != nil {
		e.Err = cause
	} else if errors.Is(err, exec.ErrWaitDelay) {
		e.Err = errors.New("it ended, but something that it has started holds its standard output or standard error; " +
			"have it close them")
	} else if exit := new(exec.ExitError); errors.As(err, &exit) {
		e.Exit = exit.ExitCode()
	}
	return nil, e
}

// bounded keeps what is written, up to a limit.
type bounded struct {
	keep func(line []byte) bool // nil: all
	over func(what string, limit int)
	buf  bytes.Buffer
	line []byte // that has not ended, where there is a keep
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.keep == nil {
		return len(p), b.add(p)
	}
	for rest := p; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n') + 1
		if end == 0 {
			end = len(rest)
		}
		if b.line = append(b.line, rest[:end]...); len(b.line) > MaxLine {
			b.over("a line", MaxLine)
			return 0, errors.New("too long a line")
		}
		rest = rest[end:]
		if err := b.flush(false); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// flush keeps the line, if it has ended.
func (b *bounded) flush(ended bool) error {
	line, newline := bytes.CutSuffix(b.line, []byte("\n"))
	if len(b.line) == 0 || !newline && !ended {
		return nil
	}
	var err error
	if b.keep(line) {
		err = b.add(b.line)
	}
	b.line = b.line[:0]
	return err
}

// end is called when all was written: the last line may have no newline.
func (b *bounded) end() error {
	if b.keep == nil {
		return nil
	}
	return b.flush(true)
}

func (b *bounded) add(p []byte) error {
	if b.buf.Len()+len(p) > MaxOutput {
		b.over("output", MaxOutput)
		return errors.New("too much output")
	}
	b.buf.Write(p)
	return nil
}

// tail keeps the end of what is written.
type tail struct{ buf []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p[max(0, len(p)-maxStderr):]...)
	t.buf = t.buf[max(0, len(t.buf)-maxStderr):]
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(strings.ToValidUTF8(string(t.buf), "?")) }
