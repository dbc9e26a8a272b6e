package writer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// Command is an application that two programs freeze and thaw. A program fails if its exit status
// is not zero. The output of the programs goes to this program's standard error, and its end also
// into the error.
//
// The thaw program runs whenever the freeze program was started, even if that failed or was killed,
// and may run several times: it must also work if the application is not frozen.
type Command struct {
	// Name is the name of the writer. Empty means the freeze program.
	Name string
	// Freeze and Thaw are programs with their arguments. Either may be nil. A program name without
	// a slash is looked up in PATH when Writer is called.
	Freeze, Thaw []string
	// Env is the environment of both, in the form of [os.Environ]. Nil means this program's.
	Env []string
	// Dir is the working directory of both. Empty means this program's when Writer is called.
	Dir string
	// Limit is the longest time from freeze to thaw; after it the freeze program is killed, with
	// all processes that it has started. Zero means [DefaultLimit].
	Limit time.Duration
	// ThawLimit is the longest time that the thaw program may take; after it the program is killed,
	// and run again. Zero means 30 s.
	ThawLimit time.Duration
	// Guard runs the programs, and thaws if this program cannot.
	Guard Guard
}

type commandSpec struct {
	Freeze []string `json:"freeze,omitempty"`
	Thaw   []string `json:"thaw,omitempty"`
	Env    []string `json:"env,omitempty"`
	Dir    string   `json:"dir"`
}

// Writer returns the writer, which serves one run at a time.
func (c Command) Writer() (provider.Writer, error) {
	if len(c.Freeze) == 0 && len(c.Thaw) == 0 {
		return provider.Writer{}, errors.New("writer: Command has no programs")
	}
	if err := c.Guard.check("Command"); err != nil {
		return provider.Writer{}, err
	}
	s := &commandSpec{Env: slices.Clone(c.Env)}
	if s.Env == nil {
		s.Env = os.Environ()
	}
	var err error
	if s.Dir, err = filepath.Abs(c.Dir); err == nil {
		s.Freeze, err = findProgram(c.Freeze)
	}
	if err == nil {
		s.Thaw, err = findProgram(c.Thaw)
	}
	if err != nil {
		return provider.Writer{}, fmt.Errorf("writer: Command: %w", err)
	}
	name := c.Name
	if name == "" {
		name = strings.Join(append(slices.Clone(c.Freeze), c.Thaw...)[:1], "")
	}
	if c.ThawLimit == 0 {
		c.ThawLimit = 30 * time.Second
	}
	return newKeeper(spec{Name: name, Limit: c.Limit, ThawLimit: c.ThawLimit, Command: s}, c.Guard).writer(), nil
}

// findProgram returns the command with the absolute path of its program.
func findProgram(argv []string) ([]string, error) {
	if len(argv) == 0 {
		return nil, nil
	}
	path, err := exec.LookPath(argv[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, err
	}
	return append([]string{path}, argv[1:]...), nil
}

// programs is Command in a guard.
type programs struct {
	spec   commandSpec
	output io.Writer
	asked  bool
}

func (p *programs) open(context.Context) error { return nil }

func (p *programs) freeze(ctx context.Context) error {
	p.asked = true
	return p.run(ctx, "freeze", p.spec.Freeze)
}

func (p *programs) thaw(ctx context.Context) error {
	if !p.asked {
		return nil
	}
	err := p.run(ctx, "thaw", p.spec.Thaw)
	p.asked = err != nil
	return err
}

func (p *programs) adopt() { p.asked = true }

func (p *programs) close() {}

// maxTail is the length of the output that an error quotes, in bytes.
const maxTail = 1 << 10

func (p *programs) run(ctx context.Context, what string, argv []string) error {
	if len(argv) == 0 {
		return nil
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	out := &tail{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env, cmd.Dir = p.spec.Env, p.spec.Dir
	cmd.WaitDelay = time.Second // its children may keep its output open
	grouped(cmd)
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	text := out.String()
	if text != "" {
		// Not directly to standard error: a program that freezes the file system of the log would
		// never end.
		select {
		case <-printed(p.output, text):
		case <-time.After(100 * time.Millisecond):
		}
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("killed: %w", context.Cause(ctx))
	}
	if text = strings.TrimSpace(text); text != "" {
		return fmt.Errorf("the %s program %s: %w; it printed %q", what, argv[0], err, text)
	}
	return fmt.Errorf("the %s program %s: %w", what, argv[0], err)
}

// printed prints text, and closes the channel when it is done.
func printed(w io.Writer, text string) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.WriteString(w, text) // the error contains it, too
	}()
	return done
}

// A tail keeps the last bytes written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(b)
	t.b = append(t.b, b[max(0, n-maxTail):]...)
	t.b = bytes.Clone(t.b[max(0, len(t.b)-maxTail):])
	return n, nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
