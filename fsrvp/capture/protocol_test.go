package capture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture/internal/smb2"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A script makes conversations packet by packet.
type script struct {
	t *testing.T
	g *generator
}

func newScript(t *testing.T) *script { return &script{t, newGenerator(0, 0, 1)} }

// connect opens a connection from a client's port.
func (s *script) connect(clientPort, serverPort uint16) *conversation {
	c := &conversation{ends: [2]endpoint{
		{net.IPv4(10, 0, 0, 1), clientPort, 1000},
		{net.IPv4(10, 0, 0, 2), serverPort, 2000},
	}}
	c.handshake()
	s.g.active = append(s.g.active, c)
	return c
}

// flush writes what a conversation has sent so far.
func (s *script) flush(c *conversation) {
	for _, p := range c.queue {
		s.g.write(p.data)
	}
	c.queue = nil
}

// decode ends all connections and decodes what they sent, one after the other.
func (s *script) decode(cfg *Config) ([]*Call, Summary) {
	for _, c := range s.g.active {
		c.fin()
		s.flush(c)
	}
	s.g.active = nil
	b, err := io.ReadAll(s.g)
	require.NoError(s.t, err)
	return decodeBytes(s.t, b, cfg)
}

// call makes the PDUs of call number id.
func (s *script) call(id int, callID uint32) (request, response []byte) {
	req, resp := genMessages(id)
	request = s.fragments(pdu.Fragmenter{Type: pdu.TypeRequest, CallID: callID, Opnum: uint16(req.Opnum()),
		Stub: must(req.Append(nil, ndr.NDR20))})
	response = s.fragments(pdu.Fragmenter{Type: pdu.TypeResponse, CallID: callID,
		Stub: must(resp.Append(nil, ndr.NDR20))})
	return request, response
}

func (s *script) fragments(f pdu.Fragmenter) []byte {
	if f.MaxXmit = 4280; f.CallID%2 == 0 {
		f.MaxXmit = 64
	}
	return s.g.fragments(f)
}

// requireCalls checks that the calls are numbers 0 to n-1, in any order.
func requireCalls(t *testing.T, n int, calls []*Call) {
	t.Helper()
	require.Len(t, calls, n)
	seen := make(map[int]bool)
	for _, c := range calls {
		require.NoError(t, c.RequestErr)
		require.NoError(t, c.ResponseErr)
		id := genID(c.Request)
		request, response := genMessages(id)
		require.Equal(t, request, c.Request)
		require.Equal(t, response, c.Response)
		require.False(t, seen[id])
		seen[id] = true
	}
}

// open opens a pipe and binds.
func (w *smbWriter) open(name string, id smb2.FileID) {
	w.exchange(ofSetup, smb2.Create, smb2Create(name), smb2CreateResponse(id))
	w.pipe(ofSetup, true, id, genBind(1), genBindAck(1))
}

// TestPipesAndSessions interleaves the calls of several pipes of several sessions on one
// connection.
func TestPipesAndSessions(t *testing.T) {
	s := newScript(t)
	c := s.connect(40000, 445)
	var writers []*smbWriter
	var ids []smb2.FileID
	message := uint64(0)
	for session := range 3 {
		w := &smbWriter{g: s.g, c: c, session: uint64(session + 1), tree: 1}
		w.id = message
		for p := range 3 {
			id := smb2.FileID{byte(p + 1)} // the same in every session
			w.open([]string{"FssagentRpc", `\fssagentrpc`, "other"}[p], id)
			writers, ids = append(writers, w), append(ids, id)
		}
		message = w.id
	}
	n := 0
	for round := range uint32(4) {
		for i, w := range writers {
			request, response := s.call(n, round+2)
			w.id = message
			w.pipe(n, round%2 == 0, ids[i], request, response)
			message = w.id
			n++
		}
	}
	calls, sum := s.decode(nil)
	requireCalls(t, n, calls)
	require.Empty(t, sum.Problems)
	require.EqualValues(t, 9, sum.Associations)
	require.EqualValues(t, 1, sum.Connections)
}

// TestPipelined sends all requests before any response, and the responses in another order, some
// after an interim one.
func TestPipelined(t *testing.T) {
	s := newScript(t)
	c := s.connect(40000, 445)
	w := &smbWriter{g: s.g, c: c, session: 7, tree: 1}
	id := smb2.FileID{1}
	w.open("FssagentRpc", id)
	const n = 10
	first := w.id
	var responses [][]byte
	for i := range n {
		request, response := s.call(i, uint32(i+2))
		responses = append(responses, response)
		w.id = first + uint64(i)
		c.send(0, w.message(smb2.IOCTL, 0, 0, smb2IOCTL(id, request)), i, false)
	}
	for i := range n {
		w.id = first + uint64(i)
		c.send(1, w.message(smb2.IOCTL, smb2.FlagResponse|smb2.FlagAsync, smb2.StatusPending, smb2Zero(9)), i, true)
	}
	for i := n - 1; i >= 0; i-- {
		w.id = first + uint64(i)
		c.send(1, w.message(smb2.IOCTL, smb2.FlagResponse|smb2.FlagAsync, 0, smb2IOCTLResponse(id, responses[i])), i,
			true)
	}
	calls, sum := s.decode(nil)
	requireCalls(t, n, calls)
	require.Empty(t, sum.Problems)
}

// compound joins messages: all but the last are padded to 8 bytes and say where the next one is.
func compound(messages ...[]byte) []byte {
	var out []byte
	for i, m := range messages {
		m = m[netbiosHeader:]
		if i < len(messages)-1 {
			for len(m)%8 != 0 {
				m = append(m, 0)
			}
			binary.LittleEndian.PutUint32(m[20:], uint32(len(m)))
		}
		out = append(out, m...)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(out))), out...)
}

// TestCompound opens, uses and closes a pipe in one compound of related requests.
func TestCompound(t *testing.T) {
	s := newScript(t)
	c := s.connect(40000, 445)
	w := &smbWriter{g: s.g, c: c, session: 7, tree: 1}
	all := smb2.FileID{}
	for i := range all {
		all[i] = 0xFF
	}
	id := smb2.FileID{5}
	request, response := s.call(0, 3)
	second, secondResponse := s.call(1, 4)
	ask := func(command smb2.Command, body []byte, related bool) []byte {
		w.id++
		m := w.message(command, 0, 0, body)
		if related {
			binary.LittleEndian.PutUint32(m[netbiosHeader+16:], smb2.FlagRelated)
			binary.LittleEndian.PutUint64(m[netbiosHeader+40:], relatedSession)
			binary.LittleEndian.PutUint32(m[netbiosHeader+36:], 0xFFFFFFFF)
		}
		return m
	}
	tell := func(command smb2.Command, status uint32, body []byte) []byte {
		w.id++
		return w.message(command, smb2.FlagResponse, status, body)
	}
	c.send(0, compound(
		ask(smb2.Create, smb2Create("FssagentRpc"), false),
		ask(smb2.Write, smb2Write(all, append(genBind(2), request...)), true),
		ask(smb2.Read, smb2Read(all), true),
		ask(smb2.Read, smb2Read(all), true),
		ask(smb2.IOCTL, smb2IOCTL(all, second), true),
		ask(smb2.Close, smb2Close(all), true),
	), ofNothing, false)
	w.id = 0
	answer := append(genBindAck(2), response...)
	c.send(1, compound(
		tell(smb2.Create, 0, smb2CreateResponse(id)),
		tell(smb2.Write, 0, smb2Zero(16)),
		tell(smb2.Read, smb2.StatusBufferOverflow, smb2ReadResponse(answer[:25])),
		tell(smb2.Read, 0, smb2ReadResponse(answer[25:])),
		tell(smb2.IOCTL, 0, smb2IOCTLResponse(id, secondResponse)),
		tell(smb2.Close, 0, smb2Zero(60)),
	), ofNothing, true)
	calls, sum := s.decode(nil)
	requireCalls(t, 2, calls)
	require.Empty(t, sum.Problems)
}

// TestChannels opens a pipe on one connection of a session and uses it on another (multichannel).
func TestChannels(t *testing.T) {
	s := newScript(t)
	guid := smb2Zero(64)
	binary.LittleEndian.PutUint16(guid[4:], smb2.Dialect311)
	copy(guid[8:], "the same server!")
	writers := make([]*smbWriter, 2)
	for i := range writers {
		c := s.connect(40000+uint16(i), 445)
		c.ends[1].ip = net.IPv4(10, 0, 0, byte(2+i)) // the server has several addresses
		c.queue = nil
		c.handshake()
		writers[i] = &smbWriter{g: s.g, c: c, session: 7, tree: 1}
		writers[i].exchange(ofSetup, smb2.Negotiate, smb2Zero(36), guid)
	}
	id := smb2.FileID{5}
	writers[0].exchange(ofSetup, smb2.SessionSetup, smb2Zero(24), smb2Zero(8))
	writers[0].open("FssagentRpc", id)
	request, response := s.call(0, 2)
	writers[0].pipe(0, true, id, request, response)
	s.flush(writers[0].c)
	request, response = s.call(1, 3)
	writers[1].pipe(1, false, id, request, response)
	s.flush(writers[1].c)
	calls, sum := s.decode(nil)
	requireCalls(t, 2, calls)
	require.Empty(t, sum.Problems)
	require.EqualValues(t, 1, sum.Associations)
	require.EqualValues(t, 2, sum.Connections)
}

// TestNetBIOS has what comes before SMB on port 139, and SMB 1's negotiation before SMB 2's.
func TestNetBIOS(t *testing.T) {
	s := newScript(t)
	c := s.connect(40000, 139)
	c.send(0, append([]byte{netbiosRequest, 0, 0, 68}, make([]byte, 68)...), ofNothing, false)
	c.send(1, []byte{netbiosPositive, 0, 0, 0}, ofNothing, false)
	smb1 := append([]byte{0, 0, 0, 40}, smb2.MagicSMB1...)
	smb1 = append(append(smb1, smb1Negotiate), make([]byte, 35)...)
	c.send(0, smb1, ofNothing, false)
	w := &smbWriter{g: s.g, c: c, session: 7, tree: 1}
	w.open("FssagentRpc", smb2.FileID{1})
	c.send(0, []byte{netbiosKeepAlive, 0, 0, 0}, ofNothing, false)
	request, response := s.call(0, 2)
	w.pipe(0, true, smb2.FileID{1}, request, response)
	calls, sum := s.decode(nil)
	requireCalls(t, 1, calls)
	require.Empty(t, sum.Problems)
}

// TestDialects says what it cannot read.
func TestDialects(t *testing.T) {
	for name, message := range map[string]string{
		"SMB 1":            smb2.MagicSMB1 + "\x73",
		"compressed SMB 3": smb2.MagicCompressed,
	} {
		s := newScript(t)
		c := s.connect(40000, 445)
		b := append([]byte(message), make([]byte, 60)...)
		c.send(0, append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...), ofNothing, false)
		calls, sum := s.decode(nil)
		require.Empty(t, calls)
		require.Len(t, sum.Problems, 1)
		require.Equal(t, ErrDialect, sum.Problems[0].Reason)
		require.Equal(t, name, sum.Problems[0].Detail)
	}
}

// TestBindRefused covers both ways of a refusal, and a bind that offers something else.
func TestBindRefused(t *testing.T) {
	nak := pdu.NewBindNak(1, pdu.NakLocalLimitExceeded)
	rejected := pdu.BindAck{
		Header:  pdu.Header{CallID: 1},
		Results: []pdu.ContextResult{{Result: pdu.ProviderRejection, Reason: pdu.AbstractSyntaxNotSupported}},
	}
	for want, answer := range map[string][]byte{
		"bind_nak, local_limit_exceeded":                    must(nak.AppendBinary(nil)),
		"provider_rejection, abstract_syntax_not_supported": must(rejected.AppendBinary(nil)),
	} {
		s := newScript(t)
		c := s.connect(40000, 5555)
		c.send(0, genBind(1), ofNothing, false)
		c.send(1, answer, ofNothing, true)
		_, sum := s.decode(nil)
		require.Len(t, sum.Problems, 1)
		require.Equal(t, ErrRefused, sum.Problems[0].Reason)
		require.Equal(t, want, sum.Problems[0].Detail)
	}
}

// TestUnanswered yields what nobody answered, and faults.
func TestUnanswered(t *testing.T) {
	s := newScript(t)
	c := s.connect(40000, 5555)
	c.send(0, genBind(1), ofNothing, false)
	c.send(1, genBindAck(1), ofNothing, true)
	for i := range 3 {
		request, _ := s.call(i, uint32(2+i))
		c.send(0, request, ofNothing, false)
	}
	fault := pdu.Fault{
		Header: pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag | pdu.DidNotExecute, CallID: 3},
		Status: pdu.FaultAccessDenied,
	}
	c.send(1, must(fault.AppendBinary(nil)), ofNothing, true)
	calls, sum := s.decode(nil)
	require.Len(t, calls, 3)
	require.Equal(t, pdu.FaultAccessDenied, calls[0].Fault.Status)
	require.True(t, calls[0].Fault.DidNotExecute)
	require.True(t, calls[0].Answered())
	require.NoError(t, calls[0].ResponseErr)
	require.Equal(t, error(calls[0].Fault), calls[0].Err())
	for i, c := range calls[1:] {
		require.Equal(t, []int{0, 2}[i], genID(c.Request))
		require.ErrorIs(t, c.ResponseErr, ErrUnanswered)
		require.False(t, c.Answered())
		_, ok := c.Status()
		require.False(t, ok)
	}
	require.EqualValues(t, 1, sum.Faults)
	require.EqualValues(t, 2, sum.Unanswered)
	require.Zero(t, sum.Unreadable)
	require.Empty(t, sum.Problems)
}

// TestSyntaxes has calls in NDR64, negotiated, and found out where the bind is missing.
func TestSyntaxes(t *testing.T) {
	for _, bound := range []bool{true, false} {
		t.Run(fmt.Sprint("bind ", bound), func(t *testing.T) {
			s := newScript(t)
			c := s.connect(40000, 5555)
			if bound {
				bind := pdu.Bind{
					Header:  pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 1},
					MaxXmit: 4280, MaxRecv: 4280,
					Contexts: []pdu.ContextElement{
						{ID: 0, Abstract: fsrvp.Interface(), Transfer: []pdu.SyntaxID{pdu.NDR20()}},
						{ID: 1, Abstract: fsrvp.Interface(), Transfer: []pdu.SyntaxID{pdu.NDR64()}},
						{ID: 2, Abstract: fsrvp.Interface(), Transfer: []pdu.SyntaxID{pdu.FeatureSyntax(3)}},
					},
				}
				ack := pdu.BindAck{
					Header: pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 1},
					Results: []pdu.ContextResult{
						{Result: pdu.ProviderRejection, Reason: pdu.ProposedTransferSyntaxesUnsupported},
						{Result: pdu.Acceptance, Transfer: pdu.NDR64()},
						{Result: pdu.NegotiateAck, Reason: 3},
					},
				}
				c.send(0, must(bind.AppendBinary(nil)), ofNothing, false)
				c.send(1, must(ack.AppendBinary(nil)), ofNothing, true)
			}
			req, resp := genMessages(0)
			c.send(0, s.g.fragments(pdu.Fragmenter{Type: pdu.TypeRequest, CallID: 3, ContextID: 1,
				Opnum:   uint16(req.Opnum()),
				MaxXmit: 4280, Stub: must(req.Append(nil, ndr.NDR64))}), ofNothing, false)
			c.send(1, s.g.fragments(pdu.Fragmenter{Type: pdu.TypeResponse, CallID: 3, ContextID: 1,
				MaxXmit: 4280, Stub: must(resp.Append(nil, ndr.NDR64))}), ofNothing, true)
			calls, sum := s.decode(nil)
			if len(calls) == 0 && !bound && sum.Problems[0].Reason == ErrMidstream {
				return // the request had several fragments: nothing to guess from
			}
			requireCalls(t, 1, calls)
			require.Empty(t, sum.Problems)
			require.Equal(t, ndr.NDR64, calls[0].Syntax)
			require.Equal(t, ndr.NDR64, calls[0].ResponseSyntax)
			require.Equal(t, !bound, calls[0].Assumed)
		})
	}
}

// TestVerificationTrailer takes the trailer off the stub.
func TestVerificationTrailer(t *testing.T) {
	s := newScript(t)
	c := s.connect(40000, 5555)
	c.send(0, genBind(1), ofNothing, false)
	c.send(1, genBindAck(1), ofNothing, true)
	req, resp := genMessages(0)
	stub := must(req.Append(nil, ndr.NDR20))
	p := pdu.Request{Header: pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 2}, Opnum: uint16(req.Opnum())}
	p.Stub = must(pdu.NewVerificationTrailer(&p, fsrvp.Interface(), pdu.NDR20(),
		false).AppendBinary(stub[:len(stub):len(stub)], 0))
	c.send(0, must(p.AppendBinary(nil)), ofNothing, false)
	q := pdu.Response{Header: pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 2},
		Stub: must(resp.Append(nil, ndr.NDR20))}
	c.send(1, must(q.AppendBinary(nil)), ofNothing, true)
	calls, _ := s.decode(nil)
	requireCalls(t, 1, calls)
	require.Equal(t, stub, calls[0].RequestStub[:len(stub)])
	require.Less(t, len(calls[0].RequestStub)-len(stub), 4)
	require.Equal(t, q.Stub, calls[0].ResponseStub)
}

// TestBadStub yields calls whose stubs are no messages, with the stubs.
func TestBadStub(t *testing.T) {
	s := newScript(t)
	c := s.connect(40000, 5555)
	c.send(0, genBind(1), ofNothing, false)
	c.send(1, genBindAck(1), ofNothing, true)
	p := pdu.Request{Header: pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 2}, Opnum: 8,
		Stub: []byte{1, 2, 3}}
	c.send(0, must(p.AppendBinary(nil)), ofNothing, false)
	q := pdu.Response{Header: p.Header, Stub: []byte{4}}
	c.send(1, must(q.AppendBinary(nil)), ofNothing, true)
	p = pdu.Request{Header: pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 3}, Opnum: 13, Stub: []byte{}}
	c.send(0, must(p.AppendBinary(nil)), ofNothing, false)
	calls, sum := s.decode(nil)
	require.Len(t, calls, 2)
	require.ErrorIs(t, calls[0].RequestErr, ErrStub)
	require.ErrorIs(t, calls[0].ResponseErr, ErrStub)
	require.Equal(t, []byte{1, 2, 3}, calls[0].RequestStub)
	require.Equal(t, []byte{4}, calls[0].ResponseStub)
	require.ErrorIs(t, calls[1].RequestErr, ErrStub)
	require.EqualValues(t, 2, sum.Unreadable)
}

// TestBindMissing has an association of which the answer to the bind was captured and the bind was
// not.
func TestBindMissing(t *testing.T) {
	s := newScript(t)
	c := s.connect(40000, 5555)
	c.send(1, genBindAck(1), ofNothing, true)
	for i, op := range []int{0, 1, 2} { // the first names a share, which tells what the others are
		req, resp := genMessages(op)
		for from, m := range []fsrvp.Message{req, resp} {
			f := pdu.Fragmenter{CallID: uint32(2 + i), MaxXmit: 4280, Opnum: uint16(m.Opnum()),
				Stub: must(m.Append(nil, ndr.NDR20))}
			f.Type = []pdu.Type{pdu.TypeRequest, pdu.TypeResponse}[from]
			p, err := f.Next(nil)
			require.NoError(t, err)
			c.send(from, p.PDU, ofNothing, from == 1)
		}
	}
	calls, sum := s.decode(nil)
	requireCalls(t, 3, calls)
	require.Empty(t, sum.Problems)
	require.True(t, calls[0].Assumed)
}

// TestSummaryOfSeveral adds up what several files held, and numbers packets in each.
func TestSummaryOfSeveral(t *testing.T) {
	var sum Summary
	for range 2 {
		b, err := os.ReadFile(find(t, "12").file)
		require.NoError(t, err)
		for c, err := range Calls(bytes.NewReader(b), &Config{Summary: &sum}) {
			require.NoError(t, err)
			require.EqualValues(t, 8, c.Packet)
			require.EqualValues(t, 1, c.Association)
		}
	}
	require.Equal(t, Summary{Packets: 24, Bytes: 2 * 1068, TCP: 24, Connections: 2, Associations: 2, Calls: 2}, sum)
}

// TestAlterContext adds the interface to an association of another one, in both syntaxes, and makes
// calls of all three contexts. Those of the other interface are passed over.
func TestAlterContext(t *testing.T) {
	s := newScript(t)
	c := s.connect(40000, 49152)
	flags := pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 1}
	other := pdu.SyntaxID{UUID: uuid.MustParse("4b324fc8-1670-01d3-1278-5a47bf6ee188"), Major: 3} // srvsvc
	bind := pdu.Bind{Header: flags, MaxXmit: 4280, MaxRecv: 4280,
		Contexts: []pdu.ContextElement{{Abstract: other, Transfer: []pdu.SyntaxID{pdu.NDR20()}}}}
	alter := pdu.AlterContext{Header: flags, MaxXmit: 4280, MaxRecv: 4280, Contexts: []pdu.ContextElement{
		{ID: 5, Abstract: fsrvp.Interface(), Transfer: []pdu.SyntaxID{pdu.NDR20()}},
		{ID: 6, Abstract: fsrvp.Interface(), Transfer: []pdu.SyntaxID{pdu.NDR64()}},
	}}
	alter.CallID = 2
	resp := pdu.AlterContextResp{Header: flags, MaxXmit: 4280, MaxRecv: 4280,
		Results: []pdu.ContextResult{{Transfer: pdu.NDR20()}, {Transfer: pdu.NDR64()}}}
	resp.CallID = 2
	c.send(0, must(bind.AppendBinary(nil)), ofNothing, false)
	c.send(1, genBindAck(1), ofNothing, true)
	c.send(0, must(alter.AppendBinary(nil)), ofNothing, false)
	c.send(1, must(resp.AppendBinary(nil)), ofNothing, true)
	syntaxes := map[uint16]ndr.Syntax{0: ndr.NDR20, 5: ndr.NDR20, 6: ndr.NDR64}
	want := 0
	for i := range 9 {
		id := []uint16{0, 5, 6}[i%3]
		req, answer := genMessages(i)
		for dir, p := range []pdu.Fragmenter{
			{Type: pdu.TypeRequest, CallID: uint32(i + 3), ContextID: id, Opnum: uint16(req.Opnum()), MaxXmit: 4280, Stub: must(req.Append(nil, syntaxes[id]))},
			{Type: pdu.TypeResponse, CallID: uint32(i + 3), ContextID: id, MaxXmit: 4280, Stub: must(answer.Append(nil, syntaxes[id]))},
		} {
			f, err := p.Next(nil)
			require.NoError(t, err)
			c.send(dir, f.PDU, ofNothing, dir == 1)
		}
		if id != 0 {
			want++
		}
	}
	calls, sum := s.decode(nil)
	require.Empty(t, sum.Problems)
	require.Len(t, calls, want)
	for _, call := range calls {
		req, answer := genMessages(int(call.CallID) - 3)
		require.Equal(t, req, call.Request)
		require.Equal(t, answer, call.Response)
		require.Equal(t, syntaxes[call.ContextID], call.Syntax)
	}
}
