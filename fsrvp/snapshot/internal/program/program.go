// Package program runs the programs that some backends take snapshots by: for a limited time, with
// limited output, and so that nothing of them stays behind.
package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

const (
	// MaxOutput is how many bytes a program may write to its standard output.
	MaxOutput = 8 << 20
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
	// Timeout is how long it may run; zero: without limit. When it has run so long, or ctx ends, it
	// is killed with all processes of its group (on Unix; elsewhere alone).
	Timeout time.Duration
}

// Run runs a program, and returns what it wrote to its standard output. It fails with an *[Error],
// or with context.Cause(ctx) where that is why the program was killed.
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
	out := &bounded{max: MaxOutput, over: func() {
		cancel(fmt.Errorf("it was killed: it wrote more than %d bytes", MaxOutput))
	}}
	stderr := new(tail)
	cmd.Stdout, cmd.Stderr = out, stderr
	cmd.Cancel = func() error { return kill(cmd) }
	cmd.WaitDelay = 5 * time.Second // for pipes that a process of another group holds
	group(cmd)
	err := cmd.Run()
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
	} else if exit := new(exec.ExitError); errors.As(err, &exit) {
		e.Exit = exit.ExitCode()
	}
	return nil, e
}

// bounded keeps what is written, up to a limit.
type bounded struct {
	buf  bytes.Buffer
	max  int
	over func()
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.buf.Len()+len(p) > b.max {
		b.over()
		return 0, errors.New("too much output")
	}
	return b.buf.Write(p)
}

// tail keeps the end of what is written.
type tail struct{ buf []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p[max(0, len(p)-maxStderr):]...)
	t.buf = t.buf[max(0, len(t.buf)-maxStderr):]
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(strings.ToValidUTF8(string(t.buf), "?")) }
