package capture

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/reassembly"
)

// Calls yields the calls of a capture in the order in which they ended: with the answer, or with
// the end of their connection or the file.
//
// Calls come with a nil error, whatever their own errors. An error comes last, with a nil Call:
// [ErrNotCapture], an error of the reader, or what is wrong with the file. The calls before it are
// valid.
//
// Reading stops when the loop does. The sequence can be used only once.
func Calls(r io.Reader, cfg *Config) iter.Seq2[*Call, error] {
	return func(yield func(*Call, error) bool) {
		file, err := openFile(r)
		if err != nil {
			yield(nil, err)
			return
		}
		d := newDecoder(cfg.withDefaults())
		for {
			data, ci, link, err := file.next()
			if err != nil {
				d.close()
				if d.yield(yield) && !errors.Is(err, io.EOF) {
					yield(nil, fmt.Errorf("capture: after packet %d: %w", d.now.packet, err))
				}
				return
			}
			d.packet(data, ci, link)
			if !d.yield(yield) {
				return
			}
		}
	}
}

// A decoder is one pass over one file.
type decoder struct {
	cfg          Config
	summary      *Summary
	ready        []*Call // to be yielded after the current packet
	associations uint64  // of the interface, so far

	now        moment
	links      links
	streams    streams
	buffers    budget
	sessions   map[sessionKey]*session
	lastExpiry time.Time
	nextExpiry uint64 // packet before which expire need not run again
	tampered   bool   // the signature of the current SMB message does not verify
}

// A moment is the packet in which something was seen.
type moment struct {
	time   time.Time
	packet uint64
}

func newDecoder(cfg Config) *decoder {
	d := &decoder{
		cfg:      cfg,
		summary:  cfg.Summary,
		buffers:  budget{left: cfg.MaxBuffered},
		sessions: make(map[sessionKey]*session),
	}
	d.links.fragments = fragments{budget: &d.buffers, lost: func(at moment) {
		d.summary.add(Problem{Reason: ErrFragment, Detail: "others of the same packet are missing", Packet: at.packet,
			Time: at.time})
	}}
	d.streams.init(d)
	return d
}

// yield yields the calls that are ready. It returns false when the caller wants no more.
func (d *decoder) yield(yield func(*Call, error) bool) bool {
	for i, c := range d.ready {
		d.ready[i] = nil
		d.summary.count(c)
		if !yield(c, nil) {
			return false
		}
	}
	d.ready = d.ready[:0]
	return true
}

// problem counts a problem of a connection, or of none if client is not valid.
func (d *decoder) problem(r Reason, detail string, client, server netip.AddrPort) {
	d.summary.add(Problem{Reason: r, Detail: detail, Packet: d.now.packet, Time: d.now.time, Client: client,
		Server: server})
}

// packet takes one packet of the file.
func (d *decoder) packet(data []byte, ci gopacket.CaptureInfo, link layers.LinkType) {
	d.summary.Packets++
	d.summary.Bytes += uint64(len(data))
	d.now = moment{ci.Timestamp, d.now.packet + 1}
	if p, err := d.links.decode(data, link, d.now); err == nil {
		d.summary.TCP++
		d.streams.segment(p, &d.links.tcp, ci)
	} else {
		d.noSegment(err, ci, link)
	}
	d.expire()
}

// noSegment counts a packet without TCP, by its kind.
func (d *decoder) noSegment(err error, ci gopacket.CaptureInfo, link layers.LinkType) {
	none := netip.AddrPort{}
	var kind other
	switch {
	case errors.Is(err, errWaits):
	case errors.As(err, &kind):
		d.summary.other(string(kind))
	case errors.Is(err, errOverlap), errors.Is(err, errShort), errors.Is(err, errFull):
		d.problem(ErrFragment, err.Error(), none, none)
	case errors.Is(err, errLinkType):
		d.problem(ErrLinkType, fmt.Sprintf("type %d", link), none, none)
	case ci.CaptureLength < ci.Length:
		d.problem(ErrCut, "headers", none, none)
	default:
		d.problem(ErrPacket, "", none, none)
	}
}

// Expiry is checked at intervals of the capture's clock, but not after every packet if that clock
// jumps.
const (
	expiryInterval = time.Second
	expiryPackets  = 1000
	// segmentTimeout is the time to wait for a segment when later ones have arrived.
	segmentTimeout = 10 * time.Second
	// crowdedTimeout is the time that a connection may be silent when there are too many.
	crowdedTimeout = time.Minute
)

// expire gives up missing segments, and forgets silent connections.
func (d *decoder) expire() {
	if d.now.packet < d.nextExpiry || d.now.time.Sub(d.lastExpiry).Abs() < expiryInterval {
		return
	}
	d.nextExpiry = d.now.packet + expiryPackets
	d.lastExpiry = d.now.time
	silence := d.cfg.FlowTimeout
	if d.streams.count >= d.cfg.MaxConnections {
		silence = min(silence, crowdedTimeout)
	}
	d.streams.expire(d.now.time.Add(-silence))
	d.streams.assembler.FlushWithOptions(reassembly.FlushOptions{
		T:  d.now.time.Add(-segmentTimeout),
		TC: d.now.time.Add(-silence),
	})
}

// close ends all connections.
func (d *decoder) close() {
	d.links.fragments.close()
	d.streams.endAll(func(*flow) bool { return true })
	d.streams.assembler.FlushAll()
}

// A budget bounds the memory that all connections together may keep.
type budget struct {
	left  int
	spare [][]byte // unused buffers
}

// Spare buffers are few and small, so they do not count.
const (
	maxSpare     = 16
	maxSpareSize = 256 << 10
)

// buffer returns an empty buffer, with room if there is a spare one.
func (b *budget) buffer() []byte {
	n := len(b.spare) - 1
	if n < 0 {
		return nil
	}
	buf := b.spare[n]
	b.spare = b.spare[:n]
	return buf
}

// recycle takes a buffer back.
func (b *budget) recycle(buf []byte) {
	if cap(buf) > 0 && cap(buf) <= maxSpareSize && len(b.spare) < maxSpare {
		b.spare = append(b.spare, buf[:0])
	}
}

// An account is one owner's part of a budget.
type account struct {
	budget *budget
	held   int
}

// take takes n more bytes, and reports whether they may be kept.
func (a *account) take(n int) bool {
	if n > a.budget.left {
		return false
	}
	a.budget.left -= n
	a.held += n
	return true
}

// give returns n bytes.
func (a *account) give(n int) {
	n = min(n, a.held)
	a.budget.left += n
	a.held -= n
}

// close returns all.
func (a *account) close() { a.give(a.held) }

// Rough costs of things that are kept for a while, so that a file cannot create very many of them.
const (
	requestCost      = 256
	sessionCost      = 2 << 10
	treeCost         = 64
	associationCost  = 2 << 10
	contextCost      = 128
	securityCost     = 1 << 10
	callCost         = 2 << 10
	offerCostPerByte = 4
)
