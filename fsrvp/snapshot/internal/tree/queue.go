package tree

import "sync"

// A queue holds the tasks of a walk, last in, first out, which keeps it short, since the walk goes
// depth first. It ends when there is no task and no running task that might add one, or when it is
// stopped.
type queue[T any] struct {
	mu      sync.Mutex
	more    sync.Cond
	tasks   []T
	working int
	stopped bool
}

func newQueue[T any]() *queue[T] {
	q := new(queue[T])
	q.more.L = &q.mu
	return q
}

func (q *queue[T]) push(t T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tasks = append(q.tasks, t)
	q.more.Signal()
}

// pop waits for a task. After each task the caller must call done.
func (q *queue[T]) pop() (t T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.tasks) == 0 && q.working > 0 && !q.stopped {
		q.more.Wait()
	}
	if len(q.tasks) == 0 || q.stopped {
		return t, false
	}
	last := len(q.tasks) - 1
	t, q.tasks = q.tasks[last], q.tasks[:last]
	q.working++
	return t, true
}

func (q *queue[T]) done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.working--
	if q.working == 0 {
		q.more.Broadcast()
	}
}

// starved reports whether a worker may be waiting for a task.
func (q *queue[T]) starved(workers int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.tasks) < workers
}

func (q *queue[T]) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	q.more.Broadcast()
}
