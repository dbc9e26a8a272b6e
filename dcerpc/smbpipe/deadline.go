package smbpipe

import (
	"sync"
	"time"
)

// A deadline is the read or write deadline of a net.Conn.
type deadline struct {
	mu     sync.Mutex
	timer  *time.Timer
	passed chan struct{} // closed when the deadline has passed
}

func newDeadline() deadline { return deadline{passed: make(chan struct{})} }

// set moves the deadline, also for goroutines that are waiting; the zero time means never.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.passed // the timer's function is about to close it, or has done so
	}
	d.timer = nil
	select {
	case <-d.passed:
		if t.IsZero() || time.Until(t) > 0 {
			d.passed = make(chan struct{})
		}
	default:
	}
	if t.IsZero() {
		return
	}
	if wait := time.Until(t); wait > 0 {
		passed := d.passed
		d.timer = time.AfterFunc(wait, func() { close(passed) })
		return
	}
	select {
	case <-d.passed:
	default:
		close(d.passed)
	}
}

// wait returns a channel that is closed when the deadline passes. It is valid until set is called.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passed
}
