package rpctest_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/echoserver"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/rpctest"
)

// A server of which nothing is known but its port is tested by the management interface, which
// every server has.
func ExampleRunAll() {
	srv := new(dcerpc.Server) // in place of the server under test
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()

	target := &rpctest.Target{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		},
		Profile:    rpctest.Standard,
		Main:       rpctest.Mgmt(),
		Operations: rpctest.MgmtOperations(),
	}
	failed := 0
	for script, res := range rpctest.RunAll(context.Background(), rpctest.Scripts(), target, 4) {
		if res.Verdict == rpctest.Failed {
			failed++
			fmt.Printf("%s\n%s\n", script.Rule, res.Reason)
		}
	}
	fmt.Println(failed, "scripts failed")

	_ = srv.Close()
	<-done
	// Output: 0 scripts failed
}

// A script of one's own, and what is said if the server does otherwise.
func ExampleParse() {
	scripts, err := rpctest.Parse("own.txtar", []byte(`
-- opnum --
rule: C706 12.6.4.9: an opnum out of range: nca_s_op_rng_error
> bind
< bind_ack p_result=acceptance:ndr20
> request opnum=99
< fault status=nca_s_unk_if pfc_flags=*
`))
	if err != nil {
		log.Fatal(err)
	}
	server, err := echoserver.Start(nil, echoserver.Toys()) // in place of the server under test
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	res := scripts[0].Run(context.Background(), server.Target())
	fmt.Println(res.Verdict)
	fmt.Println(res.Err.(*rpctest.Mismatch).What, "is", res.Err.(*rpctest.Mismatch).Got)
	// Output:
	// fail
	// status is nca_s_op_rng_error (0x1c010002)
}

// A client is tested by scripts that play its server.
func ExampleScript_RunClient() {
	client := &rpctest.ClientTarget{
		Interface: rpctest.Mgmt(),
		Connect: func(ctx context.Context, conn net.Conn, o rpctest.ClientOptions) (rpctest.ClientConn, error) {
			cc, err := dcerpc.NewClientConn(ctx, conn, rpctest.Mgmt(), &dcerpc.Config{Level: o.Level})
			if err != nil {
				return nil, err
			}
			return mgmtConn{cc}, nil
		},
		Outcome: func(error) rpctest.Outcome { return rpctest.Outcome{Kind: rpctest.OutcomeBroken} },
	}
	for _, s := range rpctest.ClientScripts() {
		if s.Name == "call/response-of-several-fragments" {
			fmt.Println(s.RunClient(context.Background(), client).Verdict)
		}
	}
	// Output: pass
}

// mgmtConn makes a ClientConn of a connection.
type mgmtConn struct{ *dcerpc.ClientConn }

func (c mgmtConn) Call(ctx context.Context, opnum uint16, stub []byte) (rpctest.ClientResponse, error) {
	call := dcerpc.Call{Opnum: opnum, Syntax: c.Syntax(), Stub: stub}
	err := c.ClientConn.Call(ctx, &call)
	return rpctest.ClientResponse{Stub: call.Response}, err
}

func (c mgmtConn) Property(string) string { return "" }
