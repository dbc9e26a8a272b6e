package dcerpc_test

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A program is a fuzzer's input, read as instructions.
type program []byte

// byte returns the next byte, zero at the end.
func (p *program) byte() byte {
	if len(*p) == 0 {
		return 0
	}
	b := (*p)[0]
	*p = (*p)[1:]
	return b
}

// bytes returns up to n bytes.
func (p *program) bytes(n int) []byte {
	n = min(n, len(*p))
	b := (*p)[:n]
	*p = (*p)[n:]
	return b
}

// allowance is what one run may allocate, on both sides together: many times what its input is, far
// less than what its input can announce.
const allowance = 64 << 20

// measured runs f and fails where it allocates too much.
func measured(t *testing.T, f func()) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > allowance {
		t.Errorf("%d bytes allocated", n)
	}
}

// FuzzServer lets a program talk to a server: binds, requests and tokens with changes, and any
// bytes. Whatever it says, the server has to answer with PDUs that can be read, end when the
// connection ends, and leave nothing behind, which the bubble checks.
//
// The seeds are whole conversations, in the instructions of serverProgram.
func FuzzServer(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 2, 0, 0, 4, 1, 2, 3, 4})                                  // bind, request
	f.Add([]byte{0, 0x10, 0, 1, 2, 1, 0, 0, 1, 3, 0, 0, 1, 9, 7, 2})                   // multiplexed, a call waits, co_cancel
	f.Add([]byte{0, 0x0F, 0, 3, 0, 6, 2, 0, 4, 1, 2, 3, 4, 6, 3, 2, 0})                // bind with security, auth3, sealed requests
	f.Add([]byte{0, 0, 0, 1, 2, 0, 1, 3, 1, 2, 3, 1, 2, 0, 2, 3, 1, 2, 3})             // fragments
	f.Add([]byte{0, 0, 0, 2, 1, 2, 5, 1, 2, 0, 0, 0})                                  // alter_context
	f.Add([]byte{4, 16, 5, 0, 11, 3, 16, 0, 0, 0, 255, 255, 0, 0, 1, 0, 0, 0})         // a header that announces much
	f.Add([]byte{0, 0, 5, 24, 255, 0, 0, 0, 1, 2, 0, 0, 0, 5, 3, 0x80, 5, 10, 8, 8})   // changed PDUs
	f.Add([]byte{0, 0x0D, 0, 2, 1, 1, 3, 0, 6, 2, 2, 0, 1, 2, 4, 0, 9, 8, 1, 2, 0, 0}) // several contexts
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) > 16<<10 {
			return
		}
		synctest.Test(t, func(t *testing.T) { measured(t, func() { serverProgram(t, input) }) })
	})
}

func serverProgram(t *testing.T, input []byte) {
	mech := &dcerpctest.Mechanism{Account: "fuzz", Legs: 3}
	srv := echoServer(mech, &echo{})
	srv.Trace = func(p dcerpc.TracedPDU) { _ = p.PDU[len(p.PDU)-1] }
	client, server := dcerpctest.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() { srv.ServeConn(server) })
	s := &fuzzClient{conn: client, mech: mech, tokens: make(chan []byte, 64)}
	wg.Go(func() { s.read(t) })
	prog := program(input)
	for len(prog) > 0 && s.instruction(&prog) {
		synctest.Wait() // so that the same program does the same thing
	}
	if len(input)%2 == 0 {
		_ = client.CloseWrite()
	} else {
		_ = client.Close()
	}
	wg.Wait()
	_ = client.Close()
	_ = srv.Close()
}

// A fuzzClient is the side of serverProgram.
type fuzzClient struct {
	conn   *dcerpctest.Conn
	mech   *dcerpctest.Mechanism
	sec    dcerpc.Context
	level  dcerpc.AuthLevel
	ready  bool
	sign   bool
	tokens chan []byte // of the server
	last   []byte      // PDU sent
}

// read checks what the server answers.
func (c *fuzzClient) read(t *testing.T) {
	framer := pdu.NewFramer(c.conn, 0)
	for {
		_, b, err := framer.Next()
		if err != nil {
			return
		}
		p, err := pdu.Parse(b)
		if err != nil {
			t.Errorf("answer cannot be read: %v: % x", err, b)
			return
		}
		switch p := p.(type) {
		case *pdu.BindAck:
			c.token(p.Auth.Token)
		case *pdu.AlterContextResp:
			c.token(p.Auth.Token)
		case *pdu.Fault:
			if p.AllocHint != 32 || p.Status == 0 || p.AuthLength != 0 {
				t.Errorf("bad fault: % x", b)
			}
		case *pdu.Response, *pdu.BindNak:
		default:
			t.Errorf("%v from a server", p.Head().Type)
		}
	}
}

func (c *fuzzClient) token(token []byte) {
	select {
	case c.tokens <- append([]byte{}, token...):
	default:
	}
}

// instruction runs one instruction and reports whether the connection still takes PDUs.
func (c *fuzzClient) instruction(p *program) bool {
	switch p.byte() % 10 {
	case 0:
		return c.bind(p)
	case 1:
		return c.send(c.request(p))
	case 2:
		e := element(uint16(p.byte()), echoInterface())
		c.interfaces(&e, p.byte())
		a := alter(e)
		if p.byte()%2 == 1 {
			a.Auth = c.initiate(uint32(p.byte()), p.byte())
		}
		return c.send(a)
	case 3:
		return c.send(auth3(c.step(uint32(p.byte()))))
	case 4:
		return c.write(p.bytes(int(p.byte())))
	case 5: // the last PDU, changed
		b := append([]byte{}, c.last...)
		if n := len(b); n > 0 {
			b[int(p.byte())%n] = p.byte()
		}
		return c.write(b)
	case 6:
		return c.protected(c.request(p))
	case 7:
		h := pdu.Header{Flags: both, CallID: uint32(p.byte())}
		return c.send(&pdu.CoCancel{Header: h})
	case 8:
		h := pdu.Header{Flags: both, CallID: uint32(p.byte())}
		return c.send(&pdu.Orphaned{Header: h})
	}
	return c.write(c.last)
}

// bind has options in one byte: 1 security, 2 header signing, 4 features, 8 privacy, 16
// multiplexing, 32 big-endian, 64 two contexts, 128 NDR64.
func (c *fuzzClient) bind(p *program) bool {
	opts := p.byte()
	e := element(uint16(p.byte()), echoInterface())
	if opts&128 != 0 {
		e.Transfer = append(e.Transfer, pdu.NDR64())
	}
	b := bind(offer(e))
	if opts&64 != 0 {
		b.Contexts = append(b.Contexts, element(9, otherInterface()))
	}
	if opts&4 != 0 {
		b.Contexts = append(b.Contexts, element(8, otherInterface(), pdu.FeatureSyntax(3)))
	}
	if opts&16 != 0 {
		b.Flags |= pdu.ConcMPX
	}
	if opts&32 != 0 {
		b.DataRep = pdu.BigEndian
	}
	if opts&1 != 0 {
		level := byte(5)
		if opts&8 != 0 {
			level = 6
		}
		b.Auth = c.initiate(1, level)
	}
	if opts&2 != 0 {
		b.Flags |= pdu.SupportHeaderSign
		c.sign = true
	}
	return c.send(b)
}

func (c *fuzzClient) interfaces(e *pdu.ContextElement, which byte) {
	switch which % 4 {
	case 1:
		e.Abstract = otherInterface()
	case 2:
		e.Abstract = unknownInterface()
	case 3:
		e.Transfer = []dcerpc.SyntaxID{pdu.NDR64()}
	}
}

// initiate starts a security context.
func (c *fuzzClient) initiate(id uint32, level byte) pdu.Auth {
	c.level = dcerpc.AuthLevel(level%3 + 4)
	c.sec, _ = c.mech.Initiator().NewContext("", c.level)
	c.ready = false
	token, _, _ := c.sec.Step(context.Background(), nil)
	return pdu.Auth{Type: 10, Level: uint8(c.level), ContextID: id, Token: token}
}

// step answers the server's last token.
func (c *fuzzClient) step(id uint32) pdu.Auth {
	a := pdu.Auth{Type: 10, Level: uint8(c.level), ContextID: id, Token: []byte("junk")}
	if c.sec == nil || c.ready {
		return a
	}
	select {
	case in := <-c.tokens:
		if out, done, err := c.sec.Step(context.Background(), in); err == nil {
			a.Token, c.ready, a.ContextID = out, done, 1
		}
	default:
	}
	return a
}

func (c *fuzzClient) request(p *program) *pdu.Request {
	req := request(uint32(p.byte()), uint16(p.byte()%8), nil)
	switch f := p.byte(); f % 4 {
	case 1:
		req.Flags = pdu.FirstFrag
	case 2:
		req.Flags = pdu.LastFrag
	case 3:
		req.Flags = pdu.Flags(f)
	}
	req.Stub = p.bytes(int(p.byte()))
	return req
}

// protected sends a request with a trailer, signed or sealed where there is a context.
func (c *fuzzClient) protected(req *pdu.Request) bool {
	if !c.ready {
		return c.send(req)
	}
	req.Auth = pdu.Auth{Type: 10, Level: uint8(c.level), ContextID: 1, Token: make([]byte, c.sec.TokenSize(c.level))}
	b, err := req.AppendBinary(nil)
	if err != nil {
		return true
	}
	parts, err := pdu.Split(b)
	if err != nil {
		return true
	}
	m := dcerpc.Message{Header: parts.Header, Body: parts.Body, Trailer: parts.Trailer, SignHeader: c.sign}
	if c.level == dcerpc.LevelPrivacy {
		_ = c.sec.Seal(m, parts.Token)
	} else {
		_ = c.sec.Sign(m, parts.Token)
	}
	return c.write(b)
}

func (c *fuzzClient) send(p pdu.PDU) bool {
	b, err := p.AppendBinary(nil)
	if err != nil {
		return true
	}
	c.last = b
	return c.write(b)
}

func (c *fuzzClient) write(b []byte) bool {
	_, err := c.conn.Write(b)
	return err == nil
}

// FuzzClient lets a program be the server of a client that binds, calls, alters and cancels.
// Whatever it says, every call has to end, and nothing may be left behind.
func FuzzClient(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 2, 0, 0, 4, 'p', 'o', 'n', 'g', 1, 3, 0, 0, 0, 2, 4, 5})           // bind_ack, responses, a fault
	f.Add([]byte{1, 0, 0, 0, 1, 2, 0, 0, 4, 'p', 'o', 'n', 'g'})                                   // with security
	f.Add([]byte{0, 0, 0x10, 0, 1, 2, 0, 1, 1, 'x', 1, 2, 0, 2, 1, 'y', 1, 9, 0, 0, 0})            // fragments
	f.Add([]byte{0, 3, 1, 1, 2, 2, 2, 5, 4, 3})                                                    // a bind_nak
	f.Add([]byte{0, 4, 16, 5, 0, 12, 3, 16, 0, 0, 0, 255, 255, 0, 0, 1, 0, 0, 0})                  // a header that announces much
	f.Add([]byte{0, 0, 0, 0, 5, 20, 255, 6, 1, 3, 0, 0, 0, 7})                                     // changed, alter_context_resp, shutdown
	f.Add([]byte{2, 0, 0, 0, 6, 2, 1, 2, 0, 0, 2, 1, 1, 1, 3, 0, 0, 1, 1, 8, 1, 2, 0, 0, 1, 1, 9}) // multiplexed, late answers
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) > 16<<10 {
			return
		}
		synctest.Test(t, func(t *testing.T) { measured(t, func() { clientProgram(t, input) }) })
	})
}

func clientProgram(t *testing.T, input []byte) {
	prog := program(input)
	mech := &dcerpctest.Mechanism{Legs: 2}
	cfg := insecure()
	if opts := prog.byte(); opts&1 != 0 {
		cfg = &dcerpc.Config{Auth: mech.Initiator()}
	}
	cfg.Trace = func(p dcerpc.TracedPDU) { _ = p.PDU[len(p.PDU)-1] }
	client, server := dcerpctest.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(io.Discard, server) })
	wg.Go(func() {
		s := &fuzzServer{conn: server}
		for len(prog) > 0 && s.instruction(&prog) {
			synctest.Wait()
		}
		_ = server.CloseWrite()
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if cc, err := dcerpc.NewClientConn(ctx, client, echoInterface(), cfg); err == nil {
		var calls sync.WaitGroup
		for i := range 4 {
			calls.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, time.Duration(i+1)*time.Second)
				defer cancel()
				call := dcerpc.Call{Opnum: opEcho, Syntax: cc.Syntax(), Stub: fmt.Append(nil, i)}
				_ = cc.Call(ctx, &call)
			})
		}
		calls.Go(func() { _, _ = cc.Alter(ctx, otherInterface(), nil) })
		calls.Wait()
		_ = cc.Close()
	}
	_ = client.Close()
	wg.Wait()
	_ = server.Close()
}

// A fuzzServer is the side of clientProgram.
type fuzzServer struct {
	conn *dcerpctest.Conn
	last []byte
}

func (s *fuzzServer) instruction(p *program) bool {
	switch p.byte() % 9 {
	case 0:
		return s.send(s.ack(p, 1))
	case 1:
		r := response(uint32(p.byte()), "")
		r.ContextID = uint16(p.byte())
		switch p.byte() % 4 {
		case 1:
			r.Flags = pdu.FirstFrag
		case 2:
			r.Flags = pdu.LastFrag
		case 3:
			r.Flags = 0
		}
		r.Stub = p.bytes(int(p.byte()))
		return s.send(r)
	case 2:
		return s.send(&pdu.Fault{
			Header: pdu.Header{Flags: both, CallID: uint32(p.byte())},
			Status: pdu.FaultStatus(p.byte()),
			Stub:   p.bytes(int(p.byte()) % 16),
		})
	case 3:
		n := pdu.NewBindNak(uint32(p.byte()), pdu.NakReason(p.byte()))
		return s.send(&n)
	case 4:
		return s.write(p.bytes(int(p.byte())))
	case 5:
		b := append([]byte{}, s.last...)
		if n := len(b); n > 0 {
			b[int(p.byte())%n] = p.byte()
		}
		return s.write(b)
	case 6:
		return s.send((*pdu.AlterContextResp)(s.ack(p, uint32(p.byte()))))
	case 7:
		return s.send(&pdu.Shutdown{Header: pdu.Header{Flags: both}})
	}
	time.Sleep(1500 * time.Millisecond) // calls give up meanwhile
	return s.write(s.last)
}

// ack has options in one byte: 1 no multiplexing, 2 NDR64 accepted too, 4 few results, 8 no token.
func (s *fuzzServer) ack(p *program, callID uint32) *pdu.BindAck {
	opts := p.byte()
	a := ackPDU()
	a.CallID = callID
	a.Flags |= pdu.SupportHeaderSign
	a.AssocGroup = uint32(p.byte())
	if opts&1 != 0 {
		a.Flags &^= pdu.ConcMPX
	}
	if opts&2 != 0 {
		a.Results[1] = accepted(pdu.NDR64())
	}
	if opts&4 != 0 {
		a.Results = a.Results[:1]
	}
	if opts&8 == 0 {
		a.Auth = pdu.Auth{Type: 10, Level: 6, ContextID: 1, Token: []byte(`TOY 2/2 6 "" ""`)}
	}
	if p.byte()%2 == 1 {
		a.MaxRecv = uint16(p.byte()) << 8
	}
	return a
}

func (s *fuzzServer) send(p pdu.PDU) bool {
	b, err := p.AppendBinary(nil)
	if err != nil {
		return true
	}
	s.last = b
	return s.write(b)
}

func (s *fuzzServer) write(b []byte) bool {
	_, err := s.conn.Write(b)
	return err == nil
}
