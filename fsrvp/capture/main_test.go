package capture

import (
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
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	var sum Summary
	if cfg == nil {
		cfg = new(Config)
	}
	cfg.Summary = &sum
	var calls []*Call
	for c, err := range Calls(f, cfg) {
		require.NoError(t, err)
		calls = append(calls, c)
	}
	require.EqualValues(t, len(calls), sum.Calls)
	return calls, sum
}
