package smbpipe

import (
	"context"
	"sync"
	"time"
)

// An opContext is the context of all operations on one open file: go-smb2 takes it when the file is opened, once and for all.
// Closing a file begins with the end of what is pending, and needs a message of its own: so, unlike others, this context
// can be renewed after its end, once nobody uses it.
type opContext struct {
	mu   sync.Mutex
	done chan struct{}
	err  error
}

var _ context.Context = (*opContext)(nil)

func newOpContext() *opContext { return &opContext{done: make(chan struct{})} }

// cancel ends the operations.
func (c *opContext) cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = context.Canceled
		close(c.done)
	}
}

// renew makes it as new.
func (c *opContext) renew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done, c.err = make(chan struct{}), nil
}

func (c *opContext) Deadline() (time.Time, bool) { return time.Time{}, false }

func (c *opContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

func (c *opContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *opContext) Value(any) any { return nil }
