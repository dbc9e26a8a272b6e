package dcerpc_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
)

// benchStub is about the size of an FSRVP request.
const benchStub = 160

// benchClient serves echo over loopback TCP and returns a client.
func benchClient(b *testing.B, mech *dcerpctest.Mechanism) *dcerpc.ClientConn {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	srv := &dcerpc.Server{MinLevel: dcerpc.LevelInsecureNone, Limits: dcerpc.Limits{CallsPerConnection: -1}}
	cfg := &dcerpc.Config{Level: dcerpc.LevelInsecureNone}
	if mech != nil {
		srv.Acceptors = []dcerpc.Acceptor{mech.Acceptor()}
		cfg = &dcerpc.Config{Auth: mech.Initiator()}
	}
	srv.Handle(echoInterface(), &echo{}, nil)
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(b, err)
	cc, err := dcerpc.NewClientConn(b.Context(), conn, echoInterface(), cfg)
	require.NoError(b, err)
	b.Cleanup(func() {
		require.NoError(b, cc.Close())
		require.NoError(b, srv.Close())
		<-done
	})
	return cc
}

// bareEcho returns a function that sends msg over loopback TCP and waits until it has come back:
// what the transport itself costs.
func bareEcho(b *testing.B) func(msg []byte) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	var done sync.WaitGroup
	done.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buf := make([]byte, 8192)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			if _, err := conn.Write(buf[:n]); err != nil {
				return
			}
		}
	})
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(b, err)
	b.Cleanup(func() {
		conn.Close()
		l.Close()
		done.Wait()
	})
	return func(msg []byte) error {
		if _, err := conn.Write(msg); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, msg)
		return err
	}
}

// BenchmarkBesideEcho makes an unauthenticated call and a bare echo of the same bytes in turn, so
// that both see the same machine, and compares their medians.
func BenchmarkBesideEcho(b *testing.B) {
	echo, cc := bareEcho(b), benchClient(b, nil)
	msg := make([]byte, 24+benchStub)
	stub := make([]byte, benchStub)
	response := make([]byte, 0, 512)
	var echoes, calls []time.Duration
	for b.Loop() {
		start := time.Now()
		if err := echo(msg); err != nil {
			b.Fatal(err)
		}
		between := time.Now()
		call := dcerpc.Call{Opnum: opEcho, Syntax: cc.Syntax(), Stub: stub, Response: response}
		if err := cc.Call(context.Background(), &call); err != nil {
			b.Fatal(err)
		}
		echoes, calls = append(echoes, between.Sub(start)), append(calls, time.Since(between))
	}
	slices.Sort(echoes)
	slices.Sort(calls)
	e, c := echoes[len(echoes)/2], calls[len(calls)/2]
	b.ReportMetric(float64(e.Nanoseconds()), "ns/echo")
	b.ReportMetric(float64(c.Nanoseconds()), "ns/call")
	b.ReportMetric(float64(c)/float64(e), "ratio")
}

// BenchmarkCall is one call after the other. Allocations are those of both sides.
func BenchmarkCall(b *testing.B) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, bench := range []struct {
		name string
		ctx  context.Context
		mech *dcerpctest.Mechanism
	}{
		{"unauthenticated", context.Background(), nil},
		{"cancellable", ctx, nil},
		{"sealed", context.Background(), &dcerpctest.Mechanism{}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			cc := benchClient(b, bench.mech)
			stub := make([]byte, benchStub)
			response := make([]byte, 0, 512)
			b.ReportAllocs()
			for b.Loop() {
				call := dcerpc.Call{Opnum: opEcho, Syntax: cc.Syntax(), Stub: stub, Response: response}
				if err := cc.Call(bench.ctx, &call); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCallers is how many calls per second go through one connection.
func BenchmarkCallers(b *testing.B) {
	for _, callers := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			cc := benchClient(b, nil)
			var wg sync.WaitGroup
			work := make(chan struct{}, 1024)
			for range callers {
				wg.Go(func() {
					stub := make([]byte, benchStub)
					response := make([]byte, 0, 512)
					for range work {
						call := dcerpc.Call{Opnum: opEcho, Syntax: cc.Syntax(), Stub: stub, Response: response}
						if err := cc.Call(context.Background(), &call); err != nil {
							b.Error(err)
						}
					}
				})
			}
			b.ResetTimer()
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
		})
	}
}
