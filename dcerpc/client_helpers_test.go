package dcerpc_test

import (
	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

func insecure(change ...func(*dcerpc.Config)) *dcerpc.Config {
	cfg := &dcerpc.Config{Level: dcerpc.LevelInsecureNone}
	for _, f := range change {
		f(cfg)
	}
	return cfg
}

// ackPDU accepts NDR 2.0 in context 0, and multiplexing.
func ackPDU(change ...func(*pdu.BindAck)) *pdu.BindAck {
	p := &pdu.BindAck{
		Header:     pdu.Header{Flags: both | pdu.ConcMPX, CallID: 1},
		MaxXmit:    5840,
		MaxRecv:    5840,
		AssocGroup: 0x1234,
		Results: []pdu.ContextResult{
			accepted(pdu.NDR20()), rejected(pdu.ProviderRejection, pdu.ProposedTransferSyntaxesUnsupported), rejected(pdu.NegotiateAck, 3),
		},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

// response answers a call on context 0 in one fragment.
func response(callID uint32, stub string, change ...func(*pdu.Response)) *pdu.Response {
	p := &pdu.Response{Header: pdu.Header{Flags: both, CallID: callID}, AllocHint: uint32(len(stub)), Stub: []byte(stub)}
	for _, f := range change {
		f(p)
	}
	return p
}

// accepts is the beginning of a script: a bind that is accepted.
func accepts() dcerpctest.Script {
	return dcerpctest.Script{dcerpctest.Expect[*pdu.Bind](nil), dcerpctest.Send(ackPDU())}
}
