package dcerpc

import (
	"context"
	"errors"
	"net"
	"os"
	"time"
)

// An interruption makes the Writes of a connection return when a context ends, by a deadline in the
// past. It is reusable, but not safe for concurrent use.
type interruption struct {
	conn  net.Conn
	fire  func()
	fired chan struct{}
}

func newInterruption(conn net.Conn) *interruption {
	i := &interruption{conn: conn, fired: make(chan struct{}, 1)}
	i.fire = func() {
		_ = conn.SetWriteDeadline(time.Unix(1, 0)) // a connection without deadlines cannot be interrupted
		i.fired <- struct{}{}
	}
	return i
}

// watch begins to watch the context. The function stop ends that and clears the deadline.
func (i *interruption) watch(ctx context.Context) (stop func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	unwatch := context.AfterFunc(ctx, i.fire)
	return func() {
		if !unwatch() {
			<-i.fired
			_ = i.conn.SetWriteDeadline(time.Time{})
		}
	}
}

// interrupted reports whether err is the error of a watched Write that the end of the context has
// interrupted.
func interrupted(ctx context.Context, err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil
}
