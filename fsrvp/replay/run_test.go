package replay

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// lines are differences as they are printed.
func lines(differences []Difference) []string {
	var s []string
	for i := range differences {
		s = append(s, differences[i].String())
	}
	return s
}

func TestRunAgainstFreshAgent(t *testing.T) {
	for _, life := range lives {
		t.Run(life.name, func(t *testing.T) {
			first := newFileServer(t)
			life.calls(t, first)
			recording := first.recording(t)
			require.NotEmpty(t, recording)

			second := newFileServer(t)
			report, err := Run(t.Context(), recording, &Config{Dial: second.dial})
			require.NoError(t, err)
			require.Empty(t, lines(report.Differences))
			require.Equal(t, len(recording), report.Calls)
			require.Equal(t, len(recording), report.Same)
			require.Empty(t, report.Removed)
			require.Empty(t, report.Left)
			second.requireClean(t)
		})
	}
}
func TestRunAgainstStrictAgent(t *testing.T) {
	for _, life := range lives {
		t.Run(life.name, func(t *testing.T) {
			first := newFileServer(t)
			life.calls(t, first)
			second := newFileServer(t, strict)
			report, err := Run(t.Context(), first.recording(t), &Config{Dial: second.dial})
			require.NoError(t, err)
			for _, l := range lines(report.Differences) {
				t.Log(l)
			}
			t.Log(report.Removed, report.Left)
			second.requireClean(t)
		})
	}
}
