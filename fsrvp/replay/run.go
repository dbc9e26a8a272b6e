package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// Run makes the calls of a recording, and compares the answers with the recorded ones. The
// Exchanges may be in any order; Run does not change them.
//
// # Order
//
// Calls begin in the order of the recording. Each begins when the calls have ended that ended
// before it in the recording. So calls that overlapped overlap again, although with Config.Speed
// zero not necessarily for as long; all later calls wait for a call without a recorded answer. At
// most 64 calls are made at a time.
//
// # Differences
//
// A status that differs is a difference, and so are results where both calls succeeded. Ids must
// differ where they differed, and be the same where they were the same; the same holds for the
// creation times of copies. The replay goes on after differences.
//
// # Other sets
//
// A replay never touches a set that it has not started, not even on the recorded server. If a
// recorded call names another set, either from before the recording or one that could not be
// started now, the call is made with an unused id; a null GUID stays null. But SetContext makes a
// server remove the unfinished set of its client (MS-FSRVP 3.1.4.2).
//
// # Errors
//
// The Report is never nil, and covers all calls made. The error is nil if all calls were answered,
// with whatever answer, and the clean-up succeeded. A call without an answer, a connection that
// cannot be made, or the end of ctx stops the replay: no further call begins, and calls in progress
// are cancelled.
//
// # Clean-up
//
// Then Run removes the remaining sets of the replay: it aborts them or deletes their mappings. (It
// also deletes the mappings of sets that the recording aborted after a commit, since one known
// server keeps them.) If a context was set without a set, or without a set whose id became known,
// Run starts and aborts a set to remove it. Config.CleanUpLimit bounds all of this, not ctx;
// failures are part of the error.
func Run(ctx context.Context, recording []*transcript.Exchange, cfg *Config) (*Report, error) {
	c, err := cfg.withDefaults()
	if err != nil {
		return &Report{}, err
	}
	for i, e := range recording {
		if err := e.Check(); err != nil {
			return &Report{}, fmt.Errorf("replay: call %d %w", i+1, err)
		}
	}
	r := &run{
		Config:      c,
		recording:   recording,
		translation: newTranslation(c.Shares),
		conns:       map[transcript.Connection]*connection{},
		made:        new(made),
		report:      &Report{},
	}
	r.translation.strangers = map[fsrvp.SetID]fsrvp.SetID{}
	begun := time.Now()
	err = r.play(ctx)
	r.report.Elapsed = time.Since(begun)
	if err == nil && c.Keep {
		return r.report, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.CleanUpLimit)
	defer cancel()
	return r.report, errors.Join(err, r.cleanUp(ctx))
}

// maxAtWork is the number of calls that are made at a time.
const maxAtWork = 64

// A run is one call of Run.
type run struct {
	*Config
	recording   []*transcript.Exchange
	translation *translation
	conns       map[transcript.Connection]*connection // of the one goroutine that begins calls
	cancel      context.CancelCauseFunc               // of calls at work

	mu     sync.Mutex // guards the following
	made   *made
	report *Report
	err    error // why it stopped
}

// A connection is today's connection for one Connection of the recording.
type connection struct {
	service fsrvp.Service
	closer  io.Closer      // nil if it must not be closed
	calls   sync.WaitGroup // not yet ended
	left    int            // not yet begun
}

// close waits for the calls, and closes the Service if Dial has made it.
func (c *connection) close() {
	c.calls.Wait()
	if c.closer != nil {
		_ = c.closer.Close() // all its calls are answered, or have returned an error
	}
}

// A pendingCall is a call in progress.
type pendingCall struct {
	end  time.Time // in the recording
	done chan struct{}
}

// play makes all calls and closes all connections.
func (r *run) play(ctx context.Context) error {
	order := byTime(r.recording)
	for _, i := range order {
		conn := r.conns[r.recording[i].Connection]
		if conn == nil {
			conn = new(connection)
			r.conns[r.recording[i].Connection] = conn
		}
		conn.left++
	}
	ctx, r.cancel = context.WithCancelCause(ctx)
	defer r.cancel(nil)
	var atWork []pendingCall
	var closing sync.WaitGroup
	begun := time.Now()
	for _, i := range order {
		e := r.recording[i]
		atWork = waitFor(atWork, e.Time)
		err := r.pace(ctx, begun, e.Time.Sub(r.recording[order[0]].Time))
		if err == nil {
			err = r.stopped()
		}
		if err != nil {
			r.stop(err)
			break
		}
		conn, err := r.connect(ctx, e)
		if err != nil {
			r.stop(fmt.Errorf("replay: call %d (%v): %w", i+1, e.Opnum(), err))
			break
		}
		call := pendingCall{e.End(), make(chan struct{})}
		atWork = append(atWork, call)
		conn.calls.Add(1)
		go func() {
			defer close(call.done)
			defer conn.calls.Done()
			r.call(ctx, conn.service, i)
		}()
		if conn.left--; conn.left == 0 {
			closing.Go(conn.close)
			delete(r.conns, e.Connection)
		}
	}
	for _, conn := range r.conns { // only if the replay has stopped
		closing.Go(conn.close)
	}
	closing.Wait()
	return r.stopped()
}

// byTime returns the indices of a recording in the order in which its calls began.
func byTime(recording []*transcript.Exchange) []int {
	order := make([]int, len(recording))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return recording[a].Time.Compare(recording[b].Time) })
	return order
}

// waitFor waits for the calls that ended, in the recording, before a call that began at began, and
// for any call if there are too many. It returns the rest.
func waitFor(atWork []pendingCall, began time.Time) []pendingCall {
	rest := atWork[:0]
	for _, call := range atWork {
		if call.end.After(began) {
			rest = append(rest, call)
			continue
		}
		<-call.done
	}
	if len(rest) < maxAtWork {
		return rest
	}
	first := 0
	for i := range rest {
		if rest[i].end.Before(rest[first].end) {
			first = i
		}
	}
	<-rest[first].done
	return slices.Delete(rest, first, first+1)
}

// pace waits until a call is due that began this long after the first one.
func (r *run) pace(ctx context.Context, begun time.Time, after time.Duration) error {
	if r.Speed == 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(divide(after, r.Speed) - time.Since(begun))
	defer timer.Stop()
	select {
	case <-timer.C:
		return context.Cause(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stop stops the replay, unless it has stopped already.
func (r *run) stop(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopLocked(err)
}

func (r *run) stopLocked(err error) {
	if r.err == nil {
		r.err = err
		r.cancel(err)
	}
}

func (r *run) stopped() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// connect returns the connection of an Exchange.
func (r *run) connect(ctx context.Context, e *transcript.Exchange) (*connection, error) {
	conn := r.conns[e.Connection]
	if conn.service != nil {
		return conn, nil
	}
	var err error
	conn.service, conn.closer, err = r.dial(ctx, e.Connection)
	return conn, err
}

// dial returns a Service for a Connection, and its Closer.
func (r *run) dial(ctx context.Context, c transcript.Connection) (fsrvp.Service, io.Closer, error) {
	if r.Service != nil {
		return r.Service, nil, nil
	}
	s, err := r.Dial(ctx, c)
	if err == nil && s == nil {
		err = errors.New("no Service came from Dial")
	}
	if err != nil {
		return nil, nil, err
	}
	closer, _ := s.(io.Closer)
	return s, closer, nil
}

// call makes one call and reports its result.
func (r *run) call(ctx context.Context, s fsrvp.Service, i int) {
	e := r.recording[i]
	res := &Result{Index: i, Exchange: e, Time: time.Now()}
	res.Request = scaled(r.translation.request(e.Request), r.TimeoutScale)
	res.Response, res.Err = perform(ctx, s, res.Request)
	res.ResponseTime = time.Now()
	if errors.As(res.Err, &res.Fault) {
		res.Err = nil
	}
	if res.Err == nil && e.Answered() {
		c := comparison{translation: r.translation, index: i, recorded: e}
		c.compare(res.Response, res.Fault)
		for _, d := range c.found {
			if slices.ContainsFunc(r.Tolerate, func(rule Rule) bool { return rule.Tolerates(&d) }) {
				res.Tolerated = append(res.Tolerated, d)
			} else {
				res.Differences = append(res.Differences, d)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made.note(e, res)
	rep := r.report
	switch {
	case res.Err != nil:
		r.stopLocked(fmt.Errorf("replay: call %d (%v): %w", i+1, e.Opnum(), res.Err))
	case !e.Answered():
		rep.Unanswered++
	case len(res.Differences) > 0:
		rep.Different++
	default:
		rep.Same++
	}
	if res.Err == nil {
		rep.Calls++
	}
	rep.Differences = append(rep.Differences, res.Differences...)
	rep.Tolerated += len(res.Tolerated)
	r.OnCall(res)
}
