package story_test

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/story"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// FuzzTell tells the story of any transcript, and shows it in every way.
func FuzzTell(f *testing.F) {
	b, err := os.ReadFile("testdata/slow-thaw.jsonl")
	require.NoError(f, err)
	f.Add(b)
	lines := bytes.SplitAfter(b, []byte("\n"))
	f.Add(bytes.Join([][]byte{lines[0], lines[9], lines[7], lines[5], lines[3], lines[4], lines[4], lines[2]}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		calls, _ := transcript.ReadAll(bytes.NewReader(b))
		sets := story.Tell(calls, nil)
		events := 0
		for _, s := range sets {
			s.AppendText(nil)
			require.NotContains(t, string(s.AppendLine(nil)), "\n")
			require.False(t, s.End().Before(s.Begin()))
			for i, e := range s.Events {
				require.True(t, i == 0 || !e.Time.Before(s.Events[i-1].Time), "events by time")
				if e.Call != nil {
					events++
					require.Equal(t, !e.Call.Succeeded(), e.Failed())
				}
			}
			require.Equal(t, s.Outcome.Succeeded() && s.Cause != nil, false)
		}
		require.LessOrEqual(t, events, len(calls))
		require.NoError(t, story.WriteHTML(io.Discard, "x", sets))
	})
}
