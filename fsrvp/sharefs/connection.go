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

// A connection is the connection to a share, which is replaced when it breaks. All FS of one share
// use the same one.
type connection struct {
	open func(ctx context.Context) (share, error) // nil if a broken one is not replaced
	wait time.Duration                            // the time for making a replacement

	mu      sync.Mutex
	share   share
	closed  bool
	given   bool     // given up: the server did not come back in time
	renewal *renewal // in progress, or nil
}

// A renewal replaces a broken share. Its err is valid once done is closed.
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

// close closes the share for good, and stops attempts to replace it.
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

// lost reports whether an error is due to a broken connection that can be replaced. A server's
// answer is not such an error.
func (c *connection) lost(s share, err error) bool {
	if err == nil || c.open == nil || c.wait < 0 || s.alive() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closed && !c.given
}

// replace connects again in place of old, unless that was already done; callers share one attempt.
// The context bounds only the waiting.
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

// maxReplacements is the number of times that one operation continues over a new connection.
const maxReplacements = 3

// run calls do with the share; if the connection breaks, it calls do again with a new one.
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

// errChanged means that a file cannot be read further over a new connection.
var errChanged = errors.New("the connection broke, and the file has changed since")

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

// run calls do with the open file; if the connection breaks, it opens the file again over a new
// one, and calls do again. The file must not have changed: run compares its creation time, size and
// time of last change.
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

// reopen opens the file again in place of old, unless that was already done.
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

// reconnectTime returns the time for connecting again to a broken share.
func (c *Config) reconnectTime() time.Duration { return cmp.Or(c.ReconnectTime, 30*time.Second) }
