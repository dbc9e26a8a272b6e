// Package program runs the programs with which some backends take snapshots, with limits for time
// and output, and so that no process is left behind.
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
	// MaxOutput is the largest standard output of a program, in bytes, not counting lines that are
	// not kept.
	MaxOutput = 8 << 20
	// MaxLine is the longest line if a Call says which lines to keep.
	MaxLine   = 64 << 10
	maxStderr = 4 << 10
)

// An Error says how a program failed.
type Error struct {
	Argv   []string
	Exit   int    // its exit status; -1 if it was killed, or never ran
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
	Env   []string // "KEY=value": additions to the environment of this process
	// Timeout is the time that it may run; zero means no limit. After that, or when ctx ends, it is
	// killed, on Unix with all processes of its group.
	Timeout time.Duration
	// Keep says which lines of the output, without their newline, Run returns; the others do not
	// count for the limit. Nil means all.
	Keep func(line []byte) bool
	// Hold is a file that the program, and its children unless they close it, have open as
	// descriptor 3. Nil means none. It does not work on Windows.
	Hold *os.File
}

// Run runs a program, and returns what it wrote to its standard output. It fails with an *[Error],
// or with context.Cause(ctx) if the program was killed because ctx ended. On Linux the program, but
// not its children, is also killed when this process dies.
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
		e.Err = errors.New("it ended, but a process that it started still has its standard output or error open; " +
			"make that process close them")
	} else if exit := new(exec.ExitError); errors.As(err, &exit) {
		e.Exit = exit.ExitCode()
	}
	return nil, e
}

// bounded keeps what is written, up to a limit.
type bounded struct {
	keep func(line []byte) bool // nil means all
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
