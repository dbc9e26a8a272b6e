package dcerpc_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
)

// A counted mechanism has contexts that are to be closed.
type counted struct {
	dcerpctest.Mechanism
	opened, closed atomic.Int64
	twice          atomic.Bool
}

type countedContext struct {
	dcerpc.Context
	m    *counted
	once atomic.Bool
}

func (c *countedContext) Close() error {
	if c.once.Swap(true) {
		c.m.twice.Store(true)
	}
	c.m.closed.Add(1)
	return nil
}

func (m *counted) wrap(c dcerpc.Context, err error) (dcerpc.Context, error) {
	m.opened.Add(1)
	return &countedContext{Context: c, m: m}, err
}

type (
	countedInitiator struct{ m *counted }
	countedAcceptor  struct{ m *counted }
)

func (i countedInitiator) AuthType() dcerpc.AuthType { return i.m.Initiator().AuthType() }
func (a countedAcceptor) AuthType() dcerpc.AuthType  { return a.m.Acceptor().AuthType() }

func (i countedInitiator) NewContext(target string, level dcerpc.AuthLevel) (dcerpc.Context, error) {
	return i.m.wrap(i.m.Initiator().NewContext(target, level))
}

func (a countedAcceptor) NewContext(level dcerpc.AuthLevel) (dcerpc.Context, error) {
	return a.m.wrap(a.m.Acceptor().NewContext(level))
}

// TestContextsAreReleased: both sides close every security context once, however it ends.
func TestContextsAreReleased(t *testing.T) {
	for _, refuse := range []int{0, 1, 3} {
		m := &counted{Mechanism: dcerpctest.Mechanism{Refuse: refuse}}
		srv := echoServer(&m.Mechanism, &echo{})
		srv.Acceptors = []dcerpc.Acceptor{countedAcceptor{m}}
		l := serve(t, srv)
		cfg := &dcerpc.Config{Auth: countedInitiator{m}}
		conn, err := l.Dial(t.Context())
		require.NoError(t, err)
		cc, err := dcerpc.NewClientConn(t.Context(), conn, echoInterface(), cfg)
		if refuse == 1 {
			require.Error(t, err)
		} else {
			require.NoError(t, err)
			if refuse == 0 {
				_, err = cc.Alter(t.Context(), echoInterface(), cfg)
				require.NoError(t, err)
				require.EqualValues(t, 4, m.opened.Load())
				require.Zero(t, m.closed.Load(), "closed while the connection is in use")
			}
			cc.Close()
			_, err = cc.Alter(t.Context(), echoInterface(), cfg)
			require.Error(t, err)
		}
		require.Eventually(t, func() bool { return m.opened.Load() == m.closed.Load() }, time.Minute, time.Millisecond,
			"refused at leg %d: %d opened, %d closed", refuse, m.opened.Load(), m.closed.Load())
		require.GreaterOrEqual(t, m.opened.Load(), int64(2))
		require.False(t, m.twice.Load(), "closed twice")
	}
}
