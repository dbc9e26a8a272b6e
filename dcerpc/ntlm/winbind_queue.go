package ntlm

import (
	"context"
	"slices"
	"sync"
)

// A logonQueue shares the helper processes among those that wait for one: an address after the
// other, and of one address the newest first. So a peer that has many log-ons waiting slows its own
// down, and not even all of those: the oldest have waited in vain for longest, and their peers may
// have gone.
type logonQueue struct {
	mu      sync.Mutex
	back    *sync.Cond       // a process has come back to a closed queue
	total   int              // processes
	idle    []*helperProcess // nil for one that is not running
	waiting map[string][]chan *helperProcess
	turns   []string // addresses that wait, the next one first
	closed  bool
}

func newLogonQueue(processes int) *logonQueue {
	q := &logonQueue{
		total:   processes,
		idle:    make([]*helperProcess, processes),
		waiting: make(map[string][]chan *helperProcess),
	}
	q.back = sync.NewCond(&q.mu)
	return q
}

// take waits for a process, which may be nil, for one that is not running. It reports whether there
// was one before the end of ctx.
func (q *logonQueue) take(ctx context.Context, from string) (*helperProcess, bool) {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil, false
	}
	if n := len(q.idle); n > 0 {
		// One that runs already is the better choice.
		i := max(0, slices.IndexFunc(q.idle, func(p *helperProcess) bool { return p != nil }))
		p := q.idle[i]
		q.idle = slices.Delete(q.idle, i, i+1)
		q.mu.Unlock()
		return p, true
	}
	mine := make(chan *helperProcess, 1)
	if len(q.waiting[from]) == 0 {
		q.turns = append(q.turns, from)
	}
	q.waiting[from] = append(q.waiting[from], mine)
	q.mu.Unlock()

	select {
	case p := <-mine:
		return p, true
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting[from], mine)
	if i < 0 {
		return <-mine, true // just now
	}
	q.removeLocked(from, i)
	return nil, false
}

// removeLocked takes one that waits out of the queue, and its address where it was the last.
func (q *logonQueue) removeLocked(from string, i int) {
	left := slices.Delete(q.waiting[from], i, i+1)
	if q.waiting[from] = left; len(left) == 0 {
		delete(q.waiting, from)
		q.turns = slices.DeleteFunc(q.turns, func(s string) bool { return s == from })
	}
}

// give hands a process to the next one that waits.
func (q *logonQueue) give(p *helperProcess) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.turns) == 0 || q.closed {
		q.idle = append(q.idle, p)
		q.back.Broadcast()
		return
	}
	from := q.turns[0]
	list := q.waiting[from]
	next := list[len(list)-1]
	q.turns = append(q.turns[1:], from) // its next turn is the last
	q.removeLocked(from, len(list)-1)
	next <- p
}

// close returns all processes, once they have come back.
func (q *logonQueue) close() []*helperProcess {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for len(q.idle) < q.total {
		q.back.Wait()
	}
	return q.idle
}
