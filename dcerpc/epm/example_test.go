package epm_test

import (
	"context"
	"fmt"
	"log"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/epm"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// An endpoint mapper, usually on TCP port 135, tells clients the port of an interface.
func Example() {
	fsrvp := dcerpc.SyntaxID{UUID: uuid.MustParse("a8e0653c-2744-4389-a61d-7373df8b2292"), Major: 1}
	mapper := &epm.Mapper{Entries: []epm.Entry{{Interface: fsrvp, Port: 49200, Annotation: "File Server VSS Agent"}}}
	srv := new(dcerpc.Server)
	defer srv.Close()
	srv.Handle(epm.Interface(), mapper, &dcerpc.InterfaceOptions{MinLevel: dcerpc.LevelInsecureNone})
	l := dcerpctest.Listen() // in place of net.Listen("tcp", ":135")
	go srv.Serve(l)

	ctx := context.Background()
	conn, err := l.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	cc, err := dcerpc.NewClientConn(ctx, conn, epm.Interface(), &dcerpc.Config{Level: dcerpc.LevelInsecureNone})
	if err != nil {
		log.Fatal(err)
	}
	defer cc.Close()

	// ept_lookup of all entries: no object, no interface, any version, a new handle, ten at most.
	e := ndr.NewEncoder(nil, cc.Syntax())
	e.Uint32(0)
	e.Pointer(false)
	e.Pointer(false)
	e.Uint32(1)
	e.Raw(make([]byte, 20))
	e.Uint32(10)
	stub, err := e.Bytes()
	if err != nil {
		log.Fatal(err)
	}
	call := dcerpc.Call{Opnum: 2, Syntax: cc.Syntax(), Stub: stub}
	if err := cc.Call(ctx, &call); err != nil {
		log.Fatal(err)
	}
	d := ndr.NewDecoder(call.Response, call.ResponseSyntax)
	d.Raw(20) // the handle
	fmt.Println(d.Uint32(), "entry")
	// Output:
	// 1 entry
}
