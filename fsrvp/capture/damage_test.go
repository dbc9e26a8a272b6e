package capture

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/require"
)

// A rawPacket is one packet of a capture, numbered from 1.
type rawPacket struct {
	number int
	data   []byte
	info   gopacket.CaptureInfo
}

// packets reads a capture.
func packets(t testing.TB, file string) []rawPacket {
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	return readPackets(t, f)
}

// packetsOf reads a capture in memory.
func packetsOf(t testing.TB, file []byte) []rawPacket { return readPackets(t, bytes.NewReader(file)) }

func readPackets(t testing.TB, in io.Reader) []rawPacket {
	r, err := openFile(in)
	require.NoError(t, err)
	var list []rawPacket
	for {
		data, ci, _, err := r.next()
		if err == io.EOF {
			return list
		}
		require.NoError(t, err)
		ci.AncillaryData = nil
		list = append(list, rawPacket{len(list) + 1, bytes.Clone(data), ci})
	}
}

// pcap writes packets to a file of the older format.
func pcap(t testing.TB, list []rawPacket) []byte {
	var b bytes.Buffer
	w := pcapgo.NewWriterNanos(&b)
	require.NoError(t, w.WriteFileHeader(262144, layers.LinkTypeEthernet))
	for _, p := range list {
		require.NoError(t, w.WritePacket(p.info, p.data))
	}
	return b.Bytes()
}

func count(calls []*Call, of func(*Call) bool) (n int) {
	for _, c := range calls {
		if of(c) {
			n++
		}
	}
	return n
}

// whole reports whether both halves of a call could be read.
func whole(c *Call) bool { return c.RequestErr == nil && c.ResponseErr == nil }

func reasons(sum Summary) map[Reason]uint64 {
	m := make(map[Reason]uint64)
	for _, p := range sum.Problems {
		m[p.Reason] += p.Count
	}
	return m
}

// TestFormats reads the same packets from every kind of file.
func TestFormats(t *testing.T) {
	r := find(t, "01")
	want, _ := decode(t, r.file, nil)
	list := packets(t, r.file)
	older := pcap(t, list)

	var micro bytes.Buffer
	w := pcapgo.NewWriter(&micro)
	require.NoError(t, w.WriteFileHeader(262144, layers.LinkTypeEthernet))
	for _, p := range list {
		require.NoError(t, w.WritePacket(p.info, p.data))
	}
	var zipped bytes.Buffer
	gz := gzip.NewWriter(&zipped)
	newer, err := os.ReadFile(r.file)
	require.NoError(t, err)
	_, err = gz.Write(newer)
	require.NoError(t, err)
	require.NoError(t, gz.Close())

	for name, file := range map[string][]byte{"pcap": older, "gzip": zipped.Bytes()} {
		got, _ := decodeBytes(t, file, nil)
		require.Equal(t, want, got, name)
	}
	got, _ := decodeBytes(t, micro.Bytes(), nil)
	require.Len(t, got, len(want))
}

// TestLinkLayers puts the packets of a capture into other link layers.
func TestLinkLayers(t *testing.T) {
	r := find(t, "12")
	want, _ := decode(t, r.file, nil)
	const ethernet = 14
	for name, tt := range map[string]struct {
		link layers.LinkType
		head []byte
	}{
		"raw":      {layers.LinkTypeRaw, nil},
		"raw BSD":  {rawBSD, nil},
		"IPv4":     {layers.LinkTypeIPv4, nil},
		"null":     {layers.LinkTypeNull, []byte{2, 0, 0, 0}},
		"loop":     {layers.LinkTypeLoop, []byte{0, 0, 0, 2}},
		"cooked":   {layers.LinkTypeLinuxSLL, []byte{0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0}},
		"cooked 2": {layers.LinkTypeLinuxSLL2, []byte{8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0}},
		"VLAN":     {layers.LinkTypeEthernet, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x81, 0, 0, 7, 8, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := pcapgo.NewWriterNanos(&b)
			require.NoError(t, w.WriteFileHeader(262144, tt.link))
			for _, p := range packets(t, r.file) {
				p.data = append(tt.head[:len(tt.head):len(tt.head)], p.data[ethernet:]...)
				p.info.CaptureLength, p.info.Length = len(p.data), len(p.data)
				require.NoError(t, w.WritePacket(p.info, p.data))
			}
			got, sum := decodeBytes(t, b.Bytes(), nil)
			require.Equal(t, want, got)
			require.Empty(t, sum.Problems)
		})
	}
	b := pcap(t, packets(t, r.file))
	b[20] = 147 // a link type for private use
	calls, sum := decodeBytes(t, b, nil)
	require.Empty(t, calls)
	require.Equal(t, map[Reason]uint64{ErrLinkType: sum.Packets}, reasons(sum))
}

// TestBadFiles checks the errors that end a sequence.
func TestBadFiles(t *testing.T) {
	good := pcap(t, packets(t, find(t, "01").file))
	newer, err := os.ReadFile(find(t, "01").file)
	require.NoError(t, err)
	last := func(b []byte) (calls int, err error) {
		for c, e := range Calls(bytes.NewReader(b), nil) {
			require.NoError(t, err, "an error is the last")
			if err = e; c != nil {
				calls++
			}
		}
		return calls, err
	}
	for name, b := range map[string][]byte{
		"empty": nil, "short": good[:3], "header cut": good[:20], "text": []byte("This is no capture, but a text that is long enough."),
		"gzip cut": {0x1f, 0x8b, 8}, "pcapng cut": newer[:10],
	} {
		calls, err := last(b)
		require.ErrorIs(t, err, ErrNotCapture, name)
		require.Zero(t, calls, name)
	}
	for name, b := range map[string][]byte{"pcap": good[:len(good)-1], "pcapng": newer[:len(newer)/2]} {
		calls, err := last(b)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, name)
		require.NotZero(t, calls, name)
	}
	calls, err := last(good)
	require.NoError(t, err)
	require.Equal(t, 15, calls)
}

// TestStop ends the loop early.
func TestStop(t *testing.T) {
	f, err := os.Open(find(t, "07").file)
	require.NoError(t, err)
	defer f.Close()
	n := 0
	for range Calls(f, nil) {
		if n++; n == 3 {
			break
		}
	}
	require.Equal(t, 3, n)
}

// TestMidway leaves out the beginning of captures, packet by packet.
func TestMidway(t *testing.T) {
	for _, number := range []string{"01", "07", "12"} {
		r := find(t, number)
		all := packets(t, r.file)
		want, _ := decode(t, r.file, nil)
		for from := 0; from < len(all); from += 1 + len(all)/60 {
			got, sum := decodeBytes(t, pcap(t, all[from:]), nil)
			due := 0
			for _, c := range want {
				if int(c.Packet) > from {
					due++
				}
			}
			found := count(got, whole)
			require.LessOrEqual(t, found, due, "%s from %d", number, from)
			if number == "12" {
				continue // on TCP nothing is left without the bind
			}
			// Pipes that were opened before are lost, and said to be; all others are there.
			if found < due {
				require.NotZero(t, reasons(sum)[ErrMidstream]+reasons(sum)[ErrOrphan]+reasons(sum)[ErrLost],
					"%s from %d: %+v", number, from, sum)
			}
			for _, c := range got {
				if whole(c) {
					require.True(t, among(want, c), "%s from %d", number, from)
				}
			}
			// What comes before the first share's path cannot be told from anything else.
			require.GreaterOrEqual(t, found, due-4, "%s from %d", number, from)
		}
	}
}

// among reports whether a call is in a list, but for the number of its packet.
func among(list []*Call, c *Call) bool {
	return slices.ContainsFunc(list, func(w *Call) bool {
		return w.Time.Equal(c.Time) && w.ResponseTime.Equal(c.ResponseTime) && w.Opnum == c.Opnum &&
			w.Client == c.Client &&
			reflect.DeepEqual(w.Request, c.Request) && reflect.DeepEqual(w.Response, c.Response)
	})
}

// TestOneLost leaves out each packet in turn.
func TestOneLost(t *testing.T) {
	for _, number := range []string{"01", "03", "05", "08", "16", "17"} {
		r := find(t, number)
		all := packets(t, r.file)
		cfg := &Config{Keytab: r.keys(t)}
		want, _ := decode(t, r.file, cfg)
		step := 5
		if number == "01" {
			step = 1
		}
		for i := 0; i < len(all); i += step {
			got, sum := decodeBytes(t, pcap(t, append(all[:i:i], all[i+1:]...)), cfg)
			found := count(got, whole)
			for _, c := range got {
				if whole(c) {
					require.True(t, among(want, c), "%s without %d: %v", number, i+1, c)
				}
			}
			if found < len(want) {
				require.NotZero(t, sum.Unanswered+uint64(len(sum.Problems)), "%s without %d", number, i+1)
			}
			if number == "01" || number == "08" {
				require.GreaterOrEqual(t, found, len(want)-1, "%s without %d: %+v", number, i+1, sum)
			}
		}
	}
}

// TestDisorder repeats each packet, or exchanges it with the next, and finds the same calls.
func TestDisorder(t *testing.T) {
	for _, number := range []string{"01", "12", "13"} {
		r := find(t, number)
		all := packets(t, r.file)
		cfg := &Config{Keytab: r.keys(t)}
		want, _ := decode(t, r.file, cfg)
		same := func(list []rawPacket, what string, i int) {
			got, sum := decodeBytes(t, pcap(t, list), cfg)
			require.Len(t, got, len(want), "%s: %s %d: %+v", number, what, i+1, sum)
			require.Empty(t, sum.Problems, "%s: %s %d", number, what, i+1)
			for _, c := range got {
				require.True(t, among(want, c), "%s: %s %d", number, what, i+1)
			}
		}
		for i := range all {
			same(slices.Insert(slices.Clone(all), i, all[i]), "twice", i)
			later := i
			for later < len(all) && later < i+7 && !flags(all[later]).FIN {
				later++ // what comes after the end of a connection would begin another one
			}
			same(slices.Insert(slices.Clone(all), later, all[i]), "again", i)
			if i > 0 && !flags(all[i-1]).SYN {
				swapped := slices.Clone(all)
				swapped[i-1].data, swapped[i].data = swapped[i].data, swapped[i-1].data
				swapped[i-1].info, swapped[i].info = swapped[i].info, swapped[i-1].info
				same(swapped, "exchanged with the one before", i)
			}
		}
	}
}

// flags returns the TCP layer of a packet; zeros where there is none.
func flags(p rawPacket) layers.TCP {
	var l links
	if _, err := l.decode(p.data, layers.LinkTypeEthernet, moment{}); err != nil {
		return layers.TCP{}
	}
	return l.tcp
}

// TestCut cuts all packets to a length, as a capture with a snap length does.
func TestCut(t *testing.T) {
	r := find(t, "01")
	all := packets(t, r.file)
	want, _ := decode(t, r.file, nil)
	for _, snap := range []int{20, 54, 60, 100, 134, 160, 200, 230, 260, 300, 2000} {
		list := slices.Clone(all)
		for i := range list {
			n := min(snap, len(list[i].data))
			list[i].data = list[i].data[:n]
			list[i].info.CaptureLength = n
		}
		got, sum := decodeBytes(t, pcap(t, list), nil)
		for _, c := range got {
			if whole(c) {
				require.True(t, among(want, c), "%d bytes", snap)
				continue
			}
			for _, err := range []error{c.RequestErr, c.ResponseErr} {
				if err != nil {
					require.ErrorIs(t, err, ErrCut, "%d bytes", snap)
				}
			}
		}
		if snap < 2000 {
			require.NotZero(t, reasons(sum)[ErrCut], "%d bytes: %+v", snap, sum)
		}
		switch {
		case snap >= 260:
			require.Len(t, got, len(want), "%d bytes", snap)
		case snap >= 230:
			require.NotEmpty(t, got, "%d bytes: the requests begin before that", snap)
		}
	}
}
