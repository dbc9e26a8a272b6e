package writer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// A keeper is the program's side of a writer that a guard serves.
type keeper struct {
	spec  spec
	guard Guard

	mu      sync.Mutex
	link    *link // nil between runs
	asked   bool  // a freeze was sent on link
	last    *link // the last one that ended; its guard may still be ending
	refused int   // runs that Prepare has refused, whose Abort is still to come
}

// newKeeper fills in the defaults: 60 s for the limit, 10 s for one try to thaw.
func newKeeper(s spec, g Guard) *keeper {
	if s.Limit == 0 {
		s.Limit = DefaultLimit
	}
	if s.ThawLimit == 0 {
		s.ThawLimit = 10 * time.Second
	}
	return &keeper{spec: s, guard: g}
}

func (k *keeper) writer() provider.Writer {
	return provider.Writer{
		Name:    k.spec.Name,
		Prepare: func(ctx context.Context, _ []string) error { return k.prepare(ctx) },
		Freeze:  k.freeze,
		Thaw:    k.thaw,
		PostSnapshot: func(ctx context.Context, _ *provider.Set) error {
			k.wait(ctx) // not in Thaw, since others wait for that
			return nil
		},
		Abort:   func(ctx context.Context, _ error) error { return k.abort(ctx) },
		Timeout: max(k.spec.Limit, 3*k.spec.ThawLimit) + 5*time.Second,
	}
}

// prepare starts the guard and makes it open the writer.
func (k *keeper) prepare(ctx context.Context) error {
	k.mu.Lock()
	if k.link != nil {
		k.refused++
		k.mu.Unlock()
		return errors.New("the writer is in use by another run")
	}
	l, err := startLink(&k.guard)
	if err != nil {
		k.mu.Unlock()
		return err
	}
	k.link, k.asked = l, false
	k.mu.Unlock()
	_, err = l.call(ctx, request{Op: opOpen, Spec: &k.spec}, 0)
	return err
}

// current returns the link of the run, and whether a freeze was sent on it.
func (k *keeper) current() (*link, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.link, k.asked
}

func (k *keeper) freeze(ctx context.Context) error {
	l, _ := k.current()
	if l == nil {
		if err := k.prepare(ctx); err != nil {
			return err
		}
		l, _ = k.current()
	}
	k.mu.Lock()
	k.asked = true
	k.mu.Unlock()
	_, err := l.call(ctx, request{Op: opFreeze}, 0)
	return err
}

// thaw returns when the application is thawed, or when ctx ends; the guard then goes on trying.
func (k *keeper) thaw(ctx context.Context) error {
	l, asked := k.current()
	if l == nil {
		return nil
	}
	if !asked { // Prepare failed
		k.end(l)
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok { // a provider does not wait for errors at the end of its context
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-min(time.Second, time.Until(deadline)/10)))
		defer cancel()
	}
	r, err := l.call(ctx, request{Op: opThaw}, k.spec.ThawLimit+5*time.Second)
	switch {
	case errors.Is(err, errGuardGone) || errors.Is(err, errGuardSilent):
		l.kill()
		err = k.thawHere(ctx)
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("%w; %s goes on trying", err, l.name())
	}
	if err == nil || r.NotHeld {
		k.end(l)
	}
	return err
}

// thawHere thaws without the guard, which has died.
func (k *keeper) thawHere(ctx context.Context) error {
	h, err := k.spec.holder(os.Stderr)
	if err != nil {
		return err
	}
	defer h.close()
	h.adopt()
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		err := thawOnce(ctx, h, k.spec.ThawLimit)
		if err == nil || errors.Is(err, provider.ErrNotHeld) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(wait):
		}
	}
}

func thawOnce(ctx context.Context, h holder, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return h.thaw(ctx)
}

// abort ends the guard, which thaws the application if it may still be frozen.
func (k *keeper) abort(ctx context.Context) error {
	k.mu.Lock()
	if k.refused > 0 {
		k.refused--
		k.mu.Unlock()
		return nil
	}
	l := k.link
	k.mu.Unlock()
	if l != nil {
		k.end(l)
	}
	k.wait(ctx)
	return nil
}

// wait waits until the guard of the last run has ended. An idle guard ends at once; wait does not
// wait for a guard that must still thaw.
func (k *keeper) wait(ctx context.Context) {
	k.mu.Lock()
	l := k.last
	k.mu.Unlock()
	if l == nil {
		return
	}
	select {
	case <-l.gone:
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
}

func (k *keeper) end(l *link) {
	l.close()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.link == l {
		k.link, k.last = nil, l
	}
}

var (
	errGuardGone   = errors.New("the guard has ended")
	errGuardSilent = errors.New("the guard does not answer")
)

// A link is a running guard.
type link struct {
	requests io.WriteCloser
	process  *os.Process   // nil if it is in this process
	gone     chan struct{} // closed when the guard has ended

	mu      sync.Mutex
	lastID  uint64
	waiting map[uint64]chan response
}

func startLink(g *Guard) (*link, error) {
	l := &link{gone: make(chan struct{}), waiting: make(map[uint64]chan response)}
	if len(g.Command) == 0 {
		fromUs, toGuard, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		fromGuard, toUs, err := os.Pipe()
		if err != nil {
			return nil, errors.Join(err, fromUs.Close(), toGuard.Close())
		}
		l.requests = toGuard
		go func() {
			_ = serve(fromUs, toUs, os.Stderr) // it has logged its error
			fromUs.Close()
			toUs.Close()
		}()
		go func() {
			l.read(fromGuard)
			fromGuard.Close()
			close(l.gone)
		}()
		return l, nil
	}
	cmd := exec.Command(g.Command[0], g.Command[1:]...)
	cmd.Stderr = os.Stderr
	detach(cmd)
	requests, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	answers, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	l.requests, l.process = requests, cmd.Process
	go func() {
		l.read(answers)
		_ = cmd.Wait() // its log has its error
		close(l.gone)
	}()
	return l, nil
}

// read passes answers to the waiting calls until the input ends.
func (l *link) read(answers io.Reader) {
	for d := json.NewDecoder(answers); ; {
		var r response
		if d.Decode(&r) != nil {
			return
		}
		l.mu.Lock()
		if ch := l.waiting[r.ID]; ch != nil {
			select {
			case ch <- r:
			default: // this report of a try may be dropped
			}
		}
		l.mu.Unlock()
	}
}

// call sends a request and waits for its answer. If silence is positive, it gives up after that
// time without a response.
func (l *link) call(ctx context.Context, req request, silence time.Duration) (response, error) {
	answers := make(chan response, maxQueued)
	l.mu.Lock()
	l.lastID++
	req.ID = l.lastID
	l.waiting[req.ID] = answers
	b, err := json.Marshal(req)
	if err == nil {
		_, err = l.requests.Write(append(b, '\n'))
	}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.waiting, req.ID)
	}()
	if err != nil {
		return response{}, fmt.Errorf("%w: %w", errGuardGone, err)
	}
	var silent <-chan time.Time
	var last error
	for {
		if silence > 0 {
			silent = time.After(silence)
		}
		select {
		case r := <-answers:
			switch {
			case r.Trying:
				last = errors.New(r.Err)
			case r.NotHeld:
				return r, &guardError{text: r.Err, is: provider.ErrNotHeld}
			case r.Err != "":
				return r, &guardError{text: r.Err}
			default:
				return r, nil
			}
		case <-l.gone:
			return response{}, errGuardGone
		case <-silent:
			return response{}, errGuardSilent
		case <-ctx.Done():
			if last != nil {
				return response{}, errors.Join(context.Cause(ctx), last)
			}
			return response{}, context.Cause(ctx)
		}
	}
}

// close lets the guard end. It may be called several times.
func (l *link) close() { l.requests.Close() }

func (l *link) kill() {
	l.close()
	if l.process != nil {
		l.process.Kill()
	}
}

func (l *link) name() string {
	if l.process == nil {
		return "a goroutine of this process"
	}
	return fmt.Sprintf("the guard, process %d,", l.process.Pid)
}

// A guardError is an error that came from a guard as text.
type guardError struct {
	text string
	is   error
}

func (e *guardError) Error() string { return e.text }

func (e *guardError) Unwrap() error { return e.is }
