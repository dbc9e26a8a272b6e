package dcerpc_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A lateConn delivers what is written at once, and returns from Write of a last fragment when it is
// let: as where the peer is faster than the goroutine that answers it.
type lateConn struct {
	net.Conn
	mu   sync.Mutex
	gate chan struct{} // nil: open
}

func (c *lateConn) shut() (open func()) {
	gate := make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gate = gate
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.gate = nil
		close(gate)
	}
}

func (c *lateConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.mu.Lock()
	gate := c.gate
	c.mu.Unlock()
	if gate != nil && pdu.Flags(b[3]).Has(pdu.LastFrag) {
		<-gate
	}
	return n, err
}

// TestAnsweredCallsCountForNothing has a client send its next call as soon as it has the answer to
// the last one. Whatever the limit, the last one is not in its way, however late the server returns
// from writing the answer.
func TestAnsweredCallsCountForNothing(t *testing.T) {
	for name, limits := range map[string]dcerpc.Limits{
		"calls of a connection": {CallsPerConnection: 1},
		"calls of a stranger":   {UnauthenticatedCallsPerConnection: 1},
		"calls of the server":   {Calls: 1},
		"bytes of a stranger":   {UnauthenticatedBytes: 64 * 16 << 10}, // 20 KiB for one connection
	} {
		for what, opnum := range map[string]uint16{"response": opEcho, "fault": opFault} {
			t.Run(name+", "+what, func(t *testing.T) {
				s := new(setup)
				s.echo.waiting = make(chan struct{}, 1)
				s.echo.wait = func(context.Context) error { return nil }
				s.server.Limits = limits
				s.server.Handle(echoInterface(), &s.echo, &dcerpc.InterfaceOptions{Opnums: opCount, MinLevel: dcerpc.LevelInsecureNone})
				client, server := dcerpctest.Pipe()
				late := &lateConn{Conn: server}
				served := make(chan struct{})
				go func() {
					defer close(served)
					s.server.ServeConn(late)
				}()
				defer func() {
					client.Close()
					<-served
				}()
				r := &raw{t: t, setup: s, Peer: dcerpctest.NewPeer(client)}
				r.bound(flags(pdu.ConcMPX))

				open := sync.OnceFunc(late.shut())
				defer open()
				// 12 KB in three fragments.
				send := func(id uint32, opnum uint16) {
					part := string(zeros(4000))
					as := func(p *pdu.Request) { p.Opnum = opnum }
					r.send(fragment(id, pdu.FirstFrag, part, as), fragment(id, 0, part, as), fragment(id, pdu.LastFrag, part, as))
				}
				send(2, opnum)
				if opnum == opFault {
					r.fault(2, 0, pdu.FaultContextMismatch, 0)
				} else {
					for !receive[*pdu.Response](r).Flags.Has(pdu.LastFrag) {
					}
				}
				send(3, opWait)
				select {
				case <-s.echo.waiting:
				case <-time.After(time.Minute):
					t.Error("the second call was refused")
				}
				open()
				require.EqualValues(t, 3, receive[*pdu.Response](r).CallID)
			})
		}
	}
}
