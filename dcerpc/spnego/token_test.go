package spnego

import (
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

// The object identifiers that tests name.
var (
	ntlmOID     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 10}
	negoexOID   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 30}
	kerberosOID = asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2}
	windowsOID  = asn1.ObjectIdentifier{1, 2, 840, 48018, 1, 2, 2}
)

// hints is negHints of a NegTokenInit2, field 3.
const hints = "a32a3028a0261b246e6f745f646566696e65645f696e5f5246433431373840706c656173655f69676e6f7265"

// initTokens are NegTokenInits by what they show.
func initTokens() map[string]struct {
	hex  string
	want NegTokenInit
} {
	list := []asn1.ObjectIdentifier{ntlmOID}
	return map[string]struct {
		hex  string
		want NegTokenInit
	}{
		"one mechanism, a token": {
			"6021 06062b0601050502 a017 3015 a00e300c060a2b06010401823702020a a203040161",
			NegTokenInit{MechTypes: list, MechToken: []byte("a")},
		},
		"an empty token": {
			"6020 06062b0601050502 a016 3014 a00e300c060a2b06010401823702020a a2020400",
			NegTokenInit{MechTypes: list, MechToken: []byte{}},
		},
		"a MIC": {
			"6021 06062b0601050502 a017 3015 a00e300c060a2b06010401823702020a a303040162",
			NegTokenInit{MechTypes: list, MechListMIC: []byte("b")},
		},
		"reqFlags": {
			"6022 06062b0601050502 a018 3016 a00e300c060a2b06010401823702020a a10403020640",
			NegTokenInit{MechTypes: list},
		},
		"bytes behind it": {
			"601c 06062b0601050502 a012 3010 a00e300c060a2b06010401823702020a 0000",
			NegTokenInit{MechTypes: list},
		},
		"NegTokenInit2 of a server, hints alone": {
			"6048 06062b0601050502 a03e 303c a00e300c060a2b06010401823702020a" + hints,
			NegTokenInit{MechTypes: list},
		},
		"NegTokenInit2 with a MIC": {
			"604d 06062b0601050502 a043 3041 a00e300c060a2b06010401823702020a" + hints + "a403040163",
			NegTokenInit{MechTypes: list, MechListMIC: []byte("c")},
		},
		"no mechTypes": {
			"6010 06062b0601050502 a006 3004 a2020400",
			NegTokenInit{MechToken: []byte{}},
		},
	}
}

func TestParseNegTokenInit(t *testing.T) {
	for name, tc := range initTokens() {
		t.Run(name, func(t *testing.T) {
			got, err := ParseNegTokenInit(unhex(t, tc.hex))
			require.NoError(t, err)
			if tc.want.MechTypes != nil {
				require.Equal(t, unhex(t, "300c060a2b06010401823702020a"), got.MechList)
			}
			got.MechList = nil
			require.Equal(t, tc.want, *got)
		})
	}
}

// TestExampleOfTheStandard is the offer of MS-SPNG 4.
func TestExampleOfTheStandard(t *testing.T) {
	b := unhex(t, "6082015d06062b0601050502a08201513082014da01a3018060a2b06010401823702021e060a2b06010401823702020aa2820101"+
		"0481fe"+strings.Repeat("4e", 254)+hints)
	got, err := ParseNegTokenInit(b)
	require.NoError(t, err)
	require.Equal(t, []asn1.ObjectIdentifier{negoexOID, ntlmOID}, got.MechTypes)
	require.Equal(t, bytes.Repeat([]byte("N"), 254), got.MechToken)
	require.Nil(t, got.MechListMIC)
}

func TestMalformedNegTokenInit(t *testing.T) {
	for name, s := range map[string]string{
		"nothing":                  "",
		"a NegTokenResp":           "a1073005a0030a0101",
		"Kerberos in a frame":      "600b 06092a864886f712010202",
		"another choice":           "600a 06062b0601050502 a100",
		"no sequence":              "600a 06062b0601050502 a000",
		"length past the end":      "6021 06062b0601050502 a017 3015 a00e300c060a2b06010401823702020a a2030401",
		"inner length past":        "6021 06062b0601050502 a017 3015 a00e300c060a2b06010401823702020a a203040961",
		"indefinite length":        "6080 06062b0601050502 a016 3014 a00e300c060a2b06010401823702020a a2020400 0000",
		"mechTypes no list":        "6010 06062b0601050502 a006 3004 a0020400",
		"mechTypes with numbers":   "6013 06062b0601050502 a009 3007 a005 3003 020101",
		"bytes after the list":     "601e 06062b0601050502 a014 3012 a010 300c060a2b06010401823702020a 0500",
		"mechToken a number":       "6021 06062b0601050502 a017 3015 a00e300c060a2b06010401823702020a a203020161",
		"bytes after mechToken":    "6022 06062b0601050502 a018 3016 a00e300c060a2b06010401823702020a a204040161ff",
		"mechListMIC a number":     "6021 06062b0601050502 a017 3015 a00e300c060a2b06010401823702020a a303020161",
		"mechListMIC behind hints": "604d 06062b0601050502 a043 3041 a00e300c060a2b06010401823702020a" + hints + "a403020163",
		"reqFlags cut":             "601e 06062b0601050502 a014 3012 a00e300c060a2b06010401823702020a a104",
	} {
		_, err := ParseNegTokenInit(unhex(t, s))
		require.ErrorIs(t, err, ErrToken, name)
	}
}

// respTokens are NegTokenResps by what they show.
func respTokens() map[string]struct {
	hex  string
	want NegTokenResp
} {
	return map[string]struct {
		hex  string
		want NegTokenResp
	}{
		"nothing":   {"a102 3000", NegTokenResp{}},
		"completed": {"a107 3005 a0030a0100", NegTokenResp{State: AcceptCompleted}},
		"reject":    {"a107 3005 a0030a0102", NegTokenResp{State: Reject}},
		"request-mic, NTLM": {
			"a115 3013 a0030a0103 a10c060a2b06010401823702020a",
			NegTokenResp{State: RequestMIC, SupportedMech: ntlmOID},
		},
		"everything": {
			"a11f 301d a0030a0101 a10c060a2b06010401823702020a a203040161 a303040162",
			NegTokenResp{State: AcceptIncomplete, SupportedMech: ntlmOID, ResponseToken: []byte("a"),
				MechListMIC: []byte("b")},
		},
		"an empty token": {"a106 3004 a2020400", NegTokenResp{ResponseToken: []byte{}}},
	}
}

func TestNegTokenResp(t *testing.T) {
	for name, tc := range respTokens() {
		t.Run(name, func(t *testing.T) {
			got, err := ParseNegTokenResp(unhex(t, tc.hex))
			require.NoError(t, err)
			require.Equal(t, tc.want, *got)
			b, err := got.AppendBinary([]byte("before"))
			require.NoError(t, err)
			require.Equal(t, append([]byte("before"), unhex(t, tc.hex)...), b)
		})
	}
}

func TestMalformedNegTokenResp(t *testing.T) {
	for name, s := range map[string]string{
		"nothing":                "",
		"an offer":               "601c 06062b0601050502 a012 3010 a00e300c060a2b06010401823702020a",
		"bytes behind it":        "a102 3000 00",
		"no sequence":            "a100",
		"state 4":                "a107 3005 a0030a0104",
		"state -1":               "a107 3005 a0030a01ff",
		"state a number":         "a107 3005 a003020101",
		"state too long":         "a108 3006 a0040a0101ff",
		"supportedMech a string": "a106 3004 a1020400",
		"responseToken a number": "a107 3005 a203020101",
		"mechListMIC a number":   "a107 3005 a303020101",
		"cut":                    "a107 3005 a003",
	} {
		_, err := ParseNegTokenResp(unhex(t, s))
		require.ErrorIs(t, err, ErrToken, name)
	}
}

func TestAppendNegTokenInit(t *testing.T) {
	b, err := (&NegTokenInit{
		MechTypes: []asn1.ObjectIdentifier{windowsOID, kerberosOID,
			ntlmOID}, MechToken: []byte("a"), MechListMIC: []byte("b"),
	}).AppendBinary(nil)
	require.NoError(t, err)
	require.Equal(t, unhex(t, "603c 06062b0601050502 a032 3030 a0243022"+
		"06092a864882f71201020206092a864886f712010202060a2b06010401823702020a a203040161 a303040162"), b)

	_, err = (&NegTokenInit{MechTypes: []asn1.ObjectIdentifier{{9, 9}}}).AppendBinary(nil)
	require.Error(t, err)
	_, err = (&NegTokenResp{SupportedMech: asn1.ObjectIdentifier{1}}).AppendBinary(nil)
	require.Error(t, err)
}

func TestNamesOfKerberos(t *testing.T) {
	require.Equal(t, []asn1.ObjectIdentifier{windowsOID, kerberosOID}, oids(kerberosOID))
	require.Equal(t, []asn1.ObjectIdentifier{ntlmOID}, oids(ntlmOID))
	require.True(t, named(kerberosOID, windowsOID))
	require.True(t, named(kerberosOID, kerberosOID))
	require.False(t, named(ntlmOID, kerberosOID))
}

func FuzzParseNegTokenInit(f *testing.F) {
	for _, tc := range initTokens() {
		f.Add(unhex(f, tc.hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := ParseNegTokenInit(b)
		if err != nil {
			return
		}
		again, err := first.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		second, err := ParseNegTokenInit(again)
		if err != nil {
			t.Fatal(err)
		}
		first.MechList, second.MechList = nil, nil
		require.Equal(t, first, second)
	})
}

func FuzzParseNegTokenResp(f *testing.F) {
	for _, tc := range respTokens() {
		f.Add(unhex(f, tc.hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := ParseNegTokenResp(b)
		if err != nil {
			return
		}
		again, err := first.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		second, err := ParseNegTokenResp(again)
		if err != nil {
			t.Fatal(err)
		}
		require.Equal(t, first, second)
	})
}
