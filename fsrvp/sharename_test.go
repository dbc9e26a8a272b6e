package fsrvp

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParseShareName(t *testing.T) {
	for _, tt := range []struct {
		unc  string
		want ShareName
	}{
		{`\\FS01\data`, ShareName{"FS01", "data", ""}},
		{`\\FS01\data\`, ShareName{"FS01", "data", ""}},
		{`\\FS01\data\\`, ShareName{"FS01", "data", ""}},
		{`\\FS01\data\vm\disk 1.vhdx`, ShareName{"FS01", "data", `vm\disk 1.vhdx`}},
		{`\\FS01\data\vm\`, ShareName{"FS01", "data", `vm`}},
		{`\\fs01.example.com.\data\vm`, ShareName{"fs01.example.com", "data", "vm"}},
		{`\\FS01.\data`, ShareName{"FS01", "data", ""}},
		{`\\10.0.0.1.\data`, ShareName{"10.0.0.1", "data", ""}},
		{`\\fe80--1s4.ipv6-literal.net.\data`, ShareName{"fe80--1s4.ipv6-literal.net", "data", ""}},
		{`\\fs01.example.com\thisshare$\`, ShareName{"fs01.example.com", "thisshare$", ""}},
		{`\\10.0.0.1\data`, ShareName{"10.0.0.1", "data", ""}},
		{`\\[2001:db8::1]\data`, ShareName{"[2001:db8::1]", "data", ""}},
		{`\\2001:db8::1\data`, ShareName{"2001:db8::1", "data", ""}},
		{`\\2001-db8--1.ipv6-literal.net\data`, ShareName{"2001-db8--1.ipv6-literal.net", "data", ""}},
		{`\\fe80--1s4.IPv6-Literal.net\data`, ShareName{"fe80--1s4.IPv6-Literal.net", "data", ""}},
		{`\\FS01\bücher`, ShareName{"FS01", "bücher", ""}},
		{"\\\\FS01\\\U0001F4BE\\", ShareName{"FS01", "\U0001F4BE", ""}},
		{`\\FS01\vms@{f0f1f2f3-e0e1-d8d9-c8c9-cacbcccdcecf}`, ShareName{"FS01", "vms@{f0f1f2f3-e0e1-d8d9-c8c9-cacbcccdcecf}", ""}},
		{`\\h\` + strings.Repeat("x", 80), ShareName{"h", strings.Repeat("x", 80), ""}},
		{`\\` + strings.Repeat("h", 255) + `\s`, ShareName{strings.Repeat("h", 255), "s", ""}},
		{`\\h\` + strings.Repeat("\U0001F4BE", 40), ShareName{"h", strings.Repeat("\U0001F4BE", 40), ""}},
	} {
		got, err := ParseShareName(tt.unc)
		require.NoError(t, err, tt.unc)
		require.Equal(t, tt.want, got)
	}
}

func TestParseShareNameErrors(t *testing.T) {
	for _, tt := range []struct{ unc, reason string }{
		{``, "it is empty"},
		{`data`, `does not begin`},
		{`\data`, `does not begin`},
		{`C:\data`, `does not begin`},
		{`//FS01/data`, `does not begin`},
		{`\\`, "host is empty"},
		{`\\\`, "host is empty"},
		{`\\\data`, "host is empty"},
		{`\\FS01`, "share is empty"},
		{`\\FS01\`, "share is empty"},
		{`\\FS01\\data`, "share is empty"},
		{`\\.\C:\data`, "device path"},
		{`\\?\C:\data`, "device path"},
		{`\\?\UNC\FS01\data`, "device path"},
		{`\\..\data`, "empty label"},
		{`\\fs01..\data`, "empty label"},
		{`\\...\data`, "empty label"},
		{`\\FS 01\data`, "host has a forbidden character"},
		{`\\FS01/x\data`, "host has a forbidden character"},
		{`\\F*\data`, "host has a forbidden character"},
		{"\\\\F\x01\\data", "host has a forbidden character"},
		{`\\[2001:db8::1\data`, "not an IPv6 address"},
		{`\\[10.0.0.1]\data`, "not an IPv6 address"},
		{`\\[]\data`, "not an IPv6 address"},
		{`\\fs:445\data`, "not an IPv6 address"},
		{`\\zz--1.ipv6-literal.net\data`, "not an IPv6 address"},
		{`\\` + strings.Repeat("h", 256) + `\s`, "more than 255"},
		{`\\h\` + strings.Repeat("x", 81), "more than 80"},
		{`\\h\` + strings.Repeat("\U0001F4BE", 40) + "x", "more than 80"},
		{`\\FS01\.`, "relative path"},
		{`\\FS01\..\data`, "relative path"},
		{`\\FS01\da:ta`, "share has a forbidden character"},
		{`\\FS01\da/ta`, "share has a forbidden character"},
		{`\\FS01\[data]`, "share has a forbidden character"},
		{`\\FS01\a,b`, "share has a forbidden character"},
		{"\\\\FS01\\da\x00ta", "share has a forbidden character"},
		{"\\\\FS01\\da\nta", "share has a forbidden character"},
		{"\\\\FS01\\data\\a\x00", "path below"},
		{"\\\\FS01\\data\\a*", "path below"},
		{"\\\\FS01\\\xff", "not UTF-8"},
		{"\\\\FS01\\\xed\xa0\x80", "lone surrogate"},
	} {
		_, err := ParseShareName(tt.unc)
		require.ErrorIs(t, err, ErrInvalidArg, tt.unc)
		var bad *ShareNameError
		require.ErrorAs(t, err, &bad)
		require.Equal(t, tt.unc, bad.Name)
		require.ErrorContains(t, err, tt.reason, "%q", tt.unc)
	}
	for _, c := range `"/[]:|<>+=;,*?` {
		_, err := ParseShareName(`\\FS01\a` + string(c))
		require.Error(t, err, "%q", c)
	}
}

func TestShareNameText(t *testing.T) {
	n := ShareName{Host: "FS01", Share: "data", Rest: `a\b`}
	require.Equal(t, `\\FS01\data`, n.UNC())
	require.Equal(t, `\\FS01\data\a\b`, n.String())
	require.Equal(t, `\\FS01\data`, ShareName{Host: "FS01", Share: "data"}.String())
}

func TestShareNameEqual(t *testing.T) {
	parse := func(s string) ShareName {
		n, err := ParseShareName(s)
		require.NoError(t, err)
		return n
	}
	for _, tt := range []struct {
		a, b  string
		equal bool
	}{
		{`\\FS01\data`, `\\fs01\DATA\`, true},
		{`\\FS01\data`, `\\fs01\DATA\below`, true},
		{`\\fs01.example.com\data`, `\\FS01.example.com.\data`, true},
		{`\\FS01\bücher`, `\\FS01\BÜCHER`, true},
		{`\\FS01\data`, `\\FS02\data`, false},
		{`\\FS01\data`, `\\FS01\data2`, false},
		{`\\[2001:DB8::1]\data`, `\\2001-db8-0--1.ipv6-literal.net\data`, true},
		{`\\2001:db8::1\data`, `\\[2001:db8::2]\data`, false},
		{`\\10.0.0.1\data`, `\\[::ffff:10.0.0.1]\data`, true},
		{`\\10.0.0.1\data`, `\\FS01\data`, false},
	} {
		require.Equal(t, tt.equal, parse(tt.a).Equal(parse(tt.b)), "%s %s", tt.a, tt.b)
		require.Equal(t, tt.equal, parse(tt.b).Equal(parse(tt.a)), "%s %s", tt.b, tt.a)
	}
	addr, ok := parse(`\\fe80--1s4.ipv6-literal.net\data`).Addr()
	require.True(t, ok)
	require.Equal(t, netip.MustParseAddr("fe80::1%4"), addr)
	_, ok = parse(`\\FS01\data`).Addr()
	require.False(t, ok)
}

// Whatever parses is spelt out again to something that parses to the same.
func TestShareNameRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unc := rapid.OneOf(rapid.String(),
			rapid.StringMatching(`\\\\[a-z0-9:.\[\]-]{1,8}(\\[a-zA-Z$@{}.*]{0,5}){1,4}`)).Draw(t, "unc")
		n, err := ParseShareName(unc)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalidArg)
			return
		}
		again, err := ParseShareName(n.String())
		require.NoError(t, err)
		require.Equal(t, n, again)
		require.True(t, n.Equal(again))
		without, err := ParseShareName(n.UNC())
		require.NoError(t, err)
		require.True(t, n.Equal(without))
	})
}

func TestExposedName(t *testing.T) {
	var id CopyID
	require.NoError(t, id.UnmarshalText([]byte("F0F1F2F3-E0E1-D8D9-C8C9-CACBCCCDCECF")))
	require.Equal(t, "vms@{f0f1f2f3-e0e1-d8d9-c8c9-cacbcccdcecf}", ExposedName("vms", id))
	require.Equal(t, "vms@{f0f1f2f3-e0e1-d8d9-c8c9-cacbcccdcecf}", ExposedNameNoDollar("vms", id))
	require.Equal(t, "vms$@{f0f1f2f3-e0e1-d8d9-c8c9-cacbcccdcecf}$", ExposedName("vms$", id))
	require.Equal(t, "vms$@{f0f1f2f3-e0e1-d8d9-c8c9-cacbcccdcecf}", ExposedNameNoDollar("vms$", id))
}
