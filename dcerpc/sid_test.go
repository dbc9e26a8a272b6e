package dcerpc_test

import (
	"encoding/binary"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// sidBinary makes the packet form of a SID (MS-DTYP 2.4.2.2).
func sidBinary(authority uint64, sub ...uint32) []byte {
	var a [8]byte
	binary.BigEndian.PutUint64(a[:], authority)
	b := append([]byte{1, byte(len(sub))}, a[2:]...)
	for _, s := range sub {
		b = binary.LittleEndian.AppendUint32(b, s)
	}
	return b
}

func TestSID(t *testing.T) {
	for _, test := range []struct {
		text   string
		want   dcerpc.SID // empty: as text
		binary []byte
	}{
		{"S-1-5-32-544", dcerpc.SIDBuiltinAdmins, sidBinary(5, 32, 544)},
		{"S-1-5-7", dcerpc.SIDAnonymous, sidBinary(5, 7)},
		{"S-1-5", "", sidBinary(5)},
		{"s-1-5-32-0551", dcerpc.SIDBuiltinBackupOperators, sidBinary(5, 32, 551)},
		{"S-1-5-21-4294967295-0-1", "", sidBinary(5, 21, 0xFFFFFFFF, 0, 1)},
		{"S-1-4294967295-1", "", sidBinary(0xFFFFFFFF, 1)},
		{"S-1-0x000100000000-1", "", sidBinary(1<<32, 1)},
		{"S-1-0xFFFFFFFFFFFF-1", "S-1-0xffffffffffff-1", sidBinary(1<<48-1, 1)},
		{"S-1-4294967296-1", "S-1-0x000100000000-1", sidBinary(1<<32, 1)},
		{"S-1-5-1-2-3-4-5-6-7-8-9-10-11-12-13-14-15", "", sidBinary(5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)},
	} {
		want := test.want
		if want == "" {
			want = dcerpc.SID(test.text)
		}
		got, err := dcerpc.ParseSID(test.text)
		require.NoError(t, err)
		require.Equal(t, want, got)
		got, n, err := dcerpc.SIDFromBinary(append(test.binary, "what follows"...))
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, len(test.binary), n)
		for i := range test.binary {
			_, _, err := dcerpc.SIDFromBinary(test.binary[:i])
			require.Error(t, err, "%s cut off after %d bytes", test.text, i)
		}
	}
	for _, bad := range []string{
		"", "S", "S-1", "S-2-5", "T-1-5", "S-1-", "S-1-x", "S-1-281474976710656", "S-1-5-", "S-1-5-4294967296", "S-1-5--1", "S-1-5-0x1",
		"S-1-5" + strings.Repeat("-1", 16),
	} {
		_, err := dcerpc.ParseSID(bad)
		require.ErrorContains(t, err, strconv.Quote(bad))
	}
	_, _, err := dcerpc.SIDFromBinary([]byte{2, 0, 0, 0, 0, 0, 0, 5})
	require.ErrorContains(t, err, "revision 2")
	_, _, err = dcerpc.SIDFromBinary(append([]byte{1, 16}, zeros(100)...))
	require.ErrorContains(t, err, "16 subauthorities")
}

// FuzzSIDFromBinary checks that what is read can be written and read as text.
func FuzzSIDFromBinary(f *testing.F) {
	f.Add(sidBinary(5, 32, 544))
	f.Add(sidBinary(1<<48-1, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		sid, n, err := dcerpc.SIDFromBinary(b)
		if err != nil {
			return
		}
		require.LessOrEqual(t, n, len(b))
		again, err := dcerpc.ParseSID(string(sid))
		require.NoError(t, err)
		require.Equal(t, sid, again)
	})
}

func TestHasSID(t *testing.T) {
	id := dcerpc.Identity{SIDs: []dcerpc.SID{dcerpc.SIDAuthenticatedUsers, dcerpc.SIDBuiltinAdmins}}
	require.True(t, id.HasSID("S-1-5-32-544"))
	require.False(t, id.HasSID(dcerpc.SIDAnonymous))
}
