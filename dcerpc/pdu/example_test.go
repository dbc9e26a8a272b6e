package pdu_test

import (
	"fmt"
	"log"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A bind is written, and read back by a decoder that does not know what comes.
func ExampleParse() {
	fsrvp := pdu.SyntaxID{UUID: uuid.MustParse("a8e0653c-2744-4389-a61d-7373df8b2292"), Major: 1}
	bind := pdu.Bind{
		Header:   pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 1},
		MaxXmit:  5840,
		MaxRecv:  5840,
		Contexts: []pdu.ContextElement{{Abstract: fsrvp, Transfer: []pdu.SyntaxID{pdu.NDR20()}}},
	}
	b, err := bind.AppendBinary(nil)
	if err != nil {
		log.Fatal(err)
	}
	p, err := pdu.Parse(b)
	if err != nil {
		log.Fatal(err)
	}
	switch p := p.(type) {
	case *pdu.Bind:
		fmt.Println(p.Type, p.FragLength, p.Contexts[0].Abstract)
	default:
		fmt.Println("another PDU:", p.Head().Type)
	}
	// Output:
	// bind 72 a8e0653c-2744-4389-a61d-7373df8b2292 v1.0
}

// A stub that does not fit into one fragment is divided, and put together again.
func ExampleFragmenter() {
	f := pdu.Fragmenter{Type: pdu.TypeRequest, CallID: 1, MaxXmit: 1432, Opnum: 8, Stub: make([]byte, 3000)}
	var whole pdu.Reassembler
	for n := 1; f.More(); n++ {
		parts, err := f.Next(nil)
		if err != nil {
			log.Fatal(err)
		}
		request, err := pdu.ParseRequest(parts.PDU)
		if err != nil {
			log.Fatal(err)
		}
		stub, done, err := whole.Add(request.Fragment())
		fmt.Println(n, len(request.Stub), done, len(stub), err)
	}
	// Output:
	// 1 1408 false 0 <nil>
	// 2 1408 false 0 <nil>
	// 3 184 true 3000 <nil>
}
