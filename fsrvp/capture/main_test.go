package capture

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
)

var update = flag.Bool("update", false, "write testdata/tshark with what tshark reads now")

const captures = "../../testdata/captures"

// A recording is one of the captures, and the keytab of its server.
type recording struct {
	file, keytab string
}

// recordings returns all captures.
func recordings(t testing.TB) []recording {
	files, err := filepath.Glob(captures + "/*.pcapng")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 16)
	list := make([]recording, len(files))
	for i, f := range files {
		list[i] = recording{f, captures + "/all.keytab"}
		if filepath.Base(f) >= "13" {
			list[i].keytab = captures + "/fs.keytab"
		}
	}
	return list
}

// find returns the capture of a number.
func find(t testing.TB, number string) recording {
	for _, r := range recordings(t) {
		if filepath.Base(r.file)[:2] == number {
			return r
		}
	}
	t.Fatalf("no capture %s", number)
	return recording{}
}

func (r recording) name() string {
	base := filepath.Base(r.file)
	return base[:len(base)-len(filepath.Ext(base))]
}

func (r recording) keys(t testing.TB) *krb5.Keytab {
	kt, err := krb5.LoadKeytab(r.keytab)
	require.NoError(t, err)
	return kt
}

// decode returns all calls of a file.
func decode(t testing.TB, file string, cfg *Config) ([]*Call, Summary) {
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	return decodeBytes(t, b, cfg)
}

// decodeBytes returns all calls of a file in memory.
func decodeBytes(t testing.TB, file []byte, cfg *Config) ([]*Call, Summary) {
	var c Config
	if cfg != nil {
		c = *cfg
	}
	var sum Summary
	c.Summary = &sum
	var calls []*Call
	for call, err := range Calls(bytes.NewReader(file), &c) {
		require.NoError(t, err)
		calls = append(calls, call)
	}
	require.EqualValues(t, len(calls), sum.Calls)
	return calls, sum
}
