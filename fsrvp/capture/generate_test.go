package capture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture/internal/smb2"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A generator is an io.Reader of a pcap file: many connections at once, over SMB and TCP and with
// other things in them, from which segments are lost, doubled and delayed. It knows which of its
// calls are whole.
type generator struct {
	rng    *rand.Rand
	size   int     // bytes after which no connection is opened any more
	damage float64 // part of the segments that are lost, doubled or delayed

	out     bytes.Buffer
	w       *pcapgo.Writer
	written int
	clock   time.Time
	active  []*conversation
	delayed []delayedPacket
	ports   uint16
	hosts   int

	lost, doubled, late int
	calls               []genCall
}

// A genCall is what became of one call.
type genCall struct {
	damaged bool // a segment of it was lost
	setup   bool // one that opened its association was
	answer  bool // only one of its response was
	found   bool // for the test's use
}

type delayedPacket struct {
	data  []byte
	after int // packets
}

// A conversation is one TCP connection: the packets that it still has to send.
type conversation struct {
	ends  [2]endpoint
	queue []genPacket
	ids   []int // its calls
}

type endpoint struct {
	ip   net.IP
	port uint16
	seq  uint32
}

// A genPacket belongs to a call, to the setup of all calls of its connection (-1), or to nothing
// (-2).
type genPacket struct {
	data   []byte
	call   int
	answer bool
}

const (
	ofSetup   = -1
	ofNothing = -2
)

func newGenerator(size int, damage float64, seed uint64) *generator {
	g := &generator{
		rng:    rand.New(rand.NewPCG(seed, 1)),
		size:   size,
		damage: damage,
		clock:  time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC),
		ports:  1024,
	}
	g.w = pcapgo.NewWriterNanos(&g.out)
	if err := g.w.WriteFileHeader(65536, layers.LinkTypeEthernet); err != nil {
		panic(err)
	}
	return g
}

// Read implements io.Reader.
func (g *generator) Read(b []byte) (int, error) {
	for g.out.Len() == 0 {
		if !g.step() {
			return 0, io.EOF
		}
	}
	return g.out.Read(b)
}

// step writes one packet.
func (g *generator) step() bool {
	for i := 0; i < len(g.delayed); i++ {
		if d := &g.delayed[i]; d.after == 0 {
			g.write(d.data)
			g.delayed = append(g.delayed[:i], g.delayed[i+1:]...)
			return true
		}
	}
	for len(g.active) < 40 && g.written < g.size {
		g.active = append(g.active, g.converse())
	}
	if len(g.active) == 0 {
		for i := range g.delayed {
			g.delayed[i].after = 0
		}
		return len(g.delayed) > 0
	}
	i := g.rng.IntN(len(g.active))
	c := g.active[i]
	p := c.queue[0]
	if c.queue = c.queue[1:]; len(c.queue) == 0 {
		g.active = append(g.active[:i], g.active[i+1:]...)
	}
	g.emit(c, p)
	return true
}

// emit writes, doubles, delays or loses a packet.
func (g *generator) emit(c *conversation, p genPacket) {
	if p.call == ofNothing || g.rng.Float64() >= g.damage {
		g.write(p.data)
		return
	}
	switch g.rng.IntN(3) {
	case 0:
		g.lost++
		switch {
		case p.call == ofSetup:
			for _, id := range c.ids {
				g.calls[id].setup = true
			}
		case p.answer:
			g.calls[p.call].answer = true
		default:
			g.calls[p.call].damaged = true
		}
	case 1:
		g.doubled++
		g.write(p.data)
		g.write(p.data)
	case 2:
		g.late++
		g.delayed = append(g.delayed, delayedPacket{p.data, 1 + g.rng.IntN(100)})
	}
}

func (g *generator) write(data []byte) {
	for i := range g.delayed {
		if g.delayed[i].after > 0 {
			g.delayed[i].after--
		}
	}
	g.clock = g.clock.Add(time.Duration(g.rng.IntN(20)) * time.Microsecond)
	ci := gopacket.CaptureInfo{Timestamp: g.clock, CaptureLength: len(data), Length: len(data)}
	if err := g.w.WritePacket(ci, data); err != nil {
		panic(err)
	}
	g.written += len(data) + 16
}

// converse makes a connection.
func (g *generator) converse() *conversation {
	g.hosts++
	if g.ports++; g.ports == 0 {
		g.ports = 1024
	}
	c := &conversation{ends: [2]endpoint{
		{net.IPv4(10, byte(g.hosts>>16), byte(g.hosts>>8), byte(g.hosts)), g.ports, g.rng.Uint32()},
		{net.IPv4(192, 168, 1, byte(1+g.rng.IntN(5))), 445, g.rng.Uint32()},
	}}
	switch g.rng.IntN(10) {
	case 0:
		c.ends[1].port = 80
		c.handshake()
		g.web(c)
	case 1, 2:
		c.ends[1].port = 49152
		c.handshake()
		g.rpc(c)
	default:
		c.handshake()
		g.smb(c)
	}
	c.fin()
	return c
}

// web is a connection of no interest.
func (g *generator) web(c *conversation) {
	for range 5 {
		c.send(0, []byte("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"), ofNothing, false)
		c.send(1, append([]byte("HTTP/1.1 200 OK\r\n\r\n"), make([]byte, 3000)...), ofNothing, false)
	}
}

// newCall makes request and response of a call with the next number.
func (g *generator) newCall(c *conversation) (id int, request, response []byte, op fsrvp.Opnum) {
	id = len(g.calls)
	g.calls = append(g.calls, genCall{})
	c.ids = append(c.ids, id)
	req, resp := genMessages(id)
	return id, must(req.Append(nil, ndr.NDR20)), must(resp.Append(nil, ndr.NDR20)), req.Opnum()
}

// genMessages says what call number id asks and answers.
func genMessages(id int) (fsrvp.Message, fsrvp.Response) {
	var set fsrvp.SetID
	binary.BigEndian.PutUint64(set[8:], uint64(id))
	switch id % 3 {
	case 0:
		return &fsrvp.IsPathSupportedRequest{ShareName: ndr.WTF8(fmt.Sprintf(`\\fs\share-%d`, id))},
			&fsrvp.IsPathSupportedResponse{SupportedByThisProvider: 1,
				OwnerMachineName: ndr.NullString{String: fmt.Sprintf("FS-%d", id), Valid: true}}
	case 1:
		return &fsrvp.StartShadowCopySetRequest{ClientShadowCopySetID: set},
			&fsrvp.StartShadowCopySetResponse{ShadowCopySetID: set, Return: fsrvp.Status(id)}
	}
	return &fsrvp.CommitShadowCopySetRequest{ShadowCopySetID: set, TimeOutInMilliseconds: uint32(id)},
		&fsrvp.CommitShadowCopySetResponse{StatusResponse: fsrvp.StatusResponse{Return: fsrvp.Status(id)}}
}

// genID returns the number of a call from its request.
func genID(m fsrvp.Message) int {
	switch m := m.(type) {
	case *fsrvp.IsPathSupportedRequest:
		_, digits, _ := strings.Cut(string(m.ShareName), "share-")
		if id, err := strconv.Atoi(digits); err == nil {
			return id
		}
	case *fsrvp.StartShadowCopySetRequest:
		return int(binary.BigEndian.Uint64(m.ClientShadowCopySetID[8:]))
	case *fsrvp.CommitShadowCopySetRequest:
		return int(binary.BigEndian.Uint64(m.ShadowCopySetID[8:]))
	}
	return -1
}

func genBind(callID uint32) []byte {
	p := pdu.Bind{
		Header:   pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: callID},
		MaxXmit:  4280,
		MaxRecv:  4280,
		Contexts: []pdu.ContextElement{{Abstract: fsrvp.Interface(), Transfer: []pdu.SyntaxID{pdu.NDR20()}}},
	}
	return must(p.AppendBinary(nil))
}

func genBindAck(callID uint32) []byte {
	p := pdu.BindAck{
		Header:           pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: callID},
		MaxXmit:          4280,
		MaxRecv:          4280,
		SecondaryAddress: "1\x00",
		Results:          []pdu.ContextResult{{Transfer: pdu.NDR20()}},
	}
	return must(p.AppendBinary(nil))
}

// fragments returns the PDUs of a stub, of which some have several.
func (g *generator) fragments(f pdu.Fragmenter) []byte {
	f.MaxXmit = 4280
	if g.rng.IntN(10) == 0 {
		f.MaxXmit = 64
	}
	var out []byte
	for f.More() {
		p, err := f.Next(nil)
		if err != nil {
			panic(err)
		}
		out = append(out, p.PDU...)
	}
	return out
}

// rpc is ncacn_ip_tcp.
func (g *generator) rpc(c *conversation) {
	c.send(0, genBind(1), ofSetup, false)
	c.send(1, genBindAck(1), ofSetup, false)
	for i := range uint32(20) {
		id, request, response, op := g.newCall(c)
		c.send(0, g.fragments(pdu.Fragmenter{Type: pdu.TypeRequest, CallID: i + 2, Opnum: uint16(op), Stub: request}),
			id, false)
		c.send(1, g.fragments(pdu.Fragmenter{Type: pdu.TypeResponse, CallID: i + 2, Stub: response}), id, true)
	}
}

// smb is ncacn_np, in one of the ways in which clients use a pipe, with files being read in
// between.
func (g *generator) smb(c *conversation) {
	s := smbWriter{g: g, c: c, session: g.rng.Uint64() | 1, tree: 7}
	pipe := smb2.FileID{1, byte(len(c.ids)), 3}
	file := smb2.FileID{9, 9}
	s.exchange(ofSetup, smb2.TreeConnect, smb2Zero(8), smb2Body(16, 16, 2, 2))
	s.exchange(ofSetup, smb2.Create, smb2Create(fsrvp.PipeName), smb2CreateResponse(pipe))
	transceive := g.rng.IntN(2) == 0
	s.pipe(ofSetup, transceive, pipe, genBind(1), genBindAck(1))
	for i := range uint32(15) {
		id, request, response, op := g.newCall(c)
		s.pipe(id, transceive, pipe,
			g.fragments(pdu.Fragmenter{Type: pdu.TypeRequest, CallID: i + 2, Opnum: uint16(op), Stub: request}),
			g.fragments(pdu.Fragmenter{Type: pdu.TypeResponse, CallID: i + 2, Stub: response}))
		if g.rng.IntN(10) == 0 {
			s.exchange(ofNothing, smb2.Read, smb2Read(file), smb2ReadResponse(make([]byte, 20000)))
		}
	}
	s.exchange(ofNothing, smb2.Close, smb2Close(pipe), smb2Zero(60))
}

// An smbWriter writes the messages of one session.
type smbWriter struct {
	g       *generator
	c       *conversation
	session uint64
	tree    uint32
	id      uint64
}

// exchange sends a request and its response, some of them after an interim one.
func (s *smbWriter) exchange(call int, command smb2.Command, request, response []byte) {
	s.c.send(0, s.message(command, 0, smb2.StatusSuccess, request), call, false)
	if s.g.rng.IntN(5) == 0 {
		s.c.send(1, s.message(command, smb2.FlagResponse|smb2.FlagAsync, smb2.StatusPending, smb2Zero(9)), ofNothing,
			false)
		s.c.send(1, s.message(command, smb2.FlagResponse|smb2.FlagAsync, smb2.StatusSuccess, response), call, true)
	} else {
		s.c.send(1, s.message(command, smb2.FlagResponse, smb2.StatusSuccess, response), call, true)
	}
	s.id++
}

// pipe writes and reads a pipe, in one message or two of each side.
func (s *smbWriter) pipe(call int, transceive bool, id smb2.FileID, request, response []byte) {
	if transceive {
		s.exchange(call, smb2.IOCTL, smb2IOCTL(id, request), smb2IOCTLResponse(id, response))
		return
	}
	s.exchange(call, smb2.Write, smb2Write(id, request), smb2Zero(16))
	s.exchange(call, smb2.Read, smb2Read(id), smb2ReadResponse(response))
}

func (s *smbWriter) message(command smb2.Command, flags, status uint32, body []byte) []byte {
	b := make([]byte, netbiosHeader+smb2.HeaderSize, netbiosHeader+smb2.HeaderSize+len(body))
	binary.BigEndian.PutUint32(b, uint32(smb2.HeaderSize+len(body)))
	h := b[netbiosHeader:]
	copy(h, smb2.Magic)
	binary.LittleEndian.PutUint16(h[4:], smb2.HeaderSize)
	binary.LittleEndian.PutUint32(h[8:], status)
	binary.LittleEndian.PutUint16(h[12:], uint16(command))
	binary.LittleEndian.PutUint32(h[16:], flags)
	binary.LittleEndian.PutUint64(h[24:], s.id)
	binary.LittleEndian.PutUint32(h[36:], s.tree)
	binary.LittleEndian.PutUint64(h[40:], s.session)
	return append(b, body...)
}

func smb2Zero(n int) []byte { return make([]byte, n) }

// smb2Body returns n bytes with a size in the first two and a value in one other.
func smb2Body(n, size, at int, v byte) []byte {
	b := make([]byte, n)
	binary.LittleEndian.PutUint16(b, uint16(size))
	b[at] = v
	return b
}

func smb2Create(name string) []byte {
	b := make([]byte, 56, 56+2*len(name))
	binary.LittleEndian.PutUint16(b[44:], smb2.HeaderSize+56)
	binary.LittleEndian.PutUint16(b[46:], uint16(2*len(name)))
	for _, c := range []byte(name) {
		b = append(b, c, 0)
	}
	return b
}

func smb2CreateResponse(id smb2.FileID) []byte {
	b := make([]byte, 88)
	copy(b[64:], id[:])
	return b
}

func smb2Close(id smb2.FileID) []byte {
	b := make([]byte, 24)
	copy(b[8:], id[:])
	return b
}

func smb2Read(id smb2.FileID) []byte {
	b := make([]byte, 49)
	copy(b[16:], id[:])
	return b
}

func smb2ReadResponse(data []byte) []byte {
	b := make([]byte, 16, 16+len(data))
	b[2] = smb2.HeaderSize + 16
	binary.LittleEndian.PutUint32(b[4:], uint32(len(data)))
	return append(b, data...)
}

func smb2Write(id smb2.FileID, data []byte) []byte {
	b := make([]byte, 48, 48+len(data))
	binary.LittleEndian.PutUint16(b[2:], smb2.HeaderSize+48)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(data)))
	copy(b[16:], id[:])
	return append(b, data...)
}

func smb2IOCTL(id smb2.FileID, data []byte) []byte {
	b := make([]byte, 56, 56+len(data))
	binary.LittleEndian.PutUint32(b[4:], smb2.FSCTLPipeTransceive)
	copy(b[8:], id[:])
	binary.LittleEndian.PutUint32(b[24:], smb2.HeaderSize+56)
	binary.LittleEndian.PutUint32(b[28:], uint32(len(data)))
	return append(b, data...)
}

func smb2IOCTLResponse(id smb2.FileID, data []byte) []byte {
	b := make([]byte, 48, 48+len(data))
	binary.LittleEndian.PutUint32(b[4:], smb2.FSCTLPipeTransceive)
	copy(b[8:], id[:])
	binary.LittleEndian.PutUint32(b[32:], smb2.HeaderSize+48)
	binary.LittleEndian.PutUint32(b[36:], uint32(len(data)))
	return append(b, data...)
}

// handshake opens the connection.
func (c *conversation) handshake() {
	c.packet(0, nil, layers.TCP{SYN: true}, ofNothing, false)
	c.ends[0].seq++
	c.packet(1, nil, layers.TCP{SYN: true, ACK: true}, ofNothing, false)
	c.ends[1].seq++
	c.packet(0, nil, layers.TCP{ACK: true}, ofNothing, false)
}

// fin closes it.
func (c *conversation) fin() {
	for i := range 2 {
		c.packet(i, nil, layers.TCP{FIN: true, ACK: true}, ofNothing, false)
		c.ends[i].seq++
	}
	c.packet(0, nil, layers.TCP{ACK: true}, ofNothing, false)
}

// send sends data in segments, and the acknowledgement.
func (c *conversation) send(from int, data []byte, call int, answer bool) {
	for len(data) > 0 {
		n := min(len(data), 1448)
		c.packet(from, data[:n], layers.TCP{ACK: true, PSH: true}, call, answer)
		c.ends[from].seq += uint32(n)
		data = data[n:]
	}
	c.packet(1-from, nil, layers.TCP{ACK: true}, ofNothing, false)
}

func (c *conversation) packet(from int, data []byte, tcp layers.TCP, call int, answer bool) {
	src, dst := &c.ends[from], &c.ends[1-from]
	tcp.SrcPort, tcp.DstPort = layers.TCPPort(src.port), layers.TCPPort(dst.port)
	tcp.Seq, tcp.Window = src.seq, 65535
	if tcp.ACK {
		tcp.Ack = dst.seq
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true},
		&layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6),
			EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: src.ip, DstIP: dst.ip},
		&tcp, gopacket.Payload(data))
	if err != nil {
		panic(err)
	}
	c.queue = append(c.queue, genPacket{b.Bytes(), call, answer})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
