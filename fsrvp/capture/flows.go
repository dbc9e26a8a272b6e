package capture

import (
	"cmp"
	"slices"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// A flowKey identifies a TCP connection, the same for both directions: addresses and ports of the
// ends, the lower one first.
//
//	0 address, 16 bytes | 16 port, 2 bytes | 18 address | 34 port | 36 length of the addresses
type flowKey [37]byte

// keyOfFlow returns the key of a segment's connection, and whether its sender is the lower end.
func keyOfFlow(network gopacket.Flow, tcp *layers.TCP) (k flowKey, lower bool) {
	src, dst := network.Endpoints()
	lower = tcp.SrcPort < tcp.DstPort
	if tcp.SrcPort == tcp.DstPort {
		lower = src.LessThan(dst)
	}
	low, high, lowPort, highPort := src, dst, tcp.SrcPort, tcp.DstPort
	if !lower {
		low, high, lowPort, highPort = dst, src, tcp.DstPort, tcp.SrcPort
	}
	copy(k[:16], low.Raw())
	k[16], k[17] = byte(lowPort>>8), byte(lowPort)
	copy(k[18:34], high.Raw())
	k[34], k[35] = byte(highPort>>8), byte(highPort)
	k[36] = byte(len(low.Raw()))
	return k, lower
}

// A flow is a TCP connection. While its segments come in order, as most do, they go directly to the
// stream. At the first one that does not, the flow goes over to gopacket's assembler for good.
type flow struct {
	key    flowKey
	number uint64
	stream *stream
	lower  bool      // the stream's direction 0 is that of the lower end
	known  [2]bool   // next is valid
	next   [2]uint32 // the next expected sequence number in each direction
	closed [2]bool
	seen   time.Time // of the last segment
	slow   bool      // it is with the assembler
}

// flow returns the flow of a segment, and the segment's direction; nil if there may be no more
// flows.
func (s *streams) flow(p packet, tcp *layers.TCP, at time.Time) (*flow, int) {
	key, lower := keyOfFlow(p.flow, tcp)
	f := s.last
	if f == nil || f.key != key {
		if f = s.flows[key]; f == nil {
			stream := s.newStream(p.flow, tcp)
			if stream == nil {
				return nil, 0
			}
			s.made++
			f = &flow{key: key, number: s.made, stream: stream, lower: lower}
			stream.flow = f
			s.flows[key] = f
		}
		s.last = f
	}
	if at.After(f.seen) {
		f.seen = at
	}
	if lower == f.lower {
		return f, 0
	}
	return f, 1
}

// remove forgets a flow that has ended.
func (s *streams) remove(f *flow) {
	if s.flows[f.key] == f {
		delete(s.flows, f.key)
	}
	if s.last == f {
		s.last = nil
	}
}

// inOrder takes a segment that comes in its turn, or is useless. It returns false for a segment
// that the assembler must take.
func (f *flow) inOrder(dir int, tcp *layers.TCP, g *segment) bool {
	st := f.stream
	end := tcp.FIN || tcp.RST
	size := uint32(len(tcp.Payload))
	switch {
	case st.ignored && !end:
		return true
	case st.ignored && !tcp.SYN:
		f.end(dir)
		return true
	case tcp.SYN && (end || size > 0):
		return false
	case tcp.SYN && f.known[dir], f.closed[dir]:
		st.heard(dir, tcp)
		return true
	case tcp.SYN:
		f.known[dir], f.next[dir] = true, tcp.Seq+1
		st.heard(dir, tcp)
		st.begin(dir, tcp.Seq+1)
		st.drain(false)
		return true
	case !f.known[dir] && tcp.RST:
		return false
	case !f.known[dir]:
		f.known[dir], f.next[dir] = true, tcp.Seq
		st.midway = true
	}
	switch behind := int32(f.next[dir] - tcp.Seq); {
	case behind == 0:
	case behind > 0 && uint32(behind) >= size+1, behind > 0 && !end && uint32(behind) >= size:
		st.heard(dir, tcp) // a repetition
		return true
	default:
		return false
	}
	st.heard(dir, tcp)
	f.next[dir] += size
	if size > 0 && !st.ignored {
		st.segment(dir, tcp.Payload, g)
	}
	if end {
		f.end(dir)
		return true
	}
	st.drain(false)
	return true
}

// end closes a direction, and the connection when both are.
func (f *flow) end(dir int) {
	f.closed[dir] = true
	f.stream.halves[dir].ended = true
	f.stream.drain(false)
	if f.closed[0] && f.closed[1] {
		f.stream.ReassemblyComplete(nil)
	}
}

// giveUp hands the flow over to the assembler, and brings that to the flow's position.
func (s *streams) giveUp(f *flow, network gopacket.Flow, tcp *layers.TCP, dir int) {
	f.slow = true
	s.adopt, s.resumes = f.stream, true
	defer func() { s.resumes = false }()
	for d := range 2 {
		if !f.known[d] {
			continue
		}
		flow, src, dst := network, tcp.SrcPort, tcp.DstPort
		if d != dir {
			flow, src, dst = network.Reverse(), dst, src
		}
		feed := func(t layers.TCP) {
			g := newSegment()
			g.info = gopacket.CaptureInfo{Timestamp: s.d.now.time, AncillaryData: g.self[:]}
			g.at, g.seq = s.d.now, t.Seq
			t.SetInternalPortsForTesting() // from the fields, for the flow's key
			s.assembler.AssembleWithContext(flow, &t, g)
		}
		feed(layers.TCP{SrcPort: src, DstPort: dst, Seq: f.next[d] - 1, SYN: true})
		if f.closed[d] {
			feed(layers.TCP{SrcPort: src, DstPort: dst, Seq: f.next[d], FIN: true})
		}
	}
}

// expire ends flows that have been silent since a time.
func (s *streams) expire(since time.Time) {
	s.endAll(func(f *flow) bool { return f.seen.Before(since) })
}

// endAll ends the flows for which a function is true, except those of the assembler, in the order
// in which they began.
func (s *streams) endAll(which func(*flow) bool) {
	var list []*flow
	for _, f := range s.flows {
		if !f.slow && which(f) {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b *flow) int { return cmp.Compare(a.number, b.number) })
	for _, f := range list {
		f.stream.ReassemblyComplete(nil)
	}
}
