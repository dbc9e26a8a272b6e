package writer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// Guard configures the process that thaws an application if this program cannot, because it has
// died, was killed, or was stopped.
//
// A guard is a separate process that freezes and thaws on behalf of this one. It thaws when the
// pipe between the two breaks, and when the writer's limit is over. If a thaw fails, it goes on
// trying for an hour. If the guard dies, this program thaws.
type Guard struct {
	// Command is a program with arguments that only calls [GuardMain]: usually the program itself
	// ([os.Executable]), with an argument that its main function recognizes.
	Command []string
	// InProcess allows a writer without a Command. Its limit still holds, but if this program is
	// killed or stopped, the application stays frozen.
	InProcess bool
}

func (g *Guard) check(kind string) error {
	if len(g.Command) == 0 && !g.InProcess {
		return fmt.Errorf("writer: %s needs a Guard.Command, a program that calls writer.GuardMain, "+
			"so that nothing stays frozen if this program dies", kind)
	}
	return nil
}

// GuardMain is the main function of a guard ([Guard]). It serves one writer on standard input and
// output, and returns when that writer has ended and nothing is frozen any more. It ignores signals
// that ask it to end, since it is needed most when other programs end.
func GuardMain() error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, ignoredSignals...)
	defer signal.Stop(signals)
	survive()
	if err := os.Chdir("/"); err != nil { // a working directory would keep a mount busy
		return fmt.Errorf("writer: guard: %w", err)
	}
	return serve(os.Stdin, os.Stdout, os.Stderr)
}

const (
	// firstRetry and lastRetry bound the wait between two tries to thaw.
	firstRetry, lastRetry = 50 * time.Millisecond, 5 * time.Second
	// perseverance is the time for which a guard tries to thaw.
	perseverance = time.Hour
	// maxQueued is the number of messages queued for a program that does not read; more are
	// dropped.
	maxQueued = 64
)

// A request is a program's request to its guard, one line of JSON.
type request struct {
	ID   uint64 `json:"id"`
	Op   string `json:"op"`
	Spec *spec  `json:"spec,omitempty"` // with opOpen
}

const (
	opOpen   = "open"
	opFreeze = "freeze"
	opThaw   = "thaw"
)

// A response is a guard's answer, one line of JSON. Several with Trying may come before the final
// one.
type response struct {
	ID      uint64 `json:"id"`
	Err     string `json:"err,omitempty"`
	NotHeld bool   `json:"not_held,omitempty"`
	Trying  bool   `json:"trying,omitempty"` // Err is why the last try to thaw failed; the next follows
}

// A spec describes one writer to a guard. One of the kinds is set.
type spec struct {
	Name       string        `json:"name"`
	Limit      time.Duration `json:"limit"`      // from freeze to thaw
	ThawLimit  time.Duration `json:"thaw_limit"` // of one try
	FSFreeze   *fsFreezeSpec `json:"fsfreeze,omitempty"`
	GuestAgent *agentSpec    `json:"guest_agent,omitempty"`
	Command    *commandSpec  `json:"command,omitempty"`
}

// A holder freezes and thaws one application. One goroutine uses it at a time.
type holder interface {
	// open prepares for the freeze: it makes all checks that are possible before.
	open(ctx context.Context) error
	// freeze may leave something frozen when it fails; thaw then undoes that.
	freeze(ctx context.Context) error
	// thaw undoes what freeze did, and nothing else. If the application is no longer frozen, the
	// error is provider.ErrNotHeld.
	thaw(ctx context.Context) error
	// adopt replaces a freeze that another process has asked for and that may have succeeded.
	adopt()
	close()
}

func (s *spec) holder(output io.Writer) (holder, error) {
	switch {
	case s == nil:
	case s.FSFreeze != nil:
		return newFSFreezer(s.FSFreeze), nil
	case s.GuestAgent != nil:
		return &guestAgent{spec: *s.GuestAgent}, nil
	case s.Command != nil:
		return &programs{spec: *s.Command, output: output}, nil
	}
	return nil, errors.New("writer: guard: no such kind of writer")
}

// A guard serves one writer. Apart from its reader and its two printers it is one goroutine.
type guard struct {
	spec    *spec
	holder  holder
	output  io.Writer // of programs, and the log
	answers *queue

	freezeID     uint64
	freezing     chan error // gets the freeze's error, if one is underway
	cancelFreeze context.CancelCauseFunc
	frozen       bool
	limit        *time.Timer
	lost         error // why the application was thawed without a request
	log          *queue
}

// serve answers requests until the input ends, and then thaws.
func serve(requests io.Reader, answers io.Writer, output io.Writer) error {
	g := &guard{output: output, answers: newQueue(answers), log: newQueue(output), limit: time.NewTimer(time.Hour)}
	g.limit.Stop()
	defer g.answers.close()
	defer g.log.close()
	in := make(chan request)
	done := make(chan struct{})
	defer close(done)
	go func() {
		defer close(in)
		for d := json.NewDecoder(requests); ; {
			var req request
			if d.Decode(&req) != nil { // the program has gone, or sends nonsense
				return
			}
			select {
			case in <- req:
			case <-done:
				return
			}
		}
	}()
	for {
		select {
		case req, ok := <-in:
			if !ok {
				return g.end()
			}
			g.do(req)
		case err := <-g.freezing:
			g.froze(err)
		case <-g.limit.C:
			g.expire()
		}
	}
}

func (g *guard) do(req request) {
	switch {
	case req.Op == opOpen && g.holder == nil:
		g.answer(req.ID, g.open(req.Spec))
	case req.Op == opFreeze && g.holder != nil && g.freezing == nil && !g.frozen:
		g.freeze(req.ID)
	case req.Op == opThaw && g.holder != nil:
		g.stopFreezing(errors.New("a thaw was requested"))
		err := g.thaw(req.ID)
		if err == nil {
			err = g.lost
		}
		g.lost = nil
		g.answer(req.ID, err)
	default:
		g.answer(req.ID, fmt.Errorf("writer: guard: unexpected request %q", req.Op))
	}
}

func (g *guard) open(s *spec) error {
	h, err := s.holder(g.output)
	if err != nil {
		return err
	}
	// The limit bounds this, too; usually the program's is shorter.
	ctx, cancel := context.WithTimeout(context.Background(), s.Limit)
	defer cancel()
	if err := h.open(ctx); err != nil {
		h.close()
		return err
	}
	g.spec, g.holder = s, h
	return nil
}

func (g *guard) freeze(id uint64) {
	ctx, cancel := context.WithCancelCause(context.Background())
	g.freezeID, g.cancelFreeze, g.lost = id, cancel, nil
	g.limit.Reset(g.spec.Limit)
	done := make(chan error, 1)
	g.freezing = done
	go func() {
		err := g.holder.freeze(ctx)
		if err != nil && ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		done <- err
	}()
}

// froze handles the end of a freeze. A failed one is undone before the answer.
func (g *guard) froze(err error) {
	g.cancelFreeze(nil)
	g.freezing, g.frozen = nil, true
	if err != nil {
		if undo := g.thaw(g.freezeID); undo != nil && !errors.Is(undo, provider.ErrNotHeld) {
			err = errors.Join(err, undo)
		}
	}
	g.answer(g.freezeID, err)
}

func (g *guard) stopFreezing(why error) {
	if g.freezing != nil {
		g.cancelFreeze(why)
		err := <-g.freezing
		if err == nil {
			err = why // nobody must think that the application is still frozen
		}
		g.froze(err)
	}
}

// expire handles the end of the limit.
func (g *guard) expire() {
	lost := fmt.Errorf("thawed when the limit of %v was over: %w", g.spec.Limit, provider.ErrNotHeld)
	if g.freezing != nil {
		g.stopFreezing(fmt.Errorf("took longer than the limit of %v", g.spec.Limit))
		return
	}
	if g.frozen {
		err := g.thaw(0)
		g.lost = lost
		g.say("%s: %v", g.spec.Name, errors.Join(lost, err))
	}
}

// end handles the end of the program.
func (g *guard) end() error {
	if g.holder == nil {
		return nil
	}
	held := g.frozen || g.freezing != nil
	g.stopFreezing(errors.New("the program has ended"))
	err := g.thaw(0)
	g.holder.close()
	if held && (err == nil || errors.Is(err, provider.ErrNotHeld)) {
		g.say("%s: thawed, since the program that froze it is gone", g.spec.Name)
		return nil
	}
	return err
}

// thaw thaws, and tries again as long as that fails. Requests wait meanwhile.
func (g *guard) thaw(id uint64) error {
	if !g.frozen {
		return nil
	}
	g.limit.Stop()
	began := time.Now()
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		ctx, cancel := context.WithTimeout(context.Background(), g.spec.ThawLimit)
		err := g.holder.thaw(ctx)
		cancel()
		if err == nil || errors.Is(err, provider.ErrNotHeld) {
			g.frozen = false
			return err
		}
		g.send(response{ID: id, Trying: true, Err: err.Error()})
		g.say("%s: still frozen, the next try is in %v: %v", g.spec.Name, wait, err)
		if time.Since(began) > perseverance {
			return fmt.Errorf("given up after %v: %w", perseverance, err)
		}
		time.Sleep(wait)
	}
}

func (g *guard) answer(id uint64, err error) {
	r := response{ID: id}
	if err != nil {
		r.Err, r.NotHeld = err.Error(), errors.Is(err, provider.ErrNotHeld)
	}
	g.send(r)
}

func (g *guard) send(r response) {
	if b, err := json.Marshal(r); err == nil { // never fails for strings and numbers
		g.answers.put(append(b, '\n'))
	}
}

func (g *guard) say(format string, args ...any) {
	g.log.put(fmt.Appendf(nil, "writer guard: "+format+"\n", args...))
}

// A queue writes to a file that may block for ever, such as a pipe to a stopped program or a log on
// a frozen file system. It drops messages that do not fit.
type queue struct {
	ch   chan []byte
	done chan struct{}
}

func newQueue(w io.Writer) *queue {
	q := &queue{ch: make(chan []byte, maxQueued), done: make(chan struct{})}
	go func() {
		defer close(q.done)
		for b := range q.ch {
			if _, err := w.Write(b); err != nil {
				break
			}
		}
		for range q.ch { // nobody reads any more
		}
	}()
	return q
}

func (q *queue) put(b []byte) {
	select {
	case q.ch <- b:
	default:
	}
}

// close waits a little for queued messages.
func (q *queue) close() {
	close(q.ch)
	select {
	case <-q.done:
	case <-time.After(time.Second):
	}
}
