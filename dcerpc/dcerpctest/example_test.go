package dcerpctest_test

import (
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A server is shown a bind without presentation contexts, which it must refuse.
func ExamplePeer_Play() {
	client, end := dcerpctest.Pipe()
	srv := new(dcerpc.Server)
	defer srv.Close()
	go srv.ServeConn(end)

	peer := dcerpctest.NewPeer(client)
	defer peer.Close()
	err := peer.Play(dcerpctest.Script{
		dcerpctest.Send(&pdu.Bind{
			Header:  pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 1},
			MaxXmit: 5840,
			MaxRecv: 5840,
		}),
		dcerpctest.Expect(func(nak *pdu.BindNak) error {
			fmt.Println(nak.Reason)
			return nil
		}),
		dcerpctest.ExpectEnd(),
	})
	fmt.Println(err)
	// Output:
	// protocol_version_not_supported
	// <nil>
}
