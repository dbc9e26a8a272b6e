package capture

import (
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// largeSize is how many bytes TestLarge decodes: CAPTURE_TEST_MB megabytes, or 50.
func largeSize(t testing.TB) int {
	if s := os.Getenv("CAPTURE_TEST_MB"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		return n << 20
	}
	return 50 << 20
}

// TestLarge decodes a large capture of which 1 % of the segments were lost, doubled or delayed.
func TestLarge(t *testing.T) {
	g := newGenerator(largeSize(t), 0.01, 1)
	var sum Summary
	found := 0
	var before, mem runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	peak := uint64(0)
	for c, err := range Calls(g, &Config{Summary: &sum}) {
		require.NoError(t, err)
		if sum.Calls%5000 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&mem)
			peak = max(peak, mem.HeapAlloc)
		}
		if c.Request == nil {
			continue
		}
		id := genID(c.Request)
		require.GreaterOrEqual(t, id, 0)
		require.Less(t, id, len(g.calls))
		request, response := genMessages(id)
		require.Equal(t, request, c.Request)
		if c.Response == nil {
			require.True(t, g.calls[id].answer || g.calls[id].damaged, "call %d: %v", id, c.ResponseErr)
			require.ErrorIs(t, c.ResponseErr, ErrLost)
			continue
		}
		require.Equal(t, response, c.Response)
		require.False(t, g.calls[id].found, "call %d twice", id)
		g.calls[id].found = true
		found++
	}
	whole, missed := 0, 0
	for _, c := range g.calls {
		if !c.damaged && !c.answer && !c.setup {
			whole++
			if !c.found {
				missed++
			}
		}
	}
	t.Logf("%d MB, %d packets (%d lost, %d doubled, %d late), %d calls, %d of them whole, %d found, %d whole ones missed, heap at most %d MB over %d MB",
		g.written>>20, sum.Packets, g.lost, g.doubled, g.late, len(g.calls), whole, found, missed, peak>>20, before.HeapAlloc>>20)
	t.Logf("%+v", sum)
	require.Zero(t, missed)
	require.Greater(t, g.lost, 100)
}
