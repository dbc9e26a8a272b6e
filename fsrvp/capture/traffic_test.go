package capture

import (
	"bytes"
	"encoding/binary"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture/internal/smb2"
)

// A traffic is an io.Reader of a pcap file of what file servers mostly do: files are read and
// written over many connections, and nobody makes shadow copies. It makes packets without gopacket,
// so that it can make gigabytes.
type traffic struct {
	size      int // bytes, roughly
	message   int // bytes of the data of each READ or WRITE
	writes    bool
	encrypted bool // by a key that nobody has
	bySegment bool // the connections take turns after each segment, not after each message

	streams []*trafficStream
	next    int
	written int
	clock   uint64 // microseconds
	out     []byte
	off     int
	data    []byte
}

type trafficStream struct {
	client   [4]byte
	port     uint16
	seq      [2]uint32 // of the client, of the server
	id       uint64
	started  bool
	head     []byte // of the long message, to be sent before left bytes of data
	left     int
	sender   int
	segments int
}

func newTraffic(size, streams, message int) *traffic {
	g := &traffic{size: size, message: message, clock: 1764209000e6, data: make([]byte, message+200)}
	for i := range g.data {
		g.data[i] = byte(i*7 + i>>8)
	}
	for i := range streams {
		g.streams = append(g.streams, &trafficStream{
			client: [4]byte{10, 1, byte(i >> 8),
				byte(i)}, port: uint16(20000 + i%40000), seq: [2]uint32{uint32(i) * 1000, uint32(i) * 77},
		})
	}
	g.out = binary.LittleEndian.AppendUint32(nil, pcapMicro)
	g.out = binary.LittleEndian.AppendUint16(g.out, 2)
	g.out = binary.LittleEndian.AppendUint16(g.out, 4)
	g.out = append(g.out, make([]byte, 8)...)
	g.out = binary.LittleEndian.AppendUint32(g.out, 262144)
	g.out = binary.LittleEndian.AppendUint32(g.out, 1)
	return g
}

// Read implements io.Reader.
func (g *traffic) Read(b []byte) (int, error) {
	if g.off == len(g.out) {
		if g.written >= g.size {
			return 0, io.EOF
		}
		g.out, g.off = g.out[:0], 0
		for len(g.out) < 256<<10 {
			g.step()
		}
		g.written += len(g.out)
	}
	n := copy(b, g.out[g.off:])
	g.off += n
	return n, nil
}

// step lets one connection have its turn.
func (g *traffic) step() {
	s := g.streams[g.next]
	if g.next++; g.next == len(g.streams) {
		g.next = 0
	}
	if !s.started {
		s.started = true
		g.packet(s, 0, 0x02)
		g.packet(s, 1, 0x12)
		g.packet(s, 0, 0x10)
	}
	if s.left == 0 {
		g.begin(s)
	}
	for s.left > 0 {
		n := min(s.left, 1460-len(s.head))
		g.packet(s, s.sender, 0x10, s.head, g.data[:n])
		s.head, s.left = nil, s.left-n
		if s.segments++; s.segments%2 == 0 {
			g.packet(s, 1-s.sender, 0x10)
		}
		if g.bySegment {
			break
		}
	}
}

// begin sends the short one of two messages, and begins the long one.
func (g *traffic) begin(s *trafficStream) {
	s.id++
	if g.writes {
		if s.id > 1 {
			g.packet(s, 1, 0x18, g.smb(s, smb2.Write, smb2.FlagResponse, smb2Zero(16)))
		}
		s.sender = 0
		g.long(s, g.smb(s, smb2.Write, 0, smb2Write(smb2.FileID{9, 9}, g.data[:g.message])))
		return
	}
	g.packet(s, 0, 0x18, g.smb(s, smb2.Read, 0, smb2Read(smb2.FileID{9, 9})))
	s.sender = 1
	g.long(s, g.smb(s, smb2.Read, smb2.FlagResponse, smb2ReadResponse(g.data[:g.message])))
}

// long begins a message with data.
func (g *traffic) long(s *trafficStream, msg []byte) {
	s.head, s.left = bytes.Clone(msg[:len(msg)-g.message]), g.message
}

func (g *traffic) smb(s *trafficStream, command smb2.Command, flags uint32, body []byte) []byte {
	w := smbWriter{session: 77, tree: 1, id: s.id}
	msg := w.message(command, flags, smb2.StatusSuccess, body)
	if !g.encrypted {
		return msg
	}
	b := make([]byte, netbiosHeader+smb2.TransformSize, len(msg)+smb2.TransformSize)
	binary.BigEndian.PutUint32(b, uint32(len(msg)-netbiosHeader+smb2.TransformSize))
	copy(b[netbiosHeader:], smb2.MagicTransform)
	binary.LittleEndian.PutUint32(b[netbiosHeader+36:], uint32(len(msg)-netbiosHeader))
	b[netbiosHeader+42], b[netbiosHeader+44] = 1, 77
	return append(b, msg[netbiosHeader:]...)
}

// packet appends one.
func (g *traffic) packet(s *trafficStream, from int, flags byte, payload ...[]byte) {
	g.clock += 2
	data := bytes.Join(payload, nil)
	server := [4]byte{192, 168, 1, 1}
	src, dst, sport, dport := s.client, server, s.port, uint16(445)
	if from == 1 {
		src, dst, sport, dport = dst, src, dport, sport
	}
	size := 14 + 40 + len(data)
	b := binary.LittleEndian.AppendUint32(g.out, uint32(g.clock/1e6))
	b = binary.LittleEndian.AppendUint32(b, uint32(g.clock%1e6))
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = append(b, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(40+len(data)))
	b = append(b, 0, 0, 0, 0, 64, 6, 0, 0)
	b = append(append(b, src[:]...), dst[:]...)
	b = binary.BigEndian.AppendUint16(b, sport)
	b = binary.BigEndian.AppendUint16(b, dport)
	b = binary.BigEndian.AppendUint32(b, s.seq[from])
	b = binary.BigEndian.AppendUint32(b, s.seq[1-from])
	b = append(b, 5<<4, flags, 0xFF, 0xFF, 0, 0, 0, 0)
	g.out = append(b, data...)
	if s.seq[from] += uint32(len(data)); flags&2 != 0 {
		s.seq[from]++
	}
}

// TestInterleaved decodes what 10,000 connections carry at once, by segment: reading, writing and
// encrypted. What they read and write is not collected, so that memory is that of the connections.
func TestInterleaved(t *testing.T) {
	for name, prepare := range map[string]func(*traffic){
		"reading":   func(*traffic) {},
		"writing":   func(g *traffic) { g.writes = true },
		"encrypted": func(g *traffic) { g.encrypted = true },
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "encrypted" {
				t.Skip("each takes seconds of CPU")
			}
			const connections = 10000
			g := newTraffic(25<<20, connections, 64<<10)
			g.bySegment = true
			prepare(g)
			var before runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			var sum Summary
			r := &meter{r: g}
			for _, err := range Calls(r, &Config{Summary: &sum}) {
				require.NoError(t, err)
			}
			require.EqualValues(t, connections, sum.Connections)
			require.Zero(t, reasons(sum)[ErrLimit])
			grown := (int(r.peak) - int(before.HeapAlloc)) >> 10
			t.Logf("%d packets, heap grew by at most %d KB", sum.Packets, grown)
			require.Less(t, grown, 40<<10)
		})
	}
}
