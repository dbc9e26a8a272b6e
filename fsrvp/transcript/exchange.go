package transcript

import (
	"errors"
	"fmt"
	"net"
	"reflect"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// An Exchange is one recorded call and its answer.
type Exchange struct {
	// Time is when the request was sent or came, ResponseTime when the answer came or was sent;
	// zero without one.
	Time, ResponseTime time.Time
	Connection

	Request fsrvp.Message // never nil
	// Response is nil where there was none that could be read, and Fault where RPC answered with no
	// fault. At most one of them is set.
	Response fsrvp.Response
	Fault    *dcerpc.Fault
	// Error says why there is neither, or what a server knew of its E_FAIL; for people.
	Error string
}

// A Connection is what a recording knows of who called whom. What it does not know is empty.
type Connection struct {
	Client, Server string // addresses, "10.99.0.3:57978", or names
	User           string // "backup@FSRVP.TEST", `FSRVP\backup`, "backup"
	Mechanism      string // as dcerpc.Identity has it
	Level          dcerpc.AuthLevel
}

// Host returns the client without its port.
func (c *Connection) Host() string {
	if host, _, err := net.SplitHostPort(c.Client); err == nil {
		return host
	}
	return c.Client
}

// Opnum returns the method.
func (e *Exchange) Opnum() fsrvp.Opnum { return e.Request.Opnum() }

// Succeeded reports whether the method is known to have done its work.
func (e *Exchange) Succeeded() bool { return e.Response != nil && e.Response.Status().IsSuccess() }

// Answered reports whether it is known what the answer was.
func (e *Exchange) Answered() bool { return e.Response != nil || e.Fault != nil }

// End returns when the answer came; of a call without one, when it began: others are not known to
// have waited for it.
func (e *Exchange) End() time.Time {
	if e.ResponseTime.Before(e.Time) {
		return e.Time
	}
	return e.ResponseTime
}

// Check returns what makes an Exchange unfit to be replayed or written.
func (e *Exchange) Check() error {
	switch {
	case e == nil || e.Request == nil:
		return errors.New("has no request")
	case !isRequest(e.Request):
		return fmt.Errorf("has a %T for its request", e.Request)
	case e.Response != nil && e.Response.Opnum() != e.Opnum():
		return fmt.Errorf("has a response of %v to a request of %v", e.Response.Opnum(), e.Opnum())
	case e.Response != nil && e.Fault != nil:
		return errors.New("has both a response and a fault")
	}
	return nil
}

// isRequest tells a request from a response, which is a Message too, and from a type that is not
// the package's.
func isRequest(m fsrvp.Message) bool {
	req := fsrvp.NewRequest(m.Opnum())
	return reflect.TypeOf(m) == reflect.TypeOf(req)
}
