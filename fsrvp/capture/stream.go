package capture

import (
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/reassembly"
)

// maxWaiting is the number of segments of one direction that may wait for a missing one before that
// is given up. Segments of more than 1900 bytes count as several.
const maxWaiting = 128

// pageSize is the memory that gopacket uses for a waiting segment, with its description.
const pageSize = 2200

// streams puts the segments of all TCP connections in order: flows, which are cheap, handle
// segments that arrive in order, and gopacket's reassembly the others.
type streams struct {
	d         *decoder
	assembler *reassembly.Assembler
	flows     map[flowKey]*flow
	last      *flow   // that of the segment before
	made      uint64  // flows
	adopt     *stream // the stream that New passes to the assembler
	resumes   bool    // the assembler is being brought to a flow's position
	allSlow   bool    // for tests: the assembler takes all segments
	count     int
	spare     *segment // for the next packet
	kept      bool     // the assembler keeps the current one
	padded    []byte   // payload of a truncated packet
}

func (s *streams) init(d *decoder) {
	s.d = d
	s.flows = make(map[flowKey]*flow)
	s.spare = newSegment()
	s.assembler = reassembly.NewAssembler(reassembly.NewStreamPool(s))
	s.assembler.MaxBufferedPagesPerConnection = maxWaiting
	s.assembler.MaxBufferedPagesTotal = max(maxWaiting, d.cfg.MaxBuffered/pageSize)
}

// A segment is what is needed of a packet when its bytes come out of the reassembly, perhaps later.
type segment struct {
	info     gopacket.CaptureInfo // its AncillaryData is the segment itself
	self     [1]any
	at       moment
	seq, ack uint32
	size     int
	cut      int // the number of bytes at the end that were not captured
}

func newSegment() *segment {
	s := new(segment)
	s.self[0] = s
	return s
}

// GetCaptureInfo implements reassembly.AssemblerContext.
func (s *segment) GetCaptureInfo() gopacket.CaptureInfo { return s.info }

// segment takes one packet.
func (s *streams) segment(p packet, tcp *layers.TCP, ci gopacket.CaptureInfo) {
	if len(tcp.Payload)+p.cut == 0 && !tcp.SYN && !tcp.FIN && !tcp.RST {
		return // half of all packets only acknowledge
	}
	if p.cut > 0 {
		// Zeros replace bytes that were not captured, so that the rest stays in step.
		s.padded = append(append(s.padded[:0], tcp.Payload...), make([]byte, p.cut)...)
		tcp.Payload = s.padded
	}
	g := s.spare
	*g = segment{info: ci, self: g.self, at: s.d.now, seq: tcp.Seq, ack: tcp.Ack, size: len(tcp.Payload), cut: p.cut}
	g.info.AncillaryData = g.self[:]
	f, dir := s.flow(p, tcp, ci.Timestamp)
	if f == nil {
		return
	}
	if !f.slow {
		if !s.allSlow && f.inOrder(dir, tcp, g) {
			return
		}
		s.giveUp(f, p.flow, tcp, dir)
	}
	s.kept = false
	s.assembler.AssembleWithContext(p.flow, tcp, g)
	s.adopt = nil
	if s.kept {
		s.spare = newSegment()
	}
}

// New implements reassembly.StreamFactory: the assembler takes a flow over.
func (s *streams) New(gopacket.Flow, gopacket.Flow, *layers.TCP, reassembly.AssemblerContext) reassembly.Stream {
	return s.adopt
}

// newStream returns the stream of a new connection for its first segment; nil if there are too
// many.
func (s *streams) newStream(network gopacket.Flow, tcp *layers.TCP) *stream {
	if s.count >= s.d.cfg.MaxConnections {
		s.d.problem(ErrLimit, "MaxConnections", netip.AddrPort{}, netip.AddrPort{})
		return nil
	}
	s.count++
	c := &stream{d: s.d}
	c.buffers.budget = &s.d.buffers
	c.ends[0], c.ends[1] = addresses(network, tcp)
	switch {
	case tcp.SYN && !tcp.ACK:
		c.oriented = true
	case tcp.SYN:
		c.client, c.oriented = 1, true
	case c.ends[0].Port() < c.ends[1].Port():
		c.client = 1 // assume that the server has the lower port, until the bytes show otherwise
	}
	return c
}

// A stream is one TCP connection: both of its directions, in the order in which the ends must have
// seen them.
//
// gopacket orders each direction separately. If a segment is missing, its direction stops for a
// while and the other does not, so responses would overtake their requests. Therefore bytes are
// held back until everything that their sender had acknowledged has come out of the other
// direction, or was given up.
type stream struct {
	d        *decoder
	flow     *flow
	ends     [2]netip.AddrPort // by direction: the sender
	client   int               // the direction in which the client sends
	oriented bool              // client is certain
	midway   bool              // the connection is older than the capture
	ignored  bool
	tried    int // chunks in which no protocol was recognized
	halves   [2]half
	buffers  account
	protocol protocol // nil until recognized
}

// A protocol decodes a connection. Bytes come in order.
type protocol interface {
	// data takes the next bytes of one direction, which are valid during the call and may be
	// changed.
	data(fromClient bool, b []byte, at moment)
	// hole says that n bytes are missing, with ErrLost or ErrCut as the reason.
	hole(fromClient bool, n int, why Reason, at moment)
	close()
}

// A half is one direction.
type half struct {
	known bool   // the numbers below are
	in    uint32 // next sequence number out of the reassembly
	out   uint32 // next sequence number to the protocol
	acked uint32 // the other end has acknowledged bytes up to here
	heard bool   // acked is known
	ended bool   // a FIN or RST came
	held  []chunk
}

// A chunk is a run of bytes of one segment, or a hole.
type chunk struct {
	data    []byte
	missing int // bytes after data
	why     Reason
	ack     uint32
	at      moment
}

// Accept implements reassembly.Stream.
func (s *stream) Accept(tcp *layers.TCP, _ gopacket.CaptureInfo, dir reassembly.TCPFlowDirection,
	next reassembly.Sequence, start *bool, _ reassembly.AssemblerContext) bool {
	s.heard(side(dir), tcp)
	switch {
	case s.ignored && !tcp.FIN && !tcp.RST:
		return false
	case s.ignored:
		// Let the stream end, whatever came before.
		tcp.Payload = nil
		if next >= 0 {
			tcp.Seq = uint32(next)
		}
		*start = next < 0
	case next < 0 && !tcp.SYN:
		*start = true
		s.midway = true
	case next >= 0 && next.Difference(reassembly.Sequence(tcp.Seq)) > 0:
		s.d.streams.kept = true
	}
	return true
}

// heard records the acknowledgement of a segment.
func (s *stream) heard(dir int, tcp *layers.TCP) {
	if got := &s.halves[1-dir]; tcp.ACK && (!got.heard || int32(tcp.Ack-got.acked) > 0) {
		got.acked, got.heard = tcp.Ack, true
	}
}

// begin records the sequence number of the first byte of a direction.
func (s *stream) begin(dir int, seq uint32) {
	h := &s.halves[dir]
	h.known, h.in, h.out = true, seq, seq
}

// segment takes one segment that arrives in order.
func (s *stream) segment(dir int, data []byte, g *segment) {
	h := &s.halves[dir]
	if !h.known {
		s.begin(dir, g.seq)
	}
	intact := max(len(data)-g.cut, 0)
	s.put(dir, chunk{data: data[:intact], missing: len(data) - intact, why: ErrCut, ack: g.ack, at: g.at})
	h.in += uint32(len(data))
}

// ReassembledSG implements reassembly.Stream.
func (s *stream) ReassembledSG(sg reassembly.ScatterGather, ac reassembly.AssemblerContext) {
	dir, start, end, skip := sg.Info()
	i := side(dir)
	h := &s.halves[i]
	if s.d.streams.resumes && (start || end) {
		return // the assembler is being brought to the flow's position
	}
	total, _ := sg.Lengths()
	if !s.ignored {
		switch {
		case start:
			s.begin(i, ac.(*segment).seq+1)
		case skip > 0 && h.known:
			s.put(i, chunk{missing: skip, why: ErrLost, at: s.d.now})
			h.in += uint32(skip)
		}
		if total > 0 {
			s.chunks(i, sg, sg.Fetch(total))
		}
	}
	if end {
		h.ended = true
	}
	s.drain(false)
}

func side(dir reassembly.TCPFlowDirection) int {
	if dir == reassembly.TCPDirServerToClient {
		return 1
	}
	return 0
}

// chunks divides reassembled bytes by their segments.
func (s *stream) chunks(i int, sg reassembly.ScatterGather, data []byte) {
	h := &s.halves[i]
	for off := 0; off < len(data); {
		g := sg.CaptureInfo(off).AncillaryData[0].(*segment)
		if !h.known {
			h.known = true
			h.in, h.out = g.seq, g.seq
		}
		left := int(int32(g.seq + uint32(g.size) - h.in)) // of the segment
		n := min(len(data)-off, max(left, 1))
		intact := min(max(left-g.cut, 0), n)
		c := chunk{data: data[off : off+intact], missing: n - intact, why: ErrCut, ack: g.ack, at: g.at}
		s.put(i, c)
		h.in += uint32(n)
		off += n
	}
}

// put passes a chunk to the protocol, or holds it back.
func (s *stream) put(i int, c chunk) {
	h := &s.halves[i]
	if len(h.held) == 0 && !s.early(i, &c) {
		s.deliver(i, &c)
		return
	}
	if !s.buffers.take(len(c.data)) {
		s.d.problem(ErrLimit, "MaxBuffered", s.ends[s.client], s.ends[1-s.client])
		c.missing, c.why, c.data = c.missing+len(c.data), ErrLimit, nil
	}
	c.data = append([]byte(nil), c.data...)
	h.held = append(h.held, c)
}

// early reports whether the sender of a chunk had seen bytes of the other direction that are not
// out yet.
func (s *stream) early(i int, c *chunk) bool {
	other := &s.halves[1-i]
	over := other.ended && len(other.held) == 0 // the FIN was acknowledged as one byte more
	return other.known && !over && c.data != nil && int32(c.ack-other.out) > 0
}

// drain passes on the chunks that need not be held back any longer, or everything if all is set.
func (s *stream) drain(all bool) {
	for {
		a, b := s.due(0), s.due(1)
		switch {
		case a && b:
			s.pop(s.older())
		case a:
			s.pop(0)
		case b:
			s.pop(1)
		case all && len(s.halves[0].held)+len(s.halves[1].held) > 0, s.overdue():
			s.pop(s.older())
		default:
			return
		}
	}
}

func (s *stream) due(i int) bool {
	held := s.halves[i].held
	return len(held) > 0 && !s.early(i, &held[0])
}

// overdue reports whether too much is held back, or for too long, or whether both directions wait
// for each other, as repeated segments with newer acknowledgements can cause.
func (s *stream) overdue() bool {
	a, b := s.halves[0].held, s.halves[1].held
	if len(a)+len(b) == 0 {
		return false
	}
	return len(a) > 0 && len(b) > 0 || len(a)+len(b) > 2*maxWaiting ||
		s.d.now.time.Sub(s.halves[s.older()].held[0].at.time) > 2*segmentTimeout
}

// older returns the direction whose first chunk was captured first.
func (s *stream) older() int {
	a, b := s.halves[0].held, s.halves[1].held
	if len(a) == 0 || len(b) > 0 && b[0].at.packet < a[0].at.packet {
		return 1
	}
	return 0
}

func (s *stream) pop(i int) {
	h := &s.halves[i]
	c := h.held[0]
	h.held[0] = chunk{}
	if h.held = h.held[1:]; len(h.held) == 0 {
		h.held = nil
	}
	s.deliver(i, &c)
	s.buffers.give(len(c.data))
}

// deliver passes a chunk to the protocol.
func (s *stream) deliver(i int, c *chunk) {
	s.halves[i].out += uint32(len(c.data) + c.missing)
	if s.ignored {
		return
	}
	if s.protocol == nil && !s.recognise(i, c) {
		return
	}
	if len(c.data) > 0 {
		s.protocol.data(i == s.client, c.data, c.at)
	}
	if c.missing > 0 {
		s.protocol.hole(i == s.client, c.missing, c.why, c.at)
	}
}

// maxTries is the number of chunks after which a connection is taken to hold neither SMB nor RPC,
// and startTries the number for a connection seen from its start.
const (
	maxTries   = 32
	startTries = 4
)

// recognise looks for a protocol's first message at the start of a chunk.
func (s *stream) recognise(i int, c *chunk) bool {
	kind, fromClient, certain := recognise(c.data, min(s.ends[0].Port(), s.ends[1].Port()))
	if kind == kindUnknown {
		if s.tried++; len(c.data) > 0 && s.tried >= maxTries || !s.midway && s.tried >= startTries {
			s.ignore()
		}
		return false
	}
	if certain && !s.oriented {
		s.client, s.oriented = i, true
		if !fromClient {
			s.client = 1 - i
		}
	}
	s.d.summary.Connections++
	if kind == kindSMB {
		s.protocol = newSMBConn(s)
	} else {
		s.protocol = newTCPAssociation(s)
	}
	return true
}

// ignore drops a connection that holds nothing of interest.
func (s *stream) ignore() {
	s.ignored = true
	s.protocol = nil
	s.halves[0].held, s.halves[1].held = nil, nil
	s.buffers.close()
}

// ReassemblyComplete implements reassembly.Stream.
func (s *stream) ReassemblyComplete(reassembly.AssemblerContext) bool {
	s.drain(true)
	if s.protocol != nil {
		for i := range s.halves {
			if n := s.halves[i].unseen(); n > 0 {
				s.protocol.hole(i == s.client, n, ErrLost, s.d.now)
			}
		}
		s.protocol.close()
	}
	s.ignore()
	s.d.streams.count--
	s.d.streams.remove(s.flow)
	return true
}

// unseen returns the number of final bytes that the other end has received but that the capture
// lacks. A FIN counts as one.
func (h *half) unseen() int {
	if !h.known || !h.heard || h.ended {
		return 0
	}
	return max(int(int32(h.acked-h.out))-1, 0)
}
