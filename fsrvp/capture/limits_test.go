package capture

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture/internal/smb2"
)

// TestBudget checks that everything that was taken is given back when the file ends.
func TestBudget(t *testing.T) {
	for _, damage := range []float64{0, 0.05} {
		g := newGenerator(3<<20, damage, 5)
		file, err := openFile(g)
		require.NoError(t, err)
		d := newDecoder((*Config)(nil).withDefaults())
		full := d.buffers.left
		least := full
		for {
			b, ci, link, err := file.next()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			d.packet(b, ci, link)
			least = min(least, d.buffers.left)
		}
		d.close()
		require.Less(t, least, full)
		require.Equal(t, full, d.buffers.left)
		require.Empty(t, d.sessions)
		require.Zero(t, d.streams.count)
	}
}

// TestMaxBuffered decodes with hardly any room: calls are lost, and that is said, but nothing else
// happens.
func TestMaxBuffered(t *testing.T) {
	g := newGenerator(2<<20, 0, 6)
	var sum Summary
	for c, err := range Calls(g, &Config{Summary: &sum, MaxBuffered: 20 << 10}) {
		require.NoError(t, err)
		if c.Request != nil {
			request, _ := genMessages(genID(c.Request))
			require.Equal(t, request, c.Request)
		}
	}
	require.NotZero(t, reasons(sum)[ErrLimit])
	require.Less(t, int(sum.Calls), len(g.calls))
}

// TestMaxConnections passes over connections when there are too many at a time.
func TestMaxConnections(t *testing.T) {
	g := newGenerator(2<<20, 0, 6)
	var sum Summary
	for _, err := range Calls(g, &Config{Summary: &sum, MaxConnections: 10}) {
		require.NoError(t, err)
	}
	require.NotZero(t, sum.Calls)
	require.Less(t, int(sum.Calls), len(g.calls))
	require.NotZero(t, reasons(sum)[ErrLimit])
}

// TestMaxMessage looks at the beginning of long messages only, and goes on behind them.
func TestMaxMessage(t *testing.T) {
	g := newGenerator(2<<20, 0, 6)
	var sum Summary
	for _, err := range Calls(g, &Config{Summary: &sum, MaxMessage: 4 << 10}) {
		require.NoError(t, err)
	}
	require.EqualValues(t, len(g.calls), sum.Calls)
	require.Zero(t, sum.Unreadable)
}

func TestMaxStub(t *testing.T) {
	s := newScript(t)
	c := s.connect(40000, 5555)
	c.send(0, genBind(1), ofNothing, false)
	c.send(1, genBindAck(1), ofNothing, true)
	for call := range uint32(2) {
		f := pdu.Fragmenter{Type: pdu.TypeRequest, CallID: 2 + call, Opnum: 8, MaxXmit: 4280,
			Stub: make([]byte, 9000+1000*call)}
		for f.More() {
			p, err := f.Next(nil)
			require.NoError(t, err)
			c.send(0, p.PDU, ofNothing, false)
		}
	}
	calls, _ := s.decode(&Config{MaxStub: 9000})
	require.Len(t, calls, 2)
	require.ErrorIs(t, calls[0].RequestErr, ErrStub)
	require.Len(t, calls[0].RequestStub, 9000)
	require.ErrorIs(t, calls[1].RequestErr, ErrLimit)
	require.Nil(t, calls[1].RequestStub)
}

// TestSilence forgets connections after a while, and yields what they have not answered.
func TestSilence(t *testing.T) {
	s := newScript(t)
	for port := range uint16(3) {
		c := s.connect(40000+port, 5555)
		c.send(0, genBind(1), ofNothing, false)
		c.send(1, genBindAck(1), ofNothing, true)
		request, _ := s.call(int(port), 2)
		c.send(0, request, ofNothing, false)
		s.flush(c)
	}
	s.g.active = nil
	s.g.clock = s.g.clock.Add(59 * time.Minute)
	web := s.connect(50000, 80)
	for range 1200 {
		web.send(0, []byte("GET / HTTP/1.1\r\n\r\n"), ofNothing, false)
	}
	s.flush(web)
	s.g.clock = s.g.clock.Add(2 * time.Minute)
	for range 1200 {
		web.send(0, []byte("GET / HTTP/1.1\r\n\r\n"), ofNothing, false)
	}
	s.flush(web)
	s.g.active = nil
	at := make(map[uint64]int)
	var sum Summary
	for c, err := range Calls(s.g, &Config{Summary: &sum}) {
		require.NoError(t, err)
		require.ErrorIs(t, c.ResponseErr, ErrUnanswered)
		at[sum.Packets]++
	}
	require.Len(t, at, 1, "all at the same packet")
	for packet := range at {
		require.Less(t, packet, sum.Packets, "before the end")
		require.Greater(t, packet, uint64(2400))
	}
}

// TestHostileMemory decodes files that make it keep as much as they can.
func TestHostileMemory(t *testing.T) {
	for name, hostile := range map[string]func(*script){
		// Every CREATE opens a pipe.
		"pipes": func(s *script) {
			for port := range uint16(20) {
				c := s.connect(1024+port, 445)
				for session := range 20 {
					w := &smbWriter{g: s.g, c: c, session: uint64(port)<<32 | uint64(session+1), tree: 1}
					w.id = uint64(session) << 32
					for i := range 30 {
						w.exchange(ofNothing, smb2.Create, smb2Create("x"),
							smb2CreateResponse(smb2.FileID{byte(i), byte(i >> 8), 1}))
					}
				}
				s.flush(c)
			}
		},
		// Requests of one fragment that is not the last.
		"fragments": func(s *script) {
			for port := range uint16(40) {
				c := s.connect(1024+port, 5555)
				c.send(0, genBind(1), ofNothing, false)
				c.send(1, genBindAck(1), ofNothing, true)
				for call := range uint32(300) {
					p := pdu.Request{Header: pdu.Header{Flags: pdu.FirstFrag, CallID: call}, AllocHint: 0xFFFFFFFF,
						Stub: make([]byte, 1000)}
					c.send(0, must(p.AppendBinary(nil)), ofNothing, false)
				}
				s.flush(c)
			}
		},
		// Messages that never end, of 16 MB by their own account.
		"long messages": func(s *script) {
			for port := range uint16(100) {
				c := s.connect(1024+port, 445)
				b := make([]byte, 140<<10)
				binary.BigEndian.PutUint32(b, 0xFFFFFF)
				copy(b[4:], smb2.Magic)
				b[8], b[16] = smb2.HeaderSize, byte(smb2.IOCTL)
				c.send(0, b, ofNothing, false)
				s.flush(c)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t)
			hostile(s)
			s.g.active = nil
			file := s.g.out.Bytes()
			var before, mem runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			const limit = 4 << 20
			var sum Summary
			r := &meter{r: bytes.NewReader(file)}
			for _, err := range Calls(r, &Config{Summary: &sum, MaxBuffered: limit}) {
				require.NoError(t, err)
			}
			runtime.ReadMemStats(&mem)
			t.Logf("%d KB of file, heap grew by at most %d KB; %v", len(file)>>10,
				(int(r.peak)-int(before.HeapAlloc))>>10, reasons(sum))
			require.Less(t, int(r.peak)-int(before.HeapAlloc), 4*limit)
			require.NotZero(t, reasons(sum)[ErrLimit])
		})
	}
}

// A meter measures the live heap from time to time as a file is read.
type meter struct {
	r    io.Reader
	n    int
	peak uint64
}

func (m *meter) Read(b []byte) (int, error) {
	if m.n++; m.n%8 == 0 {
		var mem runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&mem)
		m.peak = max(m.peak, mem.HeapAlloc)
	}
	return m.r.Read(b)
}

// TestBlockFilter leaves out what the reader would keep, and refuses what makes no sense.
func TestBlockFilter(t *testing.T) {
	var file bytes.Buffer
	w, err := pcapgo.NewNgWriter(&file, layers.LinkTypeEthernet)
	require.NoError(t, err)
	for _, p := range packets(t, find(t, "12").file) {
		require.NoError(t, w.WritePacket(p.info, p.data))
	}
	require.NoError(t, w.Flush())
	want, _ := decodeBytes(t, file.Bytes(), nil)
	require.Len(t, want, 1)

	block := func(kind uint32, n int) []byte {
		b := make([]byte, 12+n)
		binary.LittleEndian.PutUint32(b, kind)
		binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
		binary.LittleEndian.PutUint32(b[8+n:], uint32(len(b)))
		return b
	}
	head := int(binary.LittleEndian.Uint32(file.Bytes()[4:])) // of the section
	var secrets []byte
	for range 5 {
		secrets = append(secrets, block(10, 100000)...)
		secrets = append(secrets, block(4, 40)...)
		secrets = append(secrets, block(0xBAD, 4)...)
	}
	with := append(append(bytes.Clone(file.Bytes()[:head]), secrets...), file.Bytes()[head:]...)
	got, _ := decodeBytes(t, with, nil)
	require.Equal(t, want, got)

	many := bytes.Clone(file.Bytes())
	for range maxInterfaces {
		b := block(blockInterface, 8)
		b[8] = byte(layers.LinkTypeEthernet)
		many = append(many, b...)
	}
	for name, bad := range map[string][]byte{"interfaces": many,
		"short block": append(bytes.Clone(file.Bytes()), 1, 0, 0, 0, 8, 0, 0, 0)} {
		var last error
		for _, err := range Calls(bytes.NewReader(bad), nil) {
			last = err
		}
		require.Error(t, last, name)
	}
}

// TestOrder checks the order in which bytes reach a protocol when one direction waits for a
// segment.
func TestOrder(t *testing.T) {
	s := newScript(t)
	c := s.connect(40000, 5555)
	c.queue = nil // the handshake is not in the capture either
	c.send(0, genBind(1), ofNothing, false)
	c.send(1, genBindAck(1), ofNothing, true)
	const n = 300 // more than may wait
	for i := range n {
		request, response := s.call(i, uint32(2+i))
		c.send(0, request, i, false)
		c.send(1, response, i, true)
	}
	c.fin()
	// One request is missing: of all calls but that, none is.
	for i, p := range c.queue {
		if p.call == 100 && !p.answer {
			c.queue = append(c.queue[:i:i], c.queue[i+1:]...)
			break
		}
	}
	s.flush(c)
	s.g.active = nil
	calls, sum := s.decode(nil)
	seen := make(map[int]bool)
	for _, call := range calls {
		require.NoError(t, call.RequestErr)
		require.NoError(t, call.ResponseErr)
		seen[genID(call.Request)] = true
	}
	require.Len(t, seen, n-1)
	require.False(t, seen[100])
	require.Equal(t, uint64(1), reasons(sum)[ErrOrphan])
	require.Equal(t, uint64(1), reasons(sum)[ErrLost])
}

// TestOneDirection has a capture of one direction alone: nothing waits for the other.
func TestOneDirection(t *testing.T) {
	for side := range 2 {
		s := newScript(t)
		c := s.connect(40000, 5555)
		c.send(0, genBind(1), ofNothing, false)
		c.send(1, genBindAck(1), ofNothing, true)
		for i := range 3 {
			request, response := s.call(3*i, uint32(3+2*i))
			c.send(0, request, i, false)
			c.send(1, response, i, true)
		}
		var kept []genPacket
		for _, p := range c.queue {
			if bytes.Equal(p.data[26:30], net.IPv4(10, 0, 0, byte(1+side)).To4()) {
				kept = append(kept, p)
			}
		}
		c.queue = kept
		s.flush(c)
		s.g.active = nil
		calls, sum := s.decode(nil)
		if side == 1 {
			require.Empty(t, calls)
			continue
		}
		require.Len(t, calls, 3)
		for _, call := range calls {
			require.NoError(t, call.RequestErr)
			require.True(t, call.Assumed)
			require.Error(t, call.ResponseErr)
		}
		require.EqualValues(t, 3, sum.Unanswered)
	}
}
