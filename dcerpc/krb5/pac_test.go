package krb5

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	gopac "github.com/jcmturner/gokrb5/v8/pac"
	"github.com/jcmturner/gokrb5/v8/test/testdata"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// windowsPAC is one that Windows made, and the key that signed it.
func windowsPAC(t testing.TB) (*pac, Key) {
	t.Helper()
	p, err := parsePAC(unhex(t, testdata.MarshaledPAC_AD_WIN2K_PAC))
	require.NoError(t, err)
	kt := keytab.New()
	require.NoError(t, kt.Unmarshal(unhex(t, testdata.KEYTAB_SYSHTTP_TEST_GOKRB5)))
	keys := NewKeytab(kt).clientKeys(Principal{[]string{"sysHTTP"}, "TEST.GOKRB5"})
	require.Contains(t, keys, AES256SHA1)
	return p, keys[AES256SHA1].key
}

func TestPACOfWindows(t *testing.T) {
	t.Parallel()
	p, key := windowsPAC(t)
	require.NoError(t, p.verify(key.wire()))
	info, ok := p.buffer(pacLogonInfo)
	require.True(t, ok)
	sids, err := parseLogonInfo(info)
	require.NoError(t, err)
	require.Equal(t, []dcerpc.SID{
		"S-1-5-21-3167651404-3865080224-2280184895-1105",
		"S-1-5-21-3167651404-3865080224-2280184895-513",
		"S-1-5-21-3167651404-3865080224-2280184895-1108",
		"S-1-5-21-3167651404-3865080224-2280184895-1109",
		"S-1-5-21-3167651404-3865080224-2280184895-1115",
		"S-1-5-21-3167651404-3865080224-2280184895-1116",
		"S-1-5-21-3167651404-3865080224-2280184895-1114",
		"S-1-5-21-3167651404-3865080224-2280184895-1111",
	}, sids)
}

// Every bit counts, but those of the KDC's signature, which the server's does not cover.
func TestPACBitFlips(t *testing.T) {
	t.Parallel()
	p, key := windowsPAC(t)
	kdc, _, err := p.signature(pacKDCSignature)
	require.NoError(t, err)
	for i := range 8 * len(p.data) {
		if at := i / 8; at >= kdc.start && at < kdc.start+len(kdc.value) {
			continue
		}
		b := slices.Clone(p.data)
		b[i/8] ^= 1 << (i % 8)
		changed, err := parsePAC(b)
		if err == nil {
			err = changed.verify(key.wire())
		}
		require.ErrorIs(t, err, ErrPAC, "bit %d of byte %d", i%8, i/8)
	}
}

func TestPACMalformed(t *testing.T) {
	t.Parallel()
	p, key := windowsPAC(t)
	for n := range p.data {
		cut, err := parsePAC(p.data[:n])
		if err == nil {
			err = cut.verify(key.wire())
		}
		require.ErrorIs(t, err, ErrPAC, "cut to %d bytes", n)
	}
	huge := slices.Clone(p.data)
	binary.LittleEndian.PutUint32(huge, 1<<31) // buffers
	_, err := parsePAC(huge)
	require.ErrorIs(t, err, ErrPAC)
	wrap := slices.Clone(p.data)
	binary.LittleEndian.PutUint64(wrap[16:], ^uint64(0)-4) // offset that wraps around with its size
	_, err = parsePAC(wrap)
	require.ErrorIs(t, err, ErrPAC)
	other := key
	other.Value = slices.Clone(key.Value)
	other.Value[0] ^= 1
	require.ErrorIs(t, p.verify(other.wire()), ErrPAC)
}

// gokrb5 reads the same SIDs from what Windows made.
func TestLogonInfoAsGokrb5(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"gokrb5's domain": testdata.MarshaledPAC_Kerb_Validation_Info,
		"Microsoft's":     testdata.MarshaledPAC_Kerb_Validation_Info_MS,
		"over a trust":    testdata.MarshaledPAC_Kerb_Validation_Info_Trust,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := unhex(t, text)
			var info gopac.KerbValidationInfo
			require.NoError(t, info.Unmarshal(b))
			domain := dcerpc.SID(info.LogonDomainID.String())
			want := []dcerpc.SID{relative(domain, info.UserID)}
			for _, s := range info.GetGroupMembershipSIDs() {
				want = append(want, dcerpc.SID(s))
			}
			got, err := parseLogonInfo(b)
			require.NoError(t, err)
			require.ElementsMatch(t, want, got)
			require.Equal(t, want[0], got[0])
			for n := range b {
				parseLogonInfo(b[:n]) // does not panic
			}
		})
	}
}

func TestFiletime(t *testing.T) {
	t.Parallel()
	require.Equal(t, time.Unix(0, 0).UTC(), filetime(116444736000000000))
	require.Equal(t, time.Date(1601, 1, 1, 0, 0, 0, 100, time.UTC), filetime(1))
	require.Equal(t, time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC), filetime(132539328000000000))
}

// FuzzPAC is what a KDC may send that we do not know.
func FuzzPAC(f *testing.F) {
	p, key := windowsPAC(f)
	f.Add(p.data)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePAC(b)
		if err != nil {
			return
		}
		p.verify(key.wire())
		p.checkClient(&messages.EncTicketPart{})
	})
}

func FuzzLogonInfo(f *testing.F) {
	for _, text := range []string{testdata.MarshaledPAC_Kerb_Validation_Info,
		testdata.MarshaledPAC_Kerb_Validation_Info_MS,
		testdata.MarshaledPAC_Kerb_Validation_Info_Trust} {
		f.Add(unhex(f, text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sids, err := parseLogonInfo(b)
		if err == nil {
			require.NotEmpty(t, sids)
		}
		for _, s := range sids {
			_, err := dcerpc.ParseSID(string(s))
			require.NoError(t, err)
		}
	})
}
