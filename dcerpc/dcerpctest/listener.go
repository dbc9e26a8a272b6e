package dcerpctest

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
)

// A Listener is a [net.Listener] of in-memory connections, and the [dcerpc.Dialer] for them.
type Listener struct {
	addr   Addr
	conns  chan *Conn
	closed chan struct{}
	once   sync.Once
	dialed atomic.Uint64
}

// Listen returns a new listener.
func Listen() *Listener {
	return &Listener{addr: "server", conns: make(chan *Conn), closed: make(chan struct{})}
}

// Accept waits for a Dial. It returns [net.ErrClosed] once the listener is closed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends calls of Accept and Dial; connections stay open.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr returns "server".
func (l *Listener) Addr() net.Addr { return l.addr }

// Dial returns the client's end of a new connection once the listener has accepted it. Each client
// gets a new address, "client-1" and so on.
func (l *Listener) Dial(ctx context.Context) (*Conn, error) {
	return l.DialFrom(ctx, Addr(fmt.Sprintf("client-%d", l.dialed.Add(1))))
}

// DialFrom is Dial from a given address, for tests of limits per address.
func (l *Listener) DialFrom(ctx context.Context, from Addr) (*Conn, error) {
	client, server := Pipe()
	client.local, client.remote = from, l.addr
	server.local, server.remote = l.addr, from
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// DialRPC is Dial for any server and endpoint.
func (l *Listener) DialRPC(ctx context.Context, _, _ string) (net.Conn, error) {
	c, err := l.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return c, nil
}
