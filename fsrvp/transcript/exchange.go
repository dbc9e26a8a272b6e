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
	// Time is when the request was sent or arrived, ResponseTime when the answer arrived or was
	// sent; zero without an answer.
	Time, ResponseTime time.Time
	Connection

	Request fsrvp.Message // never nil
	// Response is nil if there was no readable response, and Fault is nil if RPC did not answer
	// with a fault. At most one of them is set.
	Response fsrvp.Response
	Fault    *dcerpc.Fault
	// Error says, for people, why both are nil, or the server's reason for an E_FAIL.
	Error string
}

// A Connection says who called whom. Unknown fields are empty.
type Connection struct {
	Client, Server string // addresses, "10.99.0.3:57978", or names
	User           string // "backup@FSRVP.TEST", `FSRVP\backup`, "backup"
	Mechanism      string // as in dcerpc.Identity
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

// Succeeded reports whether the method is known to have succeeded.
func (e *Exchange) Succeeded() bool { return e.Response != nil && e.Response.Status().IsSuccess() }

// Answered reports whether the answer is known.
func (e *Exchange) Answered() bool { return e.Response != nil || e.Fault != nil }

// End returns the time of the answer, or of the request if there is no answer, since other calls
// are not known to have waited for it.
func (e *Exchange) End() time.Time {
	if e.ResponseTime.Before(e.Time) {
		return e.Time
	}
	return e.ResponseTime
}

// Check returns an error if the Exchange cannot be replayed or written.
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

// isRequest reports whether m is a request of package fsrvp, rather than a response or a foreign
// type.
func isRequest(m fsrvp.Message) bool {
	req := fsrvp.NewRequest(m.Opnum())
	return reflect.TypeOf(m) == reflect.TypeOf(req)
}
