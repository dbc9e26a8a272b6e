package fsrvptest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A Line is a Service that connects when it is called. If the connection of a call breaks, that
// call fails and is not repeated; the next call connects again.
//
// A case hangs up all Lines of a Target when it ends, so each connection belongs to one case. A
// Line is safe for concurrent use.
type Line struct {
	fsrvp.ServiceFunc // the methods

	dial func(ctx context.Context) (fsrvp.Service, error)

	mu   sync.Mutex
	open fsrvp.Service // nil if not connected
}

// NewLine returns a Line that connects with dial. A Service that is an [io.Closer] is closed when
// the Line hangs up.
func NewLine(dial func(ctx context.Context) (fsrvp.Service, error)) *Line {
	l := &Line{dial: dial}
	l.ServiceFunc = l.call
	return l
}

// HangUp ends the connection, if there is one. The next call connects again.
func (l *Line) HangUp() {
	l.mu.Lock()
	s := l.open
	l.open = nil
	l.mu.Unlock()
	if c, ok := s.(io.Closer); ok {
		_ = c.Close() // the server may have gone
	}
}

// Close hangs up. It returns nil.
func (l *Line) Close() error {
	l.HangUp()
	return nil
}

func (l *Line) call(ctx context.Context, req fsrvp.Message) (fsrvp.Response, error) {
	s, err := l.connect(ctx)
	if err != nil {
		return fsrvp.NewResponse(req.Opnum()), &dialError{err}
	}
	resp, err := fsrvp.Serve(ctx, s, req)
	if unanswered(err) {
		l.HangUp()
	}
	return resp, err
}

func (l *Line) connect(ctx context.Context) (fsrvp.Service, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		s, err := l.dial(ctx)
		if err != nil {
			return nil, err
		}
		l.open = s
	}
	return l.open, nil
}

// A dialError means that a call was not made because the Line could not connect.
type dialError struct{ err error }

func (e *dialError) Error() string { return fmt.Sprintf("connecting: %v", e.err) }

func (e *dialError) Unwrap() error { return e.err }

// unanswered reports whether an error is neither a method's answer nor a fault: the connection
// broke, or nobody waited any more. The method may still have done its work.
func unanswered(err error) bool {
	var status fsrvp.Status
	var fault *dcerpc.Fault
	return err != nil && !errors.As(err, &status) && !errors.As(err, &fault)
}

// hangUp ends the connection of a Service if it is a Line.
func hangUp(s fsrvp.Service) {
	if l, ok := s.(interface{ HangUp() }); ok {
		l.HangUp()
	}
}
