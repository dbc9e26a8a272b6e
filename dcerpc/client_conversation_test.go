package dcerpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A clientConversation is a row of the table of scripted servers against the client. Call ids are those that
// the client gives: 1 to the bind, then up.
type clientConversation struct {
	rule   string
	script dcerpctest.Script
	client func(*testing.T, net.Conn)
}

// plays runs the rows of a table, each in a bubble of its own, so that time passes only while everybody waits. The
// script has to be through when the client's part is.
func plays(t *testing.T, table []clientConversation) {
	for _, row := range table {
		t.Run(strings.ReplaceAll(row.rule, "/", "|"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := dcerpctest.Pipe()
				done := make(chan error)
				go func() {
					defer server.Close()
					done <- dcerpctest.NewPeer(server).Play(row.script)
				}()
				row.client(t, client)
				require.NoError(t, <-done, "the script")
			})
		})
	}
}

func insecure(change ...func(*dcerpc.Config)) *dcerpc.Config {
	cfg := &dcerpc.Config{Level: dcerpc.LevelInsecureNone}
	for _, f := range change {
		f(cfg)
	}
	return cfg
}

// connect binds to the echo interface.
func connect(t *testing.T, conn net.Conn, cfg *dcerpc.Config) *dcerpc.ClientConn {
	t.Helper()
	cc, err := dcerpc.NewClientConn(t.Context(), conn, echoInterface(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { cc.Close() })
	return cc
}

// fails binds and wants an error.
func fails(cfg *dcerpc.Config, want error) func(*testing.T, net.Conn) {
	return func(t *testing.T, conn net.Conn) {
		cc, err := dcerpc.NewClientConn(t.Context(), conn, echoInterface(), cfg)
		require.Nil(t, cc)
		require.ErrorIs(t, err, want)
		_, err = conn.Write([]byte{0})
		require.ErrorIs(t, err, net.ErrClosed, "the connection is closed")
	}
}

// calls makes a call and wants its result.
func calls(want string) func(*testing.T, net.Conn) {
	return func(t *testing.T, conn net.Conn) {
		got, err := invoke(t.Context(), connect(t, conn, insecure()), opEcho, []byte("ping"))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

// breaks makes a call and wants an error that breaks the connection.
func breaks(want error) func(*testing.T, net.Conn) {
	return func(t *testing.T, conn net.Conn) {
		cc := connect(t, conn, insecure(func(c *dcerpc.Config) { c.MaxResponse = 100 }))
		_, err := invoke(t.Context(), cc, opEcho, []byte("ping"))
		require.ErrorIs(t, err, want)
		_, err = invoke(t.Context(), cc, opEcho, []byte("ping"))
		require.ErrorIs(t, err, want, "from then on")
	}
}

// expectBind is the step that receives a bind; check may be nil.
func expectBind(check func(*pdu.Bind) error) dcerpctest.Step { return dcerpctest.Expect(check) }

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

// accepts is the beginning of a script: a bind that is accepted.
func accepts(change ...func(*pdu.BindAck)) dcerpctest.Script {
	return dcerpctest.Script{expectBind(nil), dcerpctest.Send(ackPDU(change...))}
}

func script(parts ...any) (s dcerpctest.Script) {
	for _, p := range parts {
		switch p := p.(type) {
		case dcerpctest.Script:
			s = append(s, p...)
		case dcerpctest.Step:
			s = append(s, p)
		case pdu.PDU:
			s = append(s, dcerpctest.Send(p))
		}
	}
	return s
}

// answers is a script that accepts a bind, receives a request and sends PDUs.
func answers(p ...pdu.PDU) dcerpctest.Script {
	return script(accepts(), dcerpctest.Expect[*pdu.Request](nil), dcerpctest.Send(p...))
}

// response answers a call on context 0 in one fragment.
func response(callID uint32, stub string, change ...func(*pdu.Response)) *pdu.Response {
	p := &pdu.Response{Header: pdu.Header{Flags: both, CallID: callID}, AllocHint: uint32(len(stub)), Stub: []byte(stub)}
	for _, f := range change {
		f(p)
	}
	return p
}

func part(f pdu.Flags) func(*pdu.Response) {
	return func(p *pdu.Response) { p.Flags = f }
}

func equal[T any](what string, got, want T) error {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("%s is %v, want %v", what, got, want)
	}
	return nil
}

func TestClientBind(t *testing.T) {
	results := func(r ...pdu.ContextResult) func(*pdu.BindAck) {
		return func(p *pdu.BindAck) { p.Results = r }
	}
	unsupported := rejected(pdu.ProviderRejection, pdu.ProposedTransferSyntaxesUnsupported)
	mech := &dcerpctest.Mechanism{Legs: 2}
	secure := &dcerpc.Config{Auth: mech.Initiator(), Target: "host/fs"}
	trailer := func(a pdu.Auth) func(*pdu.BindAck) {
		return func(p *pdu.BindAck) { p.Auth = a }
	}
	speaks := func(cfg *dcerpc.Config, want ndr.Syntax) func(*testing.T, net.Conn) {
		return func(t *testing.T, conn net.Conn) { require.Equal(t, want, connect(t, conn, cfg).Syntax()) }
	}
	plays(t, []clientConversation{
		{"MS-RPCE 3.3.1.5.3: contexts of NDR 2.0, NDR64 and features, one syntax each, as Windows offers them",
			script(expectBind(func(p *pdu.Bind) error {
				return errors.Join(
					equal("flags", p.Flags, both|pdu.ConcMPX), equal("call id", p.CallID, 1), equal("group", p.AssocGroup, 0),
					equal("xmit", p.MaxXmit, 5840), equal("recv", p.MaxRecv, 5840), equal("token", p.AuthLength, 0),
					equal("contexts", p.Contexts, []pdu.ContextElement{
						element(0, echoInterface()), element(1, echoInterface(), pdu.NDR64()), element(2, echoInterface(), pdu.FeatureSyntax(3)),
					}))
			}), ackPDU()), speaks(insecure(), ndr.NDR20)},
		{"MS-RPCE 3.3.1.5.6: NDR64 where the server accepts it",
			accepts(results(unsupported, accepted(pdu.NDR64()), unsupported)), speaks(insecure(), ndr.NDR64)},
		{"MS-RPCE 3.3.1.5.6: NDR64 where the server accepts both",
			accepts(results(accepted(pdu.NDR20()), accepted(pdu.NDR64()), unsupported)), speaks(insecure(), ndr.NDR64)},
		{"C706 12.6.3.1: requests name the context that was accepted",
			script(accepts(results(unsupported, accepted(pdu.NDR64()), unsupported)), dcerpctest.Expect(func(p *pdu.Request) error {
				return equal("context", p.ContextID, 1)
			}), response(2, "pong", func(p *pdu.Response) { p.ContextID = 1 })), calls("pong")},
		{"one syntax alone is forced: NDR64",
			script(expectBind(func(p *pdu.Bind) error {
				return equal("contexts", p.Contexts[:1], []pdu.ContextElement{element(0, echoInterface(), pdu.NDR64())})
			}), ackPDU(results(accepted(pdu.NDR64()), unsupported))),
			speaks(insecure(func(c *dcerpc.Config) { c.Syntaxes = []ndr.Syntax{ndr.NDR64} }), ndr.NDR64)},
		{"C706 14.1: a big-endian client",
			script(expectBind(func(p *pdu.Bind) error { return equal("data representation", p.DataRep, pdu.BigEndian) }),
				ackPDU(results(accepted(pdu.NDR20()), unsupported)),
				dcerpctest.Expect(func(p *pdu.Request) error { return equal("data representation", p.DataRep, pdu.BigEndian) }),
				response(2, "\x01\x02\x03\x04")),
			func(t *testing.T, conn net.Conn) {
				cc := connect(t, conn, insecure(func(c *dcerpc.Config) { c.Syntaxes = []ndr.Syntax{ndr.NDR20BE} }))
				call := dcerpc.Call{Opnum: opNDR, Syntax: ndr.NDR20BE, Stub: []byte{4, 3, 2, 1}}
				require.NoError(t, cc.Call(t.Context(), &call))
				require.Equal(t, ndr.NDR20, call.ResponseSyntax)
			}},
		{"multiplexing and features are only asked for where they are wanted; the association group is joined",
			script(expectBind(func(p *pdu.Bind) error {
				return errors.Join(equal("flags", p.Flags, both), equal("contexts", len(p.Contexts), 2),
					equal("group", p.AssocGroup, 0x77), equal("xmit", p.MaxXmit, 4280))
			}), ackPDU(func(p *pdu.BindAck) { p.Flags, p.AssocGroup = both, 0x77 })),
			func(t *testing.T, conn net.Conn) {
				cc := connect(t, conn, insecure(func(c *dcerpc.Config) {
					c.NoMultiplexing, c.NoFeatures, c.AssociationGroup, c.MaxFragment = true, true, 0x77, 4280
				}))
				require.EqualValues(t, 0x77, cc.AssociationGroup())
				require.False(t, cc.Multiplexed())
			}},
		{"C706 12.6.4.5: a bind_nak", script(expectBind(nil), func() pdu.PDU {
			p := pdu.NewBindNak(1, pdu.NakAuthTypeNotRecognized)
			return &p
		}()), func(t *testing.T, conn net.Conn) {
			_, err := dcerpc.NewClientConn(t.Context(), conn, echoInterface(), insecure())
			var refused *dcerpc.BindError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, pdu.NakAuthTypeNotRecognized, refused.Reason)
			require.ErrorContains(t, err, "authentication_type_not_recognized")
		}},
		{"C706 12.6.3.1: an interface that is rejected", accepts(results(
			rejected(pdu.ProviderRejection, pdu.AbstractSyntaxNotSupported), unsupported, unsupported)), func(t *testing.T, conn net.Conn) {
			_, err := dcerpc.NewClientConn(t.Context(), conn, echoInterface(), insecure())
			var rejected *dcerpc.RejectedError
			require.ErrorAs(t, err, &rejected)
			require.Equal(t, dcerpc.RejectedError{Interface: echoInterface(), Result: 2, Reason: 1}, *rejected)
			require.ErrorContains(t, err, "abstract_syntax_not_supported")
		}},
		{"C706 12.6.4.7: a fault in answer to a bind",
			script(expectBind(nil), &pdu.Fault{Header: pdu.Header{Flags: both, CallID: 1}, Status: pdu.FaultAccessDenied}),
			fails(insecure(), dcerpc.ErrAccessDenied)},
		{"C706 12.6.4.4: fewer results than contexts", accepts(results(accepted(pdu.NDR20()))), fails(insecure(), dcerpc.ErrBadPeer)},
		{"C706 12.6.3.1: a syntax that was not offered", accepts(results(accepted(pdu.NDR64()), unsupported, unsupported)),
			fails(insecure(), dcerpc.ErrBadPeer)},
		{"C706 12.6.3: fragments below MustRecvFragSize", accepts(func(p *pdu.BindAck) { p.MaxRecv = 1431 }), fails(insecure(), dcerpc.ErrBadPeer)},
		{"C706 12.6.4.10: a response in answer to a bind", script(expectBind(nil), response(1, "")), fails(insecure(), dcerpc.ErrBadPeer)},
		{"C706 12.6.4.2: an alter_context_resp in answer to a bind",
			script(expectBind(nil), (*pdu.AlterContextResp)(ackPDU())), fails(insecure(), dcerpc.ErrBadPeer)},
		{"C706 12.6.4: an answer to a bind with another call id", script(expectBind(nil), ackPDU(func(p *pdu.BindAck) { p.CallID = 2 })),
			fails(insecure(), dcerpc.ErrBadPeer)},
		{"C706 12.6.3.1: an answer of another version",
			script(expectBind(nil), dcerpctest.SendBytes([]byte{4, 0, 12, 3, 16, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0})), fails(insecure(), dcerpc.ErrBadPeer)},
		{"C706 12.6.3.1: an answer of less than a header",
			script(expectBind(nil), dcerpctest.SendBytes([]byte{5, 0, 12, 3, 16, 0, 0, 0, 15, 0, 0, 0, 1, 0, 0, 0})), fails(insecure(), dcerpc.ErrBadPeer)},
		{"C706 12.6.4.4: an answer that ends before its body",
			script(expectBind(nil), dcerpctest.SendBytes([]byte{5, 0, 12, 3, 16, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4})), fails(insecure(), dcerpc.ErrBadPeer)},
		{"a server that goes away instead of an answer", script(expectBind(nil), dcerpctest.Hangup()), fails(insecure(), io.ErrUnexpectedEOF)},
		{"a server that goes away in the middle of an answer", script(expectBind(nil), dcerpctest.SendBytes([]byte{5, 0, 12, 3, 16}), dcerpctest.Hangup()),
			fails(insecure(), io.ErrUnexpectedEOF)},
		{"MS-RPCE 3.3.1.5.4: with security, header signing is offered and the first token sent",
			script(expectBind(func(p *pdu.Bind) error {
				return errors.Join(equal("flags", p.Flags, both|pdu.ConcMPX|pdu.SupportHeaderSign),
					equal("type", p.Auth.Type, 10), equal("level", p.Auth.Level, 6), equal("context", p.Auth.ContextID, 1),
					equal("token", string(p.Auth.Token), `TOY 1/2 6 "" "host/fs"`), equal("padding", p.Auth.PadLength, 0))
			}), ackPDU(trailer(pdu.Auth{Type: 10, Level: 6, ContextID: 1, Token: []byte(`TOY 2/2 6 "" ""`)}))),
			func(t *testing.T, conn net.Conn) {
				require.Equal(t, dcerpc.LevelPrivacy, connect(t, conn, secure).Level())
			}},
		{"MS-RPCE 3.3.1.5.4: an answer without a token", accepts(), fails(secure, dcerpc.ErrBadPeer)},
		{"MS-RPCE 3.3.1.5.4: an answer at a lower level", accepts(trailer(pdu.Auth{Type: 10, Level: 5, ContextID: 1, Token: []byte("x")})), fails(secure, dcerpc.ErrBadPeer)},
		{"MS-RPCE 3.3.1.5.4: an answer of another mechanism", accepts(trailer(pdu.Auth{Type: 9, Level: 6, ContextID: 1, Token: []byte("x")})), fails(secure, dcerpc.ErrBadPeer)},
		{"MS-RPCE 3.3.1.5.4: an answer for another context", accepts(trailer(pdu.Auth{Type: 10, Level: 6, ContextID: 2, Token: []byte("x")})), fails(secure, dcerpc.ErrBadPeer)},
	})
}

func TestClientCalls(t *testing.T) {
	fault := func(status pdu.FaultStatus, f pdu.Flags) *pdu.Fault {
		return &pdu.Fault{Header: pdu.Header{Flags: both | f, CallID: 2}, AllocHint: 32, Status: status}
	}
	ping := func(callID uint32) dcerpctest.Step {
		return dcerpctest.Expect(func(p *pdu.Request) error { return equal("call id", p.CallID, callID) })
	}
	plays(t, []clientConversation{
		{"C706 12.6.4.9: a request of one fragment", script(accepts(), dcerpctest.Expect(func(p *pdu.Request) error {
			return errors.Join(equal("flags", p.Flags, both), equal("call id", p.CallID, 2), equal("context", p.ContextID, 0),
				equal("opnum", p.Opnum, opEcho), equal("stub", string(p.Stub), "ping"), equal("alloc_hint", p.AllocHint, 4), equal("token", p.AuthLength, 0))
		}), response(2, "pong")), calls("pong")},
		{"C706 12.6.4.10: a response of several fragments", answers(
			response(2, "po", part(pdu.FirstFrag)), response(2, "", part(0)), response(2, "n", part(0)), response(2, "g", part(pdu.LastFrag))), calls("pong")},
		{"C706 12.6.4.10: Windows answers with 8 bits of the context id; cancel_count and reserved do not matter", answers(
			response(2, "pong", func(p *pdu.Response) { p.ContextID, p.CancelCount, p.Reserved = 0x100, 1, 1 })), calls("pong")},
		{"C706 14.1: a response may be big-endian", answers(response(2, "pong", func(p *pdu.Response) { p.DataRep = pdu.BigEndian })),
			func(t *testing.T, conn net.Conn) {
				cc := connect(t, conn, insecure())
				call := dcerpc.Call{Syntax: cc.Syntax(), Response: []byte("before ")}
				require.NoError(t, cc.Call(t.Context(), &call))
				require.Equal(t, "before pong", string(call.Response), "appended")
				require.Equal(t, ndr.NDR20BE, call.ResponseSyntax)
			}},
		{"C706 12.6.4.7: a fault ends its call alone", script(accepts(), ping(2), fault(pdu.FaultOpRange, dne), ping(3), response(3, "pong")),
			func(t *testing.T, conn net.Conn) {
				cc := connect(t, conn, insecure())
				_, err := invoke(t.Context(), cc, opEcho, nil)
				var f *dcerpc.Fault
				require.ErrorAs(t, err, &f)
				require.Equal(t, dcerpc.Fault{Status: pdu.FaultOpRange, DidNotExecute: true}, *f)
				require.ErrorIs(t, err, dcerpc.ErrOpnumRange)
				require.NotErrorIs(t, err, dcerpc.ErrAccessDenied)
				_, err = invoke(t.Context(), cc, opEcho, nil)
				require.NoError(t, err)
			}},
		{"C706 12.6.4.7: a fault after the first fragment of a response", answers(response(2, "po", part(pdu.FirstFrag)), fault(pdu.FaultUnspec, 0)),
			func(t *testing.T, conn net.Conn) {
				_, err := invoke(t.Context(), connect(t, conn, insecure()), opEcho, nil)
				require.ErrorIs(t, err, dcerpc.ErrUnspecified)
			}},
		{"C706 12.6.4.7: extended error information in a fault is ignored", answers(&pdu.Fault{
			Header: pdu.Header{Flags: both, CallID: 2}, FaultFlags: 1, Status: pdu.FaultAccessDenied, Stub: []byte("extended"),
		}), func(t *testing.T, conn net.Conn) {
			_, err := invoke(t.Context(), connect(t, conn, insecure()), opEcho, nil)
			require.ErrorIs(t, err, dcerpc.ErrAccessDenied)
		}},

		// What breaks the connection.
		{"C706 12.6.4.10: a response that begins in the middle", answers(response(2, "x", part(pdu.LastFrag))), breaks(dcerpc.ErrBadPeer)},
		{"C706 12.6.4.10: a response that begins twice", answers(response(2, "x", part(pdu.FirstFrag)), response(2, "x", part(pdu.FirstFrag))), breaks(dcerpc.ErrBadPeer)},
		{"C706 12.6.4.10: a response on another context", answers(response(2, "x", func(p *pdu.Response) { p.ContextID = 1 })), breaks(dcerpc.ErrBadPeer)},
		{"C706 12.6.3.1: a response that changes its data representation",
			answers(response(2, "x", part(pdu.FirstFrag)), response(2, "x", part(pdu.LastFrag), func(p *pdu.Response) { p.DataRep = pdu.BigEndian })), breaks(dcerpc.ErrBadPeer)},
		{"C706 12.6.3.1: a response to a call that there never was", answers(response(3, "x")), breaks(dcerpc.ErrBadPeer)},
		{"C706 12.6.3.1: a response to call 0", answers(response(0, "x")), breaks(dcerpc.ErrBadPeer)},
		{"C706 12.6.3.1: a fault for a call that there never was", answers(&pdu.Fault{Header: pdu.Header{Flags: both, CallID: 9}}), breaks(dcerpc.ErrBadPeer)},
		{"C706 12.6.4.2: an alter_context_resp in answer to a request",
			answers((*pdu.AlterContextResp)(ackPDU(func(p *pdu.BindAck) { p.CallID = 2 }))), breaks(dcerpc.ErrBadPeer)},
		{"MS-RPCE 3.3.1.5.2: a trailer that was not agreed",
			answers(response(2, "x", func(p *pdu.Response) { p.Auth = pdu.Auth{Type: 10, Level: 6, Token: zeros(16)} })), breaks(dcerpc.ErrBadPeer)},
		{"C706 13.2.6.1: auth padding that is longer than the stub",
			answers(response(2, "x", func(p *pdu.Response) {
				p.Auth = pdu.Auth{Type: 10, Level: 6, Token: zeros(16), PadLength: 9, Padding: zeros(3)}
			})), breaks(dcerpc.ErrBadPeer)},
		{"C706 12.6.4: a request sent to a client", answers(request(2, 0, nil)), breaks(dcerpc.ErrBadPeer)},
		{"C706 12.6.4: an unknown ptype", answers(&pdu.Raw{Header: pdu.Header{Major: 5, Type: 99, FragLength: 16, CallID: 2}}), breaks(dcerpc.ErrBadPeer)},
		{"C706 12.6.4.10: a response that ends before its body",
			answers(&pdu.Raw{Header: pdu.Header{Major: 5, Type: pdu.TypeResponse, FragLength: 16, CallID: 2}}), breaks(dcerpc.ErrBadPeer)},
		{"a response of more than Config.MaxResponse", answers(response(2, strings.Repeat("x", 99), part(pdu.FirstFrag)), response(2, "xy", part(pdu.LastFrag))),
			breaks(dcerpc.ErrBadPeer)},
		{"a server that goes away instead of an answer", script(answers(), dcerpctest.Hangup()), breaks(io.ErrUnexpectedEOF)},
		{"a server that goes away in the middle of a PDU", script(answers(), dcerpctest.SendBytes([]byte{5, 0, 2, 3}), dcerpctest.Hangup()), breaks(io.ErrUnexpectedEOF)},
		{"a connection that is reset", script(answers(), dcerpctest.Step(func(p *dcerpctest.Peer) error {
			p.Conn.(*dcerpctest.Conn).Reset()
			return nil
		})), breaks(io.ErrUnexpectedEOF)},

		// Several calls.
		{"C706 12.6.3.1: with multiplexing a request does not wait for the last answer; answers come in any order",
			script(accepts(), ping(2), ping(3), response(3, "three"), response(2, "two")), func(t *testing.T, conn net.Conn) {
				cc := connect(t, conn, insecure())
				require.True(t, cc.Multiplexed())
				var two []byte
				done := make(chan error)
				go func() {
					var err error
					two, err = invoke(t.Context(), cc, opEcho, nil)
					done <- err
				}()
				three, err := invoke(t.Context(), cc, opEcho, nil)
				require.NoError(t, err)
				require.NoError(t, <-done)
				require.Equal(t, []string{"three", "two"}, sorted(string(two), string(three)))
			}},
		{"C706 12.6.2: fragments of several responses may alternate", script(accepts(), ping(2), ping(3),
			response(3, "th", part(pdu.FirstFrag)), response(2, "t", part(pdu.FirstFrag)), response(3, "ree", part(pdu.LastFrag)), response(2, "wo", part(pdu.LastFrag))),
			func(t *testing.T, conn net.Conn) {
				cc := connect(t, conn, insecure())
				got := make(chan string)
				for range 2 {
					go func() {
						b, _ := invoke(t.Context(), cc, opEcho, nil)
						got <- string(b)
					}()
				}
				require.Equal(t, []string{"three", "two"}, sorted(<-got, <-got))
			}},
		{"C706 12.6.3.1: without multiplexing a request waits for the last answer", script(accepts(func(p *pdu.BindAck) { p.Flags = both }),
			ping(2), dcerpctest.ExpectNothing(time.Second), response(2, "pong"), ping(3), response(3, "pong")),
			func(t *testing.T, conn net.Conn) {
				cc := connect(t, conn, insecure())
				done := make(chan error)
				for range 2 {
					go func() {
						_, err := invoke(t.Context(), cc, opEcho, nil)
						done <- err
					}()
				}
				require.NoError(t, <-done)
				require.NoError(t, <-done)
			}},
		{"C706 12.6.4.11: after shutdown the calls underway end, and no new ones begin", script(accepts(), ping(2),
			&pdu.Shutdown{Header: pdu.Header{Flags: both, CallID: 2}}, response(2, "pong"), dcerpctest.ExpectEnd()),
			func(t *testing.T, conn net.Conn) {
				cc := connect(t, conn, insecure())
				got, err := invoke(t.Context(), cc, opEcho, nil)
				require.NoError(t, err)
				require.Equal(t, "pong", string(got))
				_, err = invoke(t.Context(), cc, opEcho, nil)
				require.ErrorIs(t, err, net.ErrClosed)
				require.NoError(t, cc.Close())
			}},
		{"C706 12.6.4.9: a long request in fragments of the negotiated size; alloc_hint is what is left",
			script(accepts(func(p *pdu.BindAck) { p.MaxRecv = 2048 }),
				fragmentOf(2024&^15, 5000, pdu.FirstFrag), fragmentOf(2024&^15, 5000-2016, 0), fragmentOf(5000-2*2016, 5000-2*2016, pdu.LastFrag),
				response(2, "pong")), func(t *testing.T, conn net.Conn) {
				got, err := invoke(t.Context(), connect(t, conn, insecure()), opEcho, zeros(5000))
				require.NoError(t, err)
				require.Equal(t, "pong", string(got))
			}},

		// Cancellation.
		{"C706 9.3: a cancelled call ends at once; the server gets co_cancel and orphaned, its late answer is dropped",
			script(accepts(), ping(2), dcerpctest.Expect(func(p *pdu.CoCancel) error { return equal("call id", p.CallID, 2) }),
				dcerpctest.Expect(func(p *pdu.Orphaned) error { return equal("call id", p.CallID, 2) }),
				ping(3), response(2, "late", part(pdu.FirstFrag)), response(2, "late", part(pdu.LastFrag)), response(3, "pong")), cancels},
		{"C706 9.3: without multiplexing the server gets a co_cancel, and the next call waits for the late answer",
			script(accepts(func(p *pdu.BindAck) { p.Flags = both }), ping(2),
				dcerpctest.Expect(func(p *pdu.CoCancel) error { return equal("call id", p.CallID, 2) }),
				dcerpctest.ExpectNothing(time.Second), response(2, "late"), ping(3), response(3, "pong")), cancels},
		{"C706 9.3: a fault for a cancelled call is dropped too",
			script(accepts(), ping(2), dcerpctest.Expect[*pdu.CoCancel](nil), dcerpctest.Expect[*pdu.Orphaned](nil),
				ping(3), fault(pdu.FaultCancel, 0), response(3, "pong")), cancels},
	})
}

// cancels makes a call that is cancelled and another one.
func cancels(t *testing.T, conn net.Conn) {
	cc := connect(t, conn, insecure())
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := invoke(ctx, cc, opEcho, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	synctest.Wait() // the server has been told
	got, err := invoke(t.Context(), cc, opEcho, nil)
	require.NoError(t, err)
	require.Equal(t, "pong", string(got))
}

// fragmentOf is the step that receives one fragment of a request.
func fragmentOf(size, hint int, f pdu.Flags) dcerpctest.Step {
	return dcerpctest.Expect(func(p *pdu.Request) error {
		return errors.Join(equal("stub", len(p.Stub), size), equal("alloc_hint", p.AllocHint, uint32(hint)), equal("flags", p.Flags, f),
			equal("stub is zero", bytes.Count(p.Stub, []byte{0}), size))
	})
}

func sorted(a, b string) []string {
	if a > b {
		a, b = b, a
	}
	return []string{a, b}
}
