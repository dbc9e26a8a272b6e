package sharefs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
)

// A connection is that to a share, which is replaced when it breaks. All FS of one share have the
// same.
type connection struct {
	open func(ctx context.Context) (share, error) // nil: one that breaks is not replaced
	wait time.Duration                            // how long a replacement is tried for

	mu      sync.Mutex
	share   share
	closed  bool
	given   bool     // up: the server did not come back in time
	renewal *renewal // that is underway, or nil
}

// A renewal replaces a share that broke. Err is valid when done is closed.
type renewal struct {
	done   chan struct{}
	cancel context.CancelFunc
	err    error
}

func (c *connection) current() share {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.share
}

// close closes the share, for good, and ends the attempts to replace it.
func (c *connection) close() error {
	c.mu.Lock()
	c.closed = true
	s, r := c.share, c.renewal
	c.mu.Unlock()
	if r != nil {
		r.cancel()
		<-r.done
	}
	return s.Close()
}

// lost reports whether an error came of a broken connection that can be replaced. What the server
// said is no such error.
func (c *connection) lost(s share, err error) bool {
	if err == nil || c.open == nil || c.wait < 0 || s.alive() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closed && !c.given
}

// replace connects again in place of old, unless somebody has; many callers share one attempt. Ctx
// bounds the waiting.
func (c *connection) replace(ctx context.Context, old share) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return net.ErrClosed
	}
	if c.share != old {
		c.mu.Unlock()
		return nil
	}
	r := c.renewal
	if r == nil {
		r = &renewal{done: make(chan struct{})}
		var attempts context.Context
		attempts, r.cancel = context.WithTimeout(context.Background(), c.wait)
		c.renewal = r
		go c.run(attempts, r)
	}
	c.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run makes attempts, with growing pauses.
func (c *connection) run(ctx context.Context, r *renewal) {
	defer r.cancel()
	t, err := c.dial(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(r.done)
	c.renewal = nil
	switch {
	case err != nil:
		r.err = fmt.Errorf("connecting to the share again: %w", err)
		c.given = true
	case c.closed:
		t.Close()
		r.err = net.ErrClosed
	default:
		c.share = t
	}
}

func (c *connection) dial(ctx context.Context) (share, error) {
	const first, most = 100 * time.Millisecond, 5 * time.Second
	for pause := first; ; pause = min(2*pause, most) {
		t, err := c.open(ctx)
		if err == nil {
			return t, nil
		}
		if smb2.StatusOf(err) != 0 { // the server's own answer will not change
			return nil, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// maxReplacements is how often one operation goes on over a new connection.
const maxReplacements = 3

// run does something over the share's connection; when that breaks, again over a new one.
func (f *FS) run(do func(s share) error) error {
	for n := 0; ; n++ {
		t := f.c.current()
		err := do(t)
		if n == maxReplacements || f.ctx.Err() != nil || !f.c.lost(t, err) {
			return err
		}
		if again := f.c.replace(f.ctx, t); again != nil {
			return errors.Join(err, again)
		}
	}
}

// errChanged is why a file cannot be read any more over a new connection.
var errChanged = errors.New("the connection broke, and the file is not the same any more")

// handle returns the open file of the server.
func (f *File) handle() handle {
	h, _ := f.current()
	return h
}

// current returns the open file, and the share that it is open in.
func (f *File) current() (handle, share) {
	f.opened.Lock()
	defer f.opened.Unlock()
	return f.f, f.of
}

// run does something with the open file; when the connection breaks, again with the file opened
// again over a new one. That must be the same: the time of its creation, its size and the time of
// its last change are compared.
func (f *File) run(do func(h handle) error) error {
	for n := 0; ; n++ {
		h, of := f.current()
		err := do(h)
		if n == maxReplacements || f.fsys.ctx.Err() != nil || !f.fsys.c.lost(of, err) {
			return err
		}
		if again := f.reopen(h, of); again != nil {
			return errors.Join(err, again)
		}
	}
}

// reopen opens the file again in place of old, unless somebody has.
func (f *File) reopen(old handle, of share) error {
	if err := f.fsys.c.replace(f.fsys.ctx, of); err != nil {
		return err
	}
	f.opened.Lock()
	defer f.opened.Unlock()
	if f.closed {
		return net.ErrClosed
	}
	if f.f != old {
		return nil
	}
	now := f.fsys.c.current()
	h, err := now.open(f.fsys.ctx, old.Name(), f.options)
	if err != nil {
		return err
	}
	if a, b := old.Info(), h.Info(); a.Created != b.Created || a.EndOfFile != b.EndOfFile || a.Written != b.Written ||
		a.Attributes != b.Attributes {
		h.CloseLater()
		return errChanged
	}
	f.f, f.of = h, now
	return nil
}

// reconnectTime is how long a share that broke is tried to be connected to again.
func (c *Config) reconnectTime() time.Duration { return cmp.Or(c.ReconnectTime, 30*time.Second) }
