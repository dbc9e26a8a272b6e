package samba

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// helperScript is what the helper runs; it has to know python3-samba.
//
//go:embed helper.py
var helperScript string

// loader is a Python program that reads the script from the first line of its input.
const loader = `import sys,json;exec(compile(json.loads(sys.stdin.readline()),"helper.py","exec"))`

// maxAnswer bounds a line from the helper, in bytes. The longest has the definitions of a set's
// shares.
const maxAnswer = 16 << 20

// helperStart is how long a helper may take to be ready.
const helperStart = 20 * time.Second

// killWait is how long a helper that was killed may take to end: a call of the system that it is in
// ends first.
const killWait = 30 * time.Second

// How long a helper that has ended is not started again: first, and at most, as a multiple of that.
// One that has served for so long counts as a new one.
const (
	firstDelay = time.Second
	mostDelays = 60
)

// A helper keeps one process running that uses python3-samba's public bindings. It does in a
// millisecond what takes programs a tenth of a second: see helper.py. It serves one call at a time.
type helper struct {
	argv    []string
	timeout time.Duration // of an answer
	log     *slog.Logger
	// As the first process has said: Samba's release, its smb.conf, and its state directory.
	release, conf, stateDir string

	calling chan struct{} // a mutex
	id      uint64        // of the last call; with calling
	ctx     context.Context
	cancel  context.CancelFunc
	ended   chan struct{} // closed when keep returns

	process  atomic.Pointer[helperProcess] // nil: none is ready
	delay    time.Duration                 // before the first start again
	restarts atomic.Uint64
	doubts   atomic.Uint64
}

// A helperProcess is a process that has said that it is ready.
type helperProcess struct {
	cmd    *exec.Cmd
	in     *os.File
	out    *os.File
	lines  *bufio.Reader
	ended  chan struct{} // closed when it is no more
	stderr *tail
}

// errHelper means that a call was not made or that its outcome is in doubt: programs must do its
// work again.
var errHelper = errors.New("the helper did not do it")

// errStuck means that the process of a call cannot be killed: what it was asked to do may still
// happen.
var errStuck = errors.New("samba: the helper hangs and cannot be killed")

// newHelper starts a helper and returns when it is ready, or returns an error if it fails to start.
func newHelper(ctx context.Context, argv []string, timeout, delay time.Duration, log *slog.Logger) (*helper, error) {
	h := &helper{argv: argv, timeout: timeout, log: log, delay: delay, calling: make(chan struct{}, 1),
		ended: make(chan struct{})}
	p, hello, err := h.start(ctx)
	if err != nil {
		return nil, err
	}
	h.release, h.conf, h.stateDir = hello.Version, hello.Conf, hello.StateDir
	log.InfoContext(ctx, "samba: a helper changes the registry's shares", "python", argv[0], "samba", hello.Version,
		"process", p.cmd.Process.Pid)
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.process.Store(p)
	go h.keep(p)
	return h, nil
}

// keep starts a process again that has ended, until close.
func (h *helper) keep(p *helperProcess) {
	defer close(h.ended)
	delay := h.delay
	for {
		begun := time.Now()
		select {
		case <-p.ended:
		case <-h.ctx.Done():
			h.process.Store(nil)
			p.kill()
			<-p.ended
			return
		}
		h.process.CompareAndSwap(p, nil)
		h.log.Warn("samba: the helper has ended; programs do its work until it is started again", "state",
			p.cmd.ProcessState.String(), "said", p.stderr.String())
		if time.Since(begun) > mostDelays*h.delay {
			delay = h.delay
		}
		for {
			select {
			case <-time.After(delay):
			case <-h.ctx.Done():
				return
			}
			delay = min(2*delay, mostDelays*h.delay)
			next, _, err := h.start(h.ctx)
			h.restarts.Add(1)
			if err == nil {
				p = next
				h.process.Store(p)
				h.log.Info("samba: the helper was started again", "process", p.cmd.Process.Pid)
				break
			}
			h.log.Warn("samba: the helper cannot be started again", "err", err)
		}
	}
}

// close ends the process.
func (h *helper) close() {
	h.cancel()
	<-h.ended
}

// start starts a process and waits until it is ready.
func (h *helper) start(ctx context.Context) (p *helperProcess, hello helperHello, err error) {
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, hello, fmt.Errorf("samba: %w", err)
	}
	defer theirIn.Close()
	out, theirOut, err := os.Pipe()
	if err != nil {
		in.Close()
		return nil, hello, fmt.Errorf("samba: %w", err)
	}
	defer theirOut.Close()
	p = &helperProcess{in: in, out: out, lines: bufio.NewReader(out), ended: make(chan struct{}), stderr: &tail{}}
	p.cmd = exec.Command(h.argv[0], h.argv[1:]...)
	p.cmd.Env = programEnv
	p.cmd.Dir = "/"
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = theirIn, theirOut, p.stderr
	p.cmd.WaitDelay = time.Second
	ownGroup(p.cmd)
	if err := p.cmd.Start(); err != nil {
		in.Close()
		out.Close()
		return nil, hello, fmt.Errorf("samba: the helper: %w", err)
	}
	go func() {
		_ = p.cmd.Wait() // ProcessState has it
		in.Close()
		out.Close()
		close(p.ended)
	}()
	script, err := json.Marshal(helperScript)
	if err == nil {
		err = p.exchange(ctx, append(script, '\n'), helperStart, &hello)
		if err == nil && (hello.ID == nil || hello.StateDir == "") {
			err = errors.New("it is not ready")
		}
	}
	if err != nil {
		p.kill()
		<-p.ended
		if said := p.stderr.String(); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return nil, hello, fmt.Errorf("samba: the helper does not start: %w", err)
	}
	return p, hello, nil
}

// A helperHello is the first line of a helper's.
type helperHello struct {
	ID       *uint64 `json:"id"`
	Version  string  `json:"version"`
	Conf     string  `json:"conf"`
	StateDir string  `json:"statedir"`
}

// kill kills the process and all that it has started. It is no more when ended is closed.
func (p *helperProcess) kill() {
	select {
	case <-p.ended: // its id may be another's by now
	default:
		killProcessGroup(p.cmd)
	}
}

// exchange writes a line, and reads one into answer.
func (p *helperProcess) exchange(ctx context.Context, line []byte, wait time.Duration, answer any) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	end := time.Now().Add(wait)
	err := errors.Join(p.in.SetWriteDeadline(end), p.out.SetReadDeadline(end))
	if err != nil {
		return err
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		now := time.Now()
		_ = p.in.SetWriteDeadline(now) // closed files need none
		_ = p.out.SetReadDeadline(now)
	})
	defer func() {
		if !stop() {
			<-stopped // not to cut the next exchange short
		}
	}()
	_, err = p.in.Write(line)
	var got []byte
	if err == nil {
		got, err = readLine(p.lines)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no answer after %v", wait)
	case err != nil:
		return err
	}
	if err := json.Unmarshal(got, answer); err != nil {
		return fmt.Errorf("its answer %.100q: %w", got, err)
	}
	return nil
}

// readLine reads a line of at most maxAnswer bytes.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxAnswer {
			return nil, fmt.Errorf("its answer has more than %d bytes", maxAnswer)
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// A helperRequest is one of the operations of helper.py.
type helperRequest struct {
	ID     uint64        `json:"id"`
	Op     string        `json:"op"`
	Names  []string      `json:"names,omitempty"`
	Delete []string      `json:"delete,omitempty"`
	Shares []helperShare `json:"shares,omitempty"`
	Within float64       `json:"within,omitempty"` // seconds
}

// A helperShare is a registry share.
type helperShare struct {
	Name   string      `json:"name"`
	Params [][2]string `json:"params"`
}

// A helperAnswer is the answer to any of them.
type helperAnswer struct {
	ID     *uint64        `json:"id"`
	Error  string         `json:"error"`
	Shares []*helperShare `json:"shares"`
	There  string         `json:"there"` // a share that was to be made, and is there: nothing was done
	SMBD   int            `json:"smbd"`  // how many processes have dealt with it
}

// call makes the helper do one thing. Every error except errStuck and that of an ended ctx wraps
// errHelper: then the process has ended, or has refused the whole request. If ctx has ended
// meanwhile, it is not known what was done.
func (h *helper) call(ctx context.Context, r helperRequest) (*helperAnswer, error) {
	select {
	case h.calling <- struct{}{}:
		defer func() { <-h.calling }()
	case <-ctx.Done():
		return nil, fmt.Errorf("samba: %w", context.Cause(ctx))
	}
	p := h.process.Load()
	if p == nil {
		return nil, fmt.Errorf("samba: %w: it is not running", errHelper)
	}
	if ctx.Err() != nil { // nothing was begun, and the process stays
		return nil, fmt.Errorf("samba: %w", context.Cause(ctx))
	}
	h.id++
	r.ID = h.id
	line, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("samba: %w: %w", errHelper, err)
	}
	begun := time.Now()
	var a helperAnswer
	wait := h.timeout
	if len(r.Delete) > 0 { // two things in one
		wait *= 2
	}
	err = p.exchange(ctx, append(line, '\n'), wait, &a)
	if err == nil && (a.ID == nil || *a.ID != r.ID) {
		err = errors.New("its answer is to another call")
	}
	if err == nil && a.Error == "" && len(a.Shares) != len(r.Names) && r.Op == "get" {
		err = fmt.Errorf("it answers with %d shares, and was asked for %d", len(a.Shares), len(r.Names))
	}
	h.log.DebugContext(ctx, "asked the helper", "op", r.Op, "names", r.Names, "duration", time.Since(begun), "err", err,
		"refusal", a.Error)
	switch {
	case err == nil && a.Error == "":
		return &a, nil
	case err == nil:
		h.doubts.Add(1)
		return nil, fmt.Errorf("samba: %w: %s: %s", errHelper, r.Op, a.Error)
	}
	h.doubts.Add(1)
	h.process.CompareAndSwap(p, nil)
	p.kill()
	select { // before anybody does the same by other means
	case <-p.ended:
	case <-time.After(killWait):
		return nil, fmt.Errorf("%w: %s: %w", errStuck, r.Op, err)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("samba: %w", context.Cause(ctx))
	}
	return nil, fmt.Errorf("samba: %w: %s: %w", errHelper, r.Op, err)
}

// get returns registry shares as they are defined, and nil for those that do not exist.
func (h *helper) get(ctx context.Context, names ...string) ([]*section, error) {
	a, err := h.call(ctx, helperRequest{Op: "get", Names: names})
	if err != nil {
		return nil, err
	}
	list := make([]*section, len(names))
	for i, s := range a.Shares {
		if s == nil {
			continue
		}
		list[i] = &section{name: s.Name}
		for _, p := range s.Params {
			list[i].params = append(list[i].params, param{p[0], p[1]})
		}
	}
	return list, nil
}

// define makes shares that do not exist, all in one transaction, and reports whether it may have
// made them.
func (h *helper) define(ctx context.Context, list []definition) (begun bool, err error) {
	a, err := h.call(ctx, helperRequest{Op: "define", Shares: helperShares(list)})
	if err == nil && a.There != "" {
		return false, fmt.Errorf("samba: %w: share %q is there", errHelper, a.There)
	}
	return true, err
}

// set sets parameters of shares, all in one transaction.
func (h *helper) set(ctx context.Context, list []definition) error {
	_, err := h.call(ctx, helperRequest{Op: "set", Shares: helperShares(list)})
	return err
}

func helperShares(list []definition) []helperShare {
	shares := make([]helperShare, len(list))
	for i, d := range list {
		shares[i] = helperShare{d.name, [][2]string{}}
		for _, p := range d.params {
			shares[i].Params = append(shares[i].Params, [2]string{p.key, p.value})
		}
	}
	return shares
}

// end makes all processes of smbd read their shares again and disconnect the users of the named
// shares. It returns when they have done so.
func (h *helper) end(ctx context.Context, names ...string) error {
	return h.remove(ctx, nil, names)
}

// remove deletes the shares that exist, all in one transaction, and ends the use of others as end
// does.
func (h *helper) remove(ctx context.Context, shares, used []string) error {
	a, err := h.call(ctx, helperRequest{Op: "end", Delete: shares, Names: used,
		Within: min(2, h.timeout.Seconds()/2)})
	if err == nil && a.SMBD == 0 {
		return errNoSMBD
	}
	return err
}

// errNoSMBD means that the helper of end or remove finds no smbd. Programs may still find
// connections that smbd has left.
var errNoSMBD = errors.New("samba: there is no smbd")

// HelperState is the state of the helper.
type HelperState struct {
	Running  bool   // it changes the registry; else programs do
	Restarts uint64 // times that it was started again, or tried to be
	// operations that were left to programs because it failed, was late, or gave an answer that
	// cannot be
	Doubts uint64
}

// Helper returns the state of the helper process. It is zero if there is no helper.
func (s *Shares) Helper() HelperState {
	if s.helper == nil {
		return HelperState{}
	}
	return HelperState{Running: s.helper.process.Load() != nil, Restarts: s.helper.restarts.Load(),
		Doubts: s.helper.doubts.Load()}
}

// Close ends the helper; programs do the work of later calls. It does not remove exposed shares. It
// returns nil.
func (s *Shares) Close() error {
	if s.helper != nil {
		s.closing.Do(s.helper.close)
	}
	return nil
}

// A tail keeps the end of what was written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(b []byte) (int, error) {
	const most = 4096
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b[max(0, len(b)-most):]...)
	t.text = append(t.text[:0], t.text[max(0, len(t.text)-most):]...)
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return said(strings.ToValidUTF8(string(t.text), "?"))
}
