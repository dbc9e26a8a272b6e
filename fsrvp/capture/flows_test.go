package capture

import (
	"bytes"
	"cmp"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// decodeSlowly is decodeBytes with gopacket's assembler for every segment.
func decodeSlowly(t testing.TB, file []byte, cfg *Config) ([]*Call, Summary) {
	var c Config
	if cfg != nil {
		c = *cfg
	}
	var sum Summary
	c.Summary = &sum
	r, err := openFile(bytes.NewReader(file))
	require.NoError(t, err)
	d := newDecoder(c.withDefaults())
	d.streams.allSlow = true
	var calls []*Call
	collect := func(c *Call, err error) bool {
		require.NoError(t, err)
		calls = append(calls, c)
		return true
	}
	for {
		data, ci, link, err := r.next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		d.packet(data, ci, link)
		d.yield(collect)
	}
	d.close()
	d.yield(collect)
	return calls, sum
}

// requireSame decodes a file both ways. What ends with the file ends in any order of its
// connections.
func requireSame(t testing.TB, file []byte, cfg *Config) {
	want, wantSum := decodeSlowly(t, file, cfg)
	got, gotSum := decodeBytes(t, file, cfg)
	for _, list := range [][]*Call{want, got} {
		for _, c := range list {
			c.Association = 0 // those that are found when the file ends have numbers in any order
		}
		slices.SortStableFunc(list, func(a, b *Call) int {
			return cmp.Or(cmp.Compare(a.Packet, b.Packet), cmp.Compare(a.CallID, b.CallID),
				cmp.Compare(a.Client.Port(), b.Client.Port()))
		})
	}
	require.Equal(t, want, got)
	count := func(s Summary) map[Reason]uint64 { return reasons(s) }
	require.Equal(t, count(wantSum), count(gotSum))
	wantSum.Problems, gotSum.Problems = nil, nil
	require.Equal(t, wantSum, gotSum)
}

// TestFlows compares the way of segments that come in order with that of all others, on every
// capture as it is, and with packets left out, doubled and in another order.
func TestFlows(t *testing.T) {
	for _, r := range recordings(t) {
		cfg := &Config{Keytab: r.keys(t), NTHashes: passwords(backupPassword)}
		list := packets(t, r.file)
		requireSame(t, pcap(t, list), cfg)
		rng := rand.New(rand.NewPCG(1, 2))
		for range 12 {
			var changed []rawPacket
			for _, p := range list {
				switch n := rng.IntN(40); {
				case n == 0:
				case n == 1:
					changed = append(changed, p, p)
				case n == 2 && len(changed) > 0:
					changed = slices.Insert(changed, max(0, len(changed)-1-rng.IntN(4)), p)
				default:
					changed = append(changed, p)
				}
			}
			requireSame(t, pcap(t, changed[rng.IntN(3)*len(changed)/8:]), cfg)
		}
	}
	for seed := range uint64(4) {
		file, err := io.ReadAll(newGenerator(2<<20, 0.02*float64(seed), seed))
		require.NoError(t, err)
		requireSame(t, file, nil)
	}
}

func FuzzFlows(f *testing.F) {
	r := find(f, "01")
	all := packets(f, r.file)
	f.Add([]byte{1, 2, 3, 0, 1, 2, 250, 3, 4, 5, 6, 7})
	f.Add(bytes.Repeat([]byte{1}, 200))
	f.Fuzz(func(t *testing.T, order []byte) {
		// Each byte says how far to go on in the capture, or back.
		var list []rawPacket
		i := 0
		for _, step := range order {
			if i += int(int8(step)); i < 0 || i >= len(all) {
				break
			}
			list = append(list, all[i])
		}
		requireSame(t, pcap(t, list), nil)
	})
}
