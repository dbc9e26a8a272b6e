package dcerpc_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// bigEndian changes a request to big-endian.
func bigEndian(p *pdu.Request) { p.DataRep = pdu.BigEndian }

func requestFlags(f pdu.Flags) func(*pdu.Request) {
	return func(p *pdu.Request) { p.Flags |= f }
}

func hint(n uint32) func(*pdu.Request) {
	return func(p *pdu.Request) { p.AllocHint = n }
}

// waitingEcho makes opWait of the echo interface tell that it has begun.
// manyCalls has the calls of peers without security limited as those of others.
func manyCalls(s *setup) { s.server.Limits.UnauthenticatedCallsPerConnection = -1 }

func waitingEcho(s *setup) { s.echo.waiting = make(chan struct{}, 16) }

func TestConversationsRequest(t *testing.T) {
	answers := func(rule string, status pdu.FaultStatus, f pdu.Flags, ctx uint16, req *pdu.Request) conversation {
		return conversation{rule: rule, talk: func(r *raw) {
			r.bound()
			r.send(req)
			r.fault(req.CallID, ctx, status, f)
			r.alive()
		}}
	}
	converse(t, []conversation{
		answers("C706 12.6.4.9: unknown presentation context: nca_s_unk_if, DNE, context 0, alive (Windows)",
			pdu.FaultUnknownInterface, dne, 0, request(2, opEcho, nil, onContext(5))),
		answers("C706 12.6.4.9: opnum out of range: nca_s_op_rng_error, DNE, alive", pdu.FaultOpRange, dne, 0, request(2, opCount, nil)),
		answers("MS-RPCE 3.1.1.5.5: a stub that cannot be decoded: RPC_X_BAD_STUB_DATA, alive", pdu.FaultNDR, 0, 0, request(2, opNDR, []byte("abc"))),
		answers("MS-RPCE 3.3.3.5.1: a handler's fault is sent as it is, alive", pdu.FaultContextMismatch, 0, 0, request(2, opFault, nil)),
		answers("C706 appendix E: a handler's other errors: nca_s_fault_unspec, alive", pdu.FaultUnspec, 0, 0, request(2, opError, nil)),
		answers("C706 appendix E: a handler's panic: nca_s_fault_unspec, alive", pdu.FaultUnspec, 0, 0, request(2, opPanic, nil)),
		{rule: "C706 12.6.4.9: surplus bytes of a stub are ignored", talk: func(r *raw) {
			r.bound()
			r.send(request(2, opNDR, append([]byte{1, 2, 3, 4}, zeros(5000)...)))
			require.Equal(r.t, []byte{1, 2, 3, 4}, r.response(2))
		}},
		{rule: "C706 12.6.4.9: an empty stub is a stub", talk: func(r *raw) {
			r.bound()
			r.send(request(2, opEcho, nil))
			require.Empty(r.t, r.response(2))
		}},
		{rule: "C706 12.6.4.9: an object UUID, and its value, do not matter", talk: func(r *raw) {
			r.bound()
			r.send(request(2, opEcho, []byte("x"), requestFlags(pdu.ObjectUUID)))
			require.Equal(r.t, "x", string(r.response(2)))
		}},
		{rule: "C706 14.1: a big-endian request is answered in little-endian", talk: func(r *raw) {
			r.bound()
			r.send(request(0x01020304, opNDR, []byte{1, 2, 3, 4}, bigEndian))
			require.Equal(r.t, []byte{4, 3, 2, 1}, r.response(0x01020304))
		}},
		{rule: "MS-RPCE 2.2.5: NDR64 is little-endian, whatever the data representation", talk: func(r *raw) {
			r.bound(offer(element(0, echoInterface(), pdu.NDR64())))
			r.send(request(2, opNDR, []byte{1, 2, 3, 4}, bigEndian))
			require.Equal(r.t, []byte{1, 2, 3, 4}, r.response(2))
		}},
		{rule: "C706 12.6.4.10: a response keeps 8 bits of the context id, a fault all of it (Windows)", talk: func(r *raw) {
			r.bound(offer(element(0x0203, echoInterface())))
			r.send(request(2, opEcho, nil, onContext(0x0203)))
			require.EqualValues(r.t, 0x03, receive[*pdu.Response](r).ContextID)
			r.send(request(3, opFault, nil, onContext(0x0203)))
			r.fault(3, 0x0203, pdu.FaultContextMismatch, 0)
		}},
		{rule: "C706 12.6.4.10: call ids in any order (Samba)", talk: func(r *raw) {
			r.bound()
			for _, id := range []uint32{9, 3, 0xFFFFFFFF, 0, 3} {
				r.send(request(id, opEcho, []byte("x")))
				require.Equal(r.t, "x", string(r.response(id)))
			}
		}},
		{rule: "C706 12.6.4.10: a response of several fragments; alloc_hint is what is left; sizes as negotiated, multiples of 16", talk: func(r *raw) {
			r.bound(func(p *pdu.Bind) { p.MaxRecv = 2048 })
			stub := bytes.Repeat([]byte("0123456789"), 500)
			r.send(request(2, opEcho, stub))
			var got []byte
			var flags []pdu.Flags
			for len(got) < len(stub) {
				p := receive[*pdu.Response](r)
				require.EqualValues(r.t, len(stub)-len(got), p.AllocHint)
				require.LessOrEqual(r.t, int(p.FragLength), 2048)
				got, flags = append(got, p.Stub...), append(flags, p.Flags)
			}
			require.Equal(r.t, stub, got)
			require.Equal(r.t, []pdu.Flags{pdu.FirstFrag, 0, pdu.LastFrag}, flags)
		}},

		// Sizes.
		{rule: "C706 12.6.4.9: alloc_hint of a single fragment does not matter", talk: func(r *raw) {
			r.bound()
			for _, n := range []uint32{0, 1, 5 << 20, 0xFFFFFFFF} {
				r.send(request(2, opEcho, []byte("xyz"), hint(n)))
				require.Equal(r.t, "xyz", string(r.response(2)))
			}
		}},
		{rule: "C706 12.6.4.9: alloc_hint that is too small does not matter", talk: func(r *raw) {
			r.bound()
			r.send(fragment(2, pdu.FirstFrag, "abc", hint(1)), fragment(2, pdu.LastFrag, "def", hint(0)))
			require.Equal(r.t, "abcdef", string(r.response(2)))
		}},
		{rule: "Windows: alloc_hint of over 4 MiB where more fragments follow: access denied, end, at once", talk: func(r *raw) {
			r.bound()
			r.send(fragment(2, pdu.FirstFrag, "abc", hint(4<<20+1)))
			r.fatal(2, 0, pdu.FaultAccessDenied, 0)
		}},
		{rule: "Windows: alloc_hint and what was received together over 4 MiB: access denied, end", talk: func(r *raw) {
			r.bound()
			r.send(fragment(2, pdu.FirstFrag, "abc", hint(4<<20)), fragment(2, 0, "d", hint(4<<20-2)))
			r.fatal(2, 0, pdu.FaultAccessDenied, 0)
		}},
		{rule: "Windows: a stub of 4 MiB is fine, one byte more is not: access denied, end", talk: func(r *raw) {
			r.bound()
			part := make([]byte, 4096)
			for i := range 1024 {
				p := fragment(2, 0, "", hint(0))
				p.Stub = part
				if i == 0 {
					p.Flags = pdu.FirstFrag
				}
				r.send(p)
			}
			r.send(fragment(2, pdu.LastFrag, "x"))
			r.fatal(2, 0, pdu.FaultAccessDenied, 0)
		}},
		{
			rule:  "fragments without data are bounded by Limits: access denied, end",
			setup: func(s *setup) { s.server.Limits.Fragments = 3 },
			talk: func(r *raw) {
				r.bound()
				r.send(fragment(2, pdu.FirstFrag, ""), fragment(2, 0, ""), fragment(2, 0, ""), fragment(2, 0, ""))
				r.fatal(2, 0, pdu.FaultAccessDenied, 0)
			},
		},

		{
			rule:  "a stub beyond the share of a peer that has not authenticated: nca_s_server_too_busy, DNE, alive, and not kept",
			setup: func(s *setup) { s.server.Limits.UnauthenticatedBytes = 64 * 16 << 10 },
			talk: func(r *raw) {
				r.bound()
				part := string(zeros(5000))
				for id := uint32(2); id < 5; id++ {
					r.send(fragment(id, pdu.FirstFrag, part), fragment(id, 0, part), fragment(id, 0, part), fragment(id, pdu.LastFrag, part))
					r.fault(id, 0, pdu.FaultServerTooBusy, dne)
					r.send(fragment(id, pdu.FirstFrag, part), fragment(id, pdu.LastFrag, part, func(p *pdu.Request) { p.Opnum = opFault }))
					_, err := r.Receive() // in two fragments
					require.NoError(r.t, err)
					_, err = r.Receive()
					require.NoError(r.t, err)
					r.alive()
				}
			},
		},

		// The verification trailer.
		{rule: "MS-RPCE 2.2.2.13: a verification trailer that agrees is cut off", talk: func(r *raw) {
			r.bound()
			r.send(verified(r, 2, func(*pdu.Request) {}))
			require.Equal(r.t, "stub", string(r.response(2)))
		}},
		{rule: "MS-RPCE 2.2.2.13: a verification trailer is little-endian, whatever the stub is", talk: func(r *raw) {
			r.bound()
			req := verified(r, 2, bigEndian)
			require.Equal(r.t, []byte{1, 0, 4, 0}, req.Stub[12:16])
			r.send(req)
			require.Equal(r.t, "stub", string(r.response(2)))
		}},
		{rule: "MS-RPCE 2.2.2.13.3: header2 with another opnum: access denied, alive", talk: func(r *raw) {
			r.bound()
			req := verified(r, 2, func(*pdu.Request) {})
			req.Opnum = opNDR
			r.send(req)
			r.fault(2, 0, pdu.FaultAccessDenied, 0)
			r.alive()
		}},
		{rule: "MS-RPCE 2.2.2.13.4: pcontext of another interface: access denied, alive", talk: func(r *raw) {
			r.bound()
			req := request(2, opEcho, nil)
			trailer := pdu.NewVerificationTrailer(req, otherInterface(), pdu.NDR20(), false)
			req.Stub, _ = trailer.AppendBinary([]byte("stub"), 0)
			r.send(req)
			r.fault(2, 0, pdu.FaultAccessDenied, 0)
			r.alive()
		}},
		{rule: "MS-RPCE 2.2.2.13.4: pcontext of another transfer syntax: access denied, alive", talk: func(r *raw) {
			r.bound()
			req := request(2, opEcho, nil)
			trailer := pdu.NewVerificationTrailer(req, echoInterface(), pdu.NDR64(), false)
			req.Stub, _ = trailer.AppendBinary([]byte("stub"), 0)
			r.send(req)
			r.fault(2, 0, pdu.FaultAccessDenied, 0)
			r.alive()
		}},
		{rule: "MS-RPCE 2.2.2.13.2: bitmask of header signing that the bind did not ask for: access denied, alive", talk: func(r *raw) {
			r.bound()
			req := request(2, opEcho, nil)
			trailer := pdu.NewVerificationTrailer(req, echoInterface(), pdu.NDR20(), true)
			req.Stub, _ = trailer.AppendBinary([]byte("stub"), 0)
			r.send(req)
			r.fault(2, 0, pdu.FaultAccessDenied, 0)
			r.alive()
		}},
		{rule: "MS-RPCE 2.2.2.13: an unknown command that must be processed: access denied, alive", talk: func(r *raw) {
			r.bound()
			req := request(2, opEcho, nil)
			req.Stub, _ = pdu.VerificationTrailer{{ID: 9, MustProcess: true}}.AppendBinary([]byte("stub"), 0)
			r.send(req)
			r.fault(2, 0, pdu.FaultAccessDenied, 0)
			r.alive()
		}},
		{rule: "MS-RPCE 2.2.2.13: another unknown command is ignored", talk: func(r *raw) {
			r.bound()
			req := request(2, opEcho, nil)
			req.Stub, _ = pdu.VerificationTrailer{{ID: 9, Value: []byte("xyz")}}.AppendBinary([]byte("stub"), 0)
			r.send(req)
			require.Equal(r.t, "stub", string(r.response(2)))
		}},
		{rule: "MS-RPCE 2.2.2.13: what only looks like a verification trailer belongs to the stub", talk: func(r *raw) {
			r.bound()
			stub := []byte("stub\x8a\xe3\x13\x71\x02\xf4\x36\x71\x01\x40")
			r.send(request(2, opEcho, stub))
			require.Equal(r.t, stub, r.response(2))
		}},
	})
}

// verified is a request of "stub" with a verification trailer.
func verified(r *raw, callID uint32, change func(*pdu.Request)) *pdu.Request {
	r.t.Helper()
	req := request(callID, opEcho, nil, change)
	trailer := pdu.NewVerificationTrailer(req, echoInterface(), pdu.NDR20(), false)
	stub, err := trailer.AppendBinary([]byte("stub"), 0)
	require.NoError(r.t, err)
	req.Stub = stub
	return req
}

func TestConversationsFragments(t *testing.T) {
	// One fragment after the first of call 2, on context 0.
	after := func(rule string, mpx pdu.Flags, p *pdu.Request, callID uint32, ctx uint16) conversation {
		return conversation{rule: rule, talk: func(r *raw) {
			r.bound(offer(element(3, echoInterface())), flags(mpx))
			r.send(fragment(2, pdu.FirstFrag, "ab", onContext(3)), p)
			r.fatal(callID, ctx, pdu.FaultProtocolError, 0)
		}}
	}
	converse(t, []conversation{
		{rule: "C706 12.6.2: fragments of a request", talk: func(r *raw) {
			r.bound()
			r.send(fragment(2, pdu.FirstFrag, "ab"), fragment(2, 0, "cd"), fragment(2, 0, ""), fragment(2, pdu.LastFrag, "ef"))
			require.Equal(r.t, "abcdef", string(r.response(2)))
		}},
		{rule: "C706 12.6.2: context and opnum count in the first fragment alone (Windows)", talk: func(r *raw) {
			r.bound()
			r.send(fragment(2, pdu.FirstFrag, "ab"), fragment(2, pdu.LastFrag, "cd", func(p *pdu.Request) { p.ContextID, p.Opnum = 111, 111 }))
			require.Equal(r.t, "abcd", string(r.response(2)))
		}},
		after("Windows, no multiplexing: a first fragment within a call: fault for that call", 0,
			fragment(5, pdu.FirstFrag, "x"), 2, 3),
		after("Windows, no multiplexing: a whole request within a call: fault for that call", 0,
			fragment(5, both, "x"), 2, 3),
		after("Windows, multiplexing: a first fragment within a call: fault for the new one, context 0", pdu.ConcMPX,
			fragment(5, pdu.FirstFrag, "x"), 5, 0),
		after("Windows, multiplexing: the first fragment again: fault with the context", pdu.ConcMPX,
			fragment(2, pdu.FirstFrag, "x", onContext(3)), 2, 3),
		after("Windows, no multiplexing: a later fragment of another call: fault for the call underway", 0,
			fragment(5, pdu.LastFrag, "x"), 2, 3),
		after("Windows, multiplexing: a later fragment of another call: fault for the new one, context 0", pdu.ConcMPX,
			fragment(5, pdu.LastFrag, "x"), 5, 0),
		{rule: "Windows, no multiplexing: a later fragment without a first one: nca_s_proto_error, context 0, end", talk: func(r *raw) {
			r.bound(offer(element(3, echoInterface())))
			r.send(fragment(2, pdu.LastFrag, "ab", onContext(3)))
			r.fatal(2, 0, pdu.FaultProtocolError, 0)
		}},
		{rule: "Windows, multiplexing: a later fragment without a first one: nca_s_proto_error with its context, end", talk: func(r *raw) {
			r.bound(offer(element(3, echoInterface())), flags(pdu.ConcMPX))
			r.send(fragment(2, pdu.LastFrag, "ab", onContext(3)))
			r.fatal(2, 3, pdu.FaultProtocolError, 0)
		}},
		{rule: "Windows, multiplexing: a later fragment without a first one, on an unknown context: nca_s_unk_if, DNE, alive", talk: func(r *raw) {
			r.bound(flags(pdu.ConcMPX))
			r.send(fragment(2, pdu.LastFrag, "ab", onContext(3)))
			r.fault(2, 0, pdu.FaultUnknownInterface, dne)
			r.alive()
		}},
		{rule: "Windows, multiplexing: a later fragment without a first one, in an unknown security context: access denied, end", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelIntegrity, flags(pdu.ConcMPX))
			r.sendProtected(sec, fragment(2, pdu.LastFrag, "ab"), func(p *pdu.Request) { p.Auth.ContextID = 77 })
			r.fatal(2, 0, pdu.FaultAccessDenied, 0)
		}},
		{rule: "C706 12.6.3.1: the data representation cannot change within a call: nca_s_proto_error, DNE, end", talk: func(r *raw) {
			r.bound()
			r.send(fragment(2, pdu.FirstFrag, "ab"), fragment(2, pdu.LastFrag, "cd", bigEndian))
			r.fatal(2, 0, pdu.FaultProtocolError, dne)
		}},
		{rule: "C706 12.6.3.1: a request that is cancelled from the start: RPC_S_NO_CALL_ACTIVE, DNE, end (Windows)", talk: func(r *raw) {
			r.bound()
			r.send(request(2, opEcho, nil, requestFlags(pdu.PendingCancel)))
			r.fatal(2, 0, pdu.FaultNoCallActive, dne)
		}},
		{rule: "C706 12.6.3.1: a pending cancel in a later fragment is ignored (Windows)", talk: func(r *raw) {
			r.bound()
			r.send(fragment(2, pdu.FirstFrag, "ab"), fragment(2, pdu.LastFrag|pdu.PendingCancel, "cd"))
			require.Equal(r.t, "abcd", string(r.response(2)))
		}},
		{rule: "C706 12.6.4.1: an alter_context may come between the fragments of a request", talk: func(r *raw) {
			r.bound()
			r.send(fragment(2, pdu.FirstFrag, "ab"), alter(element(1, echoInterface())), fragment(2, pdu.LastFrag, "cd"))
			r.alterResp()
			require.Equal(r.t, "abcd", string(r.response(2)))
		}},
		{rule: "Windows: co_cancel and orphaned are ignored, with a trailer too, and are not answered", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelIntegrity)
			h := pdu.Header{Flags: both, CallID: 77}
			r.send(&pdu.CoCancel{Header: h}, &pdu.Orphaned{Header: h}, &pdu.CoCancel{Header: h, Auth: sec.auth(zeros(16))})
			r.alive()
		}},
		{rule: "Windows: a request of which a part has come stays underway after orphaned", talk: func(r *raw) {
			r.bound()
			r.send(fragment(2, pdu.FirstFrag, "ab"), &pdu.Orphaned{Header: pdu.Header{Flags: both, CallID: 2}}, request(3, opEcho, nil))
			r.fatal(2, 0, pdu.FaultProtocolError, 0)
		}},
	})
}

func TestConversationsMultiplexing(t *testing.T) {
	converse(t, []conversation{
		{rule: "C706 12.6.3.1: without multiplexing a second request before the answer: nca_s_proto_error, end (Windows)",
			setup: waitingEcho, talk: func(r *raw) {
				r.bound()
				r.send(request(2, opWait, nil))
				<-r.setup.echo.waiting
				r.send(request(3, opEcho, nil))
				r.fatal(3, 0, pdu.FaultProtocolError, 0)
			}},
		{rule: "C706 12.6.3.1: with multiplexing calls run at once, and are answered as they end",
			setup: waitingEcho, talk: func(r *raw) {
				end := make(chan struct{})
				r.setup.echo.wait = func(context.Context) error { <-end; return nil }
				r.bound(flags(pdu.ConcMPX))
				r.send(request(2, opWait, nil))
				<-r.setup.echo.waiting
				r.send(request(3, opEcho, []byte("x")))
				require.Equal(r.t, "x", string(r.response(3)))
				close(end)
				r.response(2)
			}},
		{rule: "C706 12.6.3.1: with multiplexing a call id that is in use: nca_s_proto_error, end",
			setup: waitingEcho, talk: func(r *raw) {
				r.bound(flags(pdu.ConcMPX))
				r.send(request(2, opWait, nil))
				<-r.setup.echo.waiting
				r.send(request(2, opEcho, nil))
				r.fatal(2, 0, pdu.FaultProtocolError, 0)
			}},
		{rule: "C706 12.6.4.6: co_cancel ends the handler's context: nca_s_fault_cancel, alive",
			setup: waitingEcho, talk: func(r *raw) {
				r.bound()
				r.send(request(2, opWait, nil))
				<-r.setup.echo.waiting
				r.send(&pdu.CoCancel{Header: pdu.Header{Flags: both, CallID: 2}})
				r.fault(2, 0, pdu.FaultCancel, 0)
				r.alive()
			}},
		{rule: "C706 12.6.4.8: orphaned ends the handler's context",
			setup: waitingEcho, talk: func(r *raw) {
				r.bound(flags(pdu.ConcMPX))
				r.send(request(2, opWait, nil), request(3, opWait, nil))
				<-r.setup.echo.waiting
				<-r.setup.echo.waiting
				r.send(&pdu.Orphaned{Header: pdu.Header{Flags: both, CallID: 3}})
				r.fault(3, 0, pdu.FaultCancel, 0)
				r.alive()
			}},
		{rule: "the end of a connection ends the contexts of its calls", setup: waitingEcho, talk: func(r *raw) {
			ended := make(chan struct{})
			r.setup.echo.wait = func(ctx context.Context) error { <-ctx.Done(); close(ended); return ctx.Err() }
			r.bound()
			r.send(request(2, opWait, nil))
			<-r.setup.echo.waiting
			r.Close()
			<-ended
		}},
		{rule: "calls of a connection beyond Limits: nca_s_server_too_busy, DNE, alive", setup: func(s *setup) {
			waitingEcho(s)
			s.server.Limits.CallsPerConnection = 2
		}, talk: func(r *raw) {
			r.bound(flags(pdu.ConcMPX))
			r.send(request(2, opWait, nil), request(3, opWait, nil), request(4, opEcho, nil))
			r.fault(4, 0, pdu.FaultServerTooBusy, dne)
			r.send(&pdu.CoCancel{Header: pdu.Header{Flags: both, CallID: 3}})
			r.fault(3, 0, pdu.FaultCancel, 0)
		}},
		{rule: "calls of all connections beyond Limits: nca_s_server_too_busy, DNE, alive", setup: func(s *setup) {
			waitingEcho(s)
			s.server.Limits.Calls = 1
		}, talk: func(r *raw) {
			r.bound()
			r.send(request(2, opWait, nil))
			<-r.setup.echo.waiting
			r.connect()
			r.bound()
			r.send(request(2, opEcho, nil))
			r.fault(2, 0, pdu.FaultServerTooBusy, dne)
		}},
		{rule: "C706 12.6.2: fragments of a response follow each other, whatever else is answered", setup: manyCalls, talk: func(r *raw) {
			r.bound(flags(pdu.ConcMPX), func(p *pdu.Bind) { p.MaxRecv = 2048 })
			stub := zeros(5000)
			for id := range uint32(20) {
				r.send(request(id, opEcho, stub))
			}
			seen := map[uint32]bool{}
			for range 20 {
				first := receive[*pdu.Response](r)
				require.True(r.t, first.Flags.Has(pdu.FirstFrag))
				require.False(r.t, seen[first.CallID])
				seen[first.CallID] = true
				for range 2 {
					require.Equal(r.t, first.CallID, receive[*pdu.Response](r).CallID)
				}
			}
		}},
	})
}
