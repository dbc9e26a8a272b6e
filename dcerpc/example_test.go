package dcerpc_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// adder serves an interface with one operation, which adds two numbers:
//
//	unsigned long Add([in] unsigned long a, [in] unsigned long b);
type adder struct{}

func (adder) ServeRPC(_ context.Context, call *dcerpc.Call) error {
	if call.Opnum != 0 {
		return dcerpc.ErrOpnumRange
	}
	d := ndr.NewDecoder(call.Stub, call.Syntax)
	a, b := d.Uint32(), d.Uint32()
	if err := d.Err(); err != nil {
		return err // RPC_X_BAD_STUB_DATA
	}
	e := ndr.NewEncoder(call.Response, call.ResponseSyntax)
	e.Uint32(a + b)
	var err error
	call.Response, err = e.Bytes()
	return err
}

// A server on a TCP port of loopback, and a client. Both have to say that they want no security.
func Example() {
	iface := dcerpc.SyntaxID{UUID: uuid.MustParse("5ca1ab1e-0000-4000-8000-00805f9b34fb"), Major: 1}

	srv := &dcerpc.Server{}
	srv.Handle(iface, adder{}, &dcerpc.InterfaceOptions{MinLevel: dcerpc.LevelInsecureNone})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- srv.Serve(l) }()

	ctx := context.Background()
	var dialer dcerpc.TCPDialer
	_, port, _ := net.SplitHostPort(l.Addr().String())
	conn, err := dialer.DialRPC(ctx, "127.0.0.1", port)
	if err != nil {
		log.Fatal(err)
	}
	cc, err := dcerpc.NewClientConn(ctx, conn, iface, &dcerpc.Config{Level: dcerpc.LevelInsecureNone})
	if err != nil {
		log.Fatal(err)
	}
	e := ndr.NewEncoder(nil, cc.Syntax())
	e.Uint32(40)
	e.Uint32(2)
	stub, err := e.Bytes()
	if err != nil {
		log.Fatal(err)
	}
	call := dcerpc.Call{Opnum: 0, Syntax: cc.Syntax(), Stub: stub}
	if err := cc.Call(ctx, &call); err != nil {
		log.Fatal(err)
	}
	d := ndr.NewDecoder(call.Response, call.ResponseSyntax)
	fmt.Println(d.Uint32())

	call = dcerpc.Call{Opnum: 1, Syntax: cc.Syntax()}
	fmt.Println(cc.Call(ctx, &call))

	_ = cc.Close()
	_ = srv.Shutdown(ctx)
	fmt.Println(<-served)
	// Output:
	// 42
	// dcerpc: fault, call not executed: nca_s_op_rng_error
	// dcerpc: server closed: use of closed network connection
}
