package fsrvp

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A vector is one stub of testdata/vectors/fsrvp.json or captured.json.
type vector struct {
	ID        string
	Opnum     Opnum
	Direction string
	Syntax    string
	Values    json.RawMessage
	Hex       string
}

// vectors returns those of the 13 methods; the management interface's are for its own tests.
func vectors(t testing.TB) []vector {
	made := readVectors(t, "fsrvp.json")
	require.Len(t, made, 3*43, "43 messages in three syntaxes")
	captured := readVectors(t, "captured.json")
	require.Len(t, captured, 54)
	return append(made, captured...)
}

func readVectors(t testing.TB, name string) []vector {
	b, err := os.ReadFile("../testdata/vectors/" + name)
	require.NoError(t, err)
	var all, out []vector
	require.NoError(t, json.Unmarshal(b, &all))
	for _, v := range all {
		if !strings.HasPrefix(v.ID, "mgmt.") {
			out = append(out, v)
		}
	}
	return out
}

func (v vector) stub(t testing.TB) []byte {
	b, err := hex.DecodeString(v.Hex)
	require.NoError(t, err)
	return b
}

func (v vector) syntax(t testing.TB) ndr.Syntax {
	for _, s := range syntaxes {
		if s.String() == v.Syntax {
			return s
		}
	}
	t.Fatalf("unknown syntax %q", v.Syntax)
	return 0
}

func (v vector) parse(t testing.TB) Message {
	var m Message
	var err error
	if v.Direction == "request" {
		m, err = ParseRequest(v.Opnum, v.syntax(t), v.stub(t))
	} else {
		m, err = ParseResponse(v.Opnum, v.syntax(t), v.stub(t))
	}
	require.NoError(t, err)
	require.Equal(t, v.Opnum, m.Opnum())
	return m
}

// Every vector decodes to its stated values, and encodes to its stated bytes both from what was
// decoded and from the values.
func TestVectors(t *testing.T) {
	methods := make(map[string]int)
	for _, v := range vectors(t) {
		t.Run(v.ID+"/"+v.Syntax, func(t *testing.T) {
			methods[v.Opnum.String()+" "+v.Direction+" "+v.Syntax]++
			require.True(t, strings.HasPrefix(v.ID, v.Opnum.String()+"."), "opnum's name")

			m := v.parse(t)
			got, err := json.Marshal(m)
			require.NoError(t, err)
			require.JSONEq(t, string(v.Values), string(got))

			stub, err := m.Append(nil, v.syntax(t))
			require.NoError(t, err)
			require.Equal(t, v.Hex, hex.EncodeToString(stub))

			var fromValues Message = NewRequest(v.Opnum)
			if v.Direction == "response" {
				fromValues = NewResponse(v.Opnum)
			}
			require.NoError(t, json.Unmarshal(v.Values, fromValues))
			require.Equal(t, m, fromValues)
			stub, err = fromValues.Append([]byte("abc"), v.syntax(t))
			require.NoError(t, err)
			require.Equal(t, "616263"+v.Hex, hex.EncodeToString(stub), "alignment counts from the stub's start")
		})
	}
	require.Len(t, methods, 13*2*3, "every method, both directions, every syntax")
}

// A stub that ends early fails, at whatever byte, with an error that says where; bytes after the
// message are ignored.
func TestVectorsTruncated(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.ID+"/"+v.Syntax, func(t *testing.T) {
			stub, m := v.stub(t), v.parse(t)
			for n := range stub {
				err := m.Parse(v.syntax(t), stub[:n])
				require.ErrorIs(t, err, ndr.ErrBadStub, "%d bytes", n)
				var at *ndr.Error
				require.ErrorAs(t, err, &at)
				require.LessOrEqual(t, at.Offset, n)
			}
			require.NoError(t, m.Parse(v.syntax(t), append(stub, 1, 2, 3)))
			require.Equal(t, v.parse(t), m)
		})
	}
}
