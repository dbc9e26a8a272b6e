package echoserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/rpctest"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// Client returns this module's client as a target of scripts. Its mechanism has two legs, so that a
// bind_ack ends the exchange.
func Client() *rpctest.ClientTarget {
	toy := &dcerpctest.Mechanism{Legs: 2, Account: "backup"}
	return &rpctest.ClientTarget{
		Interface: Main(),
		Acceptor:  toy.Acceptor(),
		Outcome:   outcome,
		Connect: func(ctx context.Context, conn net.Conn, o rpctest.ClientOptions) (rpctest.ClientConn, error) {
			cfg := &dcerpc.Config{
				Level: o.Level, NoMultiplexing: o.NoMultiplexing, NoFeatures: o.NoFeatures,
				AssociationGroup: o.AssociationGroup,
				MaxFragment:      o.MaxFragment, MaxResponse: o.MaxResponse,
			}
			if o.Level != dcerpc.LevelInsecureNone {
				cfg.Auth, cfg.Target = toy.Initiator(), "host/fs"
			}
			for _, name := range o.Syntaxes {
				for s, n := range syntaxNames {
					if n == name {
						cfg.Syntaxes = append(cfg.Syntaxes, s)
					}
				}
			}
			cc, err := dcerpc.NewClientConn(ctx, conn, Main(), cfg)
			if err != nil {
				return nil, err
			}
			return clientConn{cc}, nil
		},
	}
}

var syntaxNames = map[ndr.Syntax]string{ndr.NDR20: "ndr20", ndr.NDR64: "ndr64", ndr.NDR20BE: "ndr20be"}

// clientConn is a connection of our client.
type clientConn struct{ cc *dcerpc.ClientConn }

const before = "before " // the bytes that a response is appended to

func (c clientConn) Call(ctx context.Context, opnum uint16, stub []byte) (rpctest.ClientResponse, error) {
	call := dcerpc.Call{Opnum: opnum, Syntax: c.cc.Syntax(), Stub: stub, Response: []byte(before)}
	if err := c.cc.Call(ctx, &call); err != nil {
		return rpctest.ClientResponse{}, err
	}
	if len(call.Response) < len(before) || string(call.Response[:len(before)]) != before {
		return rpctest.ClientResponse{}, fmt.Errorf("the response %q is not appended", call.Response)
	}
	return rpctest.ClientResponse{Stub: call.Response[len(before):], Syntax: syntaxNames[call.ResponseSyntax]}, nil
}

func (c clientConn) Property(name string) string {
	switch name {
	case "syntax":
		return syntaxNames[c.cc.Syntax()]
	case "multiplexed":
		if c.cc.Multiplexed() {
			return "yes"
		}
		return "no"
	case "assoc_group_id":
		return fmt.Sprint(c.cc.AssociationGroup())
	case "level":
		return map[dcerpc.AuthLevel]string{
			dcerpc.LevelInsecureNone: "none", dcerpc.LevelInsecureConnect: "connect", dcerpc.LevelPacket: "packet",
			dcerpc.LevelIntegrity: "integrity", dcerpc.LevelPrivacy: "privacy",
		}[c.cc.Level()]
	}
	return ""
}

func (c clientConn) Close() error { return c.cc.Close() }

// outcome returns the meaning of an error of our client.
func outcome(err error) rpctest.Outcome {
	var fault *dcerpc.Fault
	var nak *dcerpc.BindError
	var rejected *dcerpc.RejectedError
	switch {
	case errors.As(err, &fault):
		return rpctest.Outcome{Kind: rpctest.OutcomeFault, Status: fault.Status, DidNotExecute: fault.DidNotExecute}
	case errors.As(err, &nak):
		return rpctest.Outcome{Kind: rpctest.OutcomeNak, Reason: nak.Reason}
	case errors.As(err, &rejected):
		return rpctest.Outcome{Kind: rpctest.OutcomeRejected, Result: rejected.Result, ResultReason: rejected.Reason}
	case errors.Is(err, dcerpc.ErrBadPeer):
		return rpctest.Outcome{Kind: rpctest.OutcomeProtocol}
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed):
		return rpctest.Outcome{Kind: rpctest.OutcomeClosed}
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		return rpctest.Outcome{Kind: rpctest.OutcomeCancelled}
	}
	return rpctest.Outcome{Kind: rpctest.OutcomeKind("another error")}
}
