package fsrvp

import (
	"errors"
	"reflect"
	"testing"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// fuzzMethod feeds any stub to the request and the response of a method. What parses must append,
// and parse to the same from that; what does not must say so with an *ndr.Error inside the stub.
func fuzzMethod(f *testing.F, op Opnum) {
	for _, v := range vectors(f) {
		if v.Opnum == op {
			f.Add(byte(v.syntax(f)), v.Direction == "response", v.stub(f))
		}
	}
	f.Fuzz(func(t *testing.T, syntax byte, response bool, stub []byte) {
		s := ndr.Syntax(syntax % 3)
		parse := func(stub []byte) (Message, error) {
			if response {
				return ParseResponse(op, s, stub)
			}
			return ParseRequest(op, s, stub)
		}
		m, err := parse(stub)
		if err != nil {
			var at *ndr.Error
			if !errors.As(err, &at) || !errors.Is(err, ndr.ErrBadStub) || at.Offset > len(stub) {
				t.Fatalf("%d bytes: %v", len(stub), err)
			}
			return
		}
		first, err := m.Append(nil, s)
		if err != nil {
			t.Fatalf("append %+v: %v", m, err)
		}
		again, err := parse(first)
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("%+v came back as %+v: %v", m, again, err)
		}
		second, err := again.Append(nil, s)
		if err != nil || string(first) != string(second) {
			t.Fatalf("%x, then %x: %v", first, second, err)
		}
	})
}

func FuzzGetSupportedVersion(f *testing.F)  { fuzzMethod(f, OpGetSupportedVersion) }
func FuzzSetContext(f *testing.F)           { fuzzMethod(f, OpSetContext) }
func FuzzStartShadowCopySet(f *testing.F)   { fuzzMethod(f, OpStartShadowCopySet) }
func FuzzAddToShadowCopySet(f *testing.F)   { fuzzMethod(f, OpAddToShadowCopySet) }
func FuzzCommitShadowCopySet(f *testing.F)  { fuzzMethod(f, OpCommitShadowCopySet) }
func FuzzExposeShadowCopySet(f *testing.F)  { fuzzMethod(f, OpExposeShadowCopySet) }
func FuzzRecoveryComplete(f *testing.F)     { fuzzMethod(f, OpRecoveryCompleteShadowCopySet) }
func FuzzAbortShadowCopySet(f *testing.F)   { fuzzMethod(f, OpAbortShadowCopySet) }
func FuzzIsPathSupported(f *testing.F)      { fuzzMethod(f, OpIsPathSupported) }
func FuzzIsPathShadowCopied(f *testing.F)   { fuzzMethod(f, OpIsPathShadowCopied) }
func FuzzGetShareMapping(f *testing.F)      { fuzzMethod(f, OpGetShareMapping) }
func FuzzDeleteShareMapping(f *testing.F)   { fuzzMethod(f, OpDeleteShareMapping) }
func FuzzPrepareShadowCopySet(f *testing.F) { fuzzMethod(f, OpPrepareShadowCopySet) }

// FuzzParseShareName: what parses is spelt out to something that parses to the same.
func FuzzParseShareName(f *testing.F) {
	for _, s := range []string{`\\FS01\data\`, `\\[::1]\a\b`, `\\fe80--1s4.ipv6-literal.net\a$`, `\\?\UNC\h\s`,
		"\\\\h\\\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, unc string) {
		n, err := ParseShareName(unc)
		if err != nil {
			if !errors.Is(err, ErrInvalidArg) {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseShareName(n.String())
		if err != nil || again != n || !again.Equal(n) {
			t.Fatalf("%q: %+v came back as %+v: %v", unc, n, again, err)
		}
	})
}
