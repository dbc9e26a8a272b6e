package provider

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// call calls f, and ends its context if the server falls silent.
func (s *server) call(ctx context.Context, r *run, f func(context.Context, Agent) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var probing sync.WaitGroup
	if r.ProbeAfter > 0 {
		probing.Go(func() { s.probe(ctx, r, cancel) })
	}
	err := f(ctx, s.agent)
	silent := context.Cause(ctx)
	cancel(nil)
	probing.Wait()
	s.used = time.Now()
	if err != nil && errors.Is(silent, ErrSilent) {
		err = silent
	}
	s.doubtful = err != nil && !answered(err)
	return err
}

// probe makes a connection to the server now and then until ctx ends, and gives up if it cannot be
// made in time. An attempt that fails at once does not count as silence: the connection of the call
// itself will notice that.
func (s *server) probe(ctx context.Context, r *run, dead context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(r.ProbeAfter):
		}
		probe := &server{name: s.name}
		err := probe.connect(ctx, r)
		probe.drop()
		if errors.Is(err, errNoConnection) && ctx.Err() == nil {
			dead(fmt.Errorf("%w: no answer, and no new connection within %v", ErrSilent, r.ConnectLimit))
			return
		}
	}
}

// errNoConnection means that ConnectLimit ran out.
var errNoConnection = errors.New("does not answer")

// connect dials the agent and checks that both sides support the same version of the protocol,
// within ConnectLimit.
func (s *server) connect(ctx context.Context, r *run) error {
	late := fmt.Errorf("%w: no connection and log-on within %v", errNoConnection, r.ConnectLimit)
	ctx, cancel := context.WithTimeoutCause(ctx, r.ConnectLimit, late)
	defer cancel()
	err := s.dial(ctx, r)
	if err != nil && ctx.Err() != nil && context.Cause(ctx) == late {
		return late
	}
	return err
}

func (s *server) dial(ctx context.Context, r *run) error {
	agent, err := r.Dial(ctx, s.name)
	if err != nil {
		return err
	}
	versions, err := agent.GetSupportedVersion(ctx)
	if err == nil && versions.Min > version {
		err = fmt.Errorf("the server supports versions %d to %d of the protocol, this client %d", versions.Min,
			versions.Max, version)
	}
	if err != nil {
		closeWithin(agent, closeLimit)
		return err
	}
	s.agent, s.used, s.doubtful = agent, time.Now(), false
	s.addr, s.inMemory = addressOf(agent)
	return nil
}

// addressOf returns the server's address if the agent knows it, and reports whether the connection
// is not a network connection, so that the server is in this process.
func addressOf(agent Agent) (_ netip.AddrPort, inMemory bool) {
	var addr net.Addr
	switch a := agent.(type) {
	case interface{ RemoteAddr() net.Addr }:
		addr = a.RemoteAddr()
	case interface{ Conn() *dcerpc.ClientConn }:
		addr = a.Conn().RemoteAddr()
	default:
		return netip.AddrPort{}, false
	}
	if named, ok := addr.(interface{ NetAddr() net.Addr }); ok { // a pipe, which has its connection's address
		addr = named.NetAddr()
	}
	if addr == nil {
		return netip.AddrPort{}, false
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.AddrPort{}, addr.Network() == "pipe"
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), false
}

// closeLimit is the time for closing a connection that may be dead.
const closeLimit = 2 * time.Second

// closeWithin closes the agent, and abandons a Close that takes too long.
func closeWithin(agent Agent, limit time.Duration) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = agent.Close() // the connection is abandoned
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// drop abandons the connection.
func (s *server) drop() {
	if s.agent != nil {
		closeWithin(s.agent, closeLimit)
		s.agent = nil
	}
}

// notice emits an event of the kind Slow now and then until stop.
func (r *run) notice(phase Phase, server string, began time.Time) (stop func()) {
	done := make(chan struct{})
	var noticing sync.WaitGroup
	noticing.Go(func() {
		for wait := r.NoticeAfter; ; wait = time.Since(began) {
			select {
			case <-done:
				return
			case <-time.After(wait):
			}
			r.emit(Event{Phase: phase, Kind: Slow, Server: server, Elapsed: time.Since(began)})
		}
	})
	return func() { close(done); noticing.Wait() }
}
