package replay

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// FuzzReplay plays whatever a transcript may say, to a client and by one.
func FuzzReplay(f *testing.F) {
	for _, name := range []string{"errors", "two clients"} {
		var b bytes.Buffer
		w := transcript.NewWriter(&b)
		for _, e := range recorded(f, name) {
			require.NoError(f, w.Write(e))
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		all, _ := transcript.ReadAll(bytes.NewReader(text))
		if len(all) == 0 {
			return
		}
		s, err := NewService(all, nil)
		require.NoError(t, err)
		report, err := Run(t.Context(), all, &Config{Service: s})
		require.NotNil(t, report)
		if err == nil {
			require.Equal(t, len(all), report.Calls)
		}
	})
}
