package ntlm

import (
	"context"
	"slices"
	"sync"
)

// A logonQueue shares the helper processes among the waiting log-ons: addresses take turns, and the
// newest log-on of an address goes first. So a peer with many log-ons delays only its own, and
// mostly the oldest, whose peers may have gone.
type logonQueue struct {
	mu      sync.Mutex
	back    *sync.Cond       // a process was returned to a closed queue
	total   int              // processes
	idle    []*helperProcess // nil for one that is not running
	waiting map[string][]chan *helperProcess
	turns   []string // waiting addresses, the next one first
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

// take waits for a process, and reports whether it got one before the end of ctx. A nil process
// means one that is not running.
func (q *logonQueue) take(ctx context.Context, from string) (*helperProcess, bool) {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil, false
	}
	if n := len(q.idle); n > 0 {
		// Prefer one that is already running.
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

// removeLocked removes a waiting log-on from the queue, and its address if that has no other.
func (q *logonQueue) removeLocked(from string, i int) {
	left := slices.Delete(q.waiting[from], i, i+1)
	if q.waiting[from] = left; len(left) == 0 {
		delete(q.waiting, from)
		q.turns = slices.DeleteFunc(q.turns, func(s string) bool { return s == from })
	}
}

// give hands a process to the next waiting log-on.
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
	q.turns = append(q.turns[1:], from) // it goes to the end of the turns
	q.removeLocked(from, len(list)-1)
	next <- p
}

// close waits until all processes have been returned, and returns them.
func (q *logonQueue) close() []*helperProcess {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for len(q.idle) < q.total {
		q.back.Wait()
	}
	return q.idle
}
