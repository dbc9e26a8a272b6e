package replay

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// TestRunOrder has calls that overlap in the recording, and tells when they begin now.
func TestRunOrder(t *testing.T) {
	const sec = time.Second
	var recording []*transcript.Exchange
	add := func(begin, end time.Duration) {
		i := fsrvp.ContextValue(len(recording))
		recording = append(recording, exchange(begin, end, &fsrvp.SetContextRequest{Context: i},
			&fsrvp.SetContextResponse{}))
	}
	add(0, 10*sec)
	add(9*sec, 9*sec) // out of order in the file
	add(1*sec, 2*sec)
	add(3*sec, 12*sec)
	add(11*sec, 12*sec)
	for _, test := range []struct {
		speed float64
		took  [5]time.Duration
		at    [5]time.Duration
	}{
		// 3 and 1 wait for 2, and 4 for 0.
		{0, [5]time.Duration{30 * sec, 0, 10 * sec, sec, 0}, [5]time.Duration{0, 10 * sec, 0, 10 * sec, 30 * sec}},
		{1, [5]time.Duration{}, [5]time.Duration{0, 9 * sec, 1 * sec, 3 * sec, 11 * sec}},
		{10, [5]time.Duration{}, [5]time.Duration{0, 9 * sec / 10, sec / 10, 3 * sec / 10, 11 * sec / 10}},
		// No call is early, and none waits for more than it has to.
		{10, [5]time.Duration{2: sec}, [5]time.Duration{0, 11 * sec / 10, sec / 10, 11 * sec / 10, 11 * sec / 10}},
		{math.SmallestNonzeroFloat64, [5]time.Duration{}, [5]time.Duration{}},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			began := time.Now()
			var at [5]time.Duration
			s := &fake{
				context: func(c fsrvp.ContextValue) error {
					if at[c] == 0 {
						at[c] = time.Since(began)
						time.Sleep(test.took[c])
					}
					return nil
				},
				start: func() (fsrvp.SetID, error) { return fsrvp.SetID{1}, nil },
				abort: func(fsrvp.SetID) error { return nil },
			}
			report, err := Run(ctx, recording, &Config{Service: s, Speed: test.speed})
			if test.at[4] == 0 {
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, 1, report.Calls)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.at, at)
			require.Equal(t, 5, report.Same)
			require.Equal(t, test.at[4], report.Elapsed)
		})
	}
}

func TestRunManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		req, resp := version()
		var recording []*transcript.Exchange
		for i := range 500 {
			recording = append(recording, exchange(time.Duration(i), time.Hour, req, resp))
		}
		var now, most atomic.Int64
		s := &fake{versions: func(context.Context, int64) (fsrvp.Versions, error) {
			most.Store(max(now.Add(1), most.Load()))
			time.Sleep(time.Second)
			now.Add(-1)
			return fsrvp.Versions{Min: 1, Max: 1}, nil
		}}
		report, err := Run(t.Context(), recording, &Config{Service: s})
		require.NoError(t, err)
		require.Equal(t, 500, report.Same)
		require.LessOrEqual(t, most.Load(), int64(maxAtWork))
	})
}

func TestRunTimeouts(t *testing.T) {
	for _, test := range []struct {
		recorded uint32
		scale    float64
		want     time.Duration
	}{
		{60000, 0, time.Minute},
		{60000, 1, time.Minute},
		{60000, 0.5, 30 * time.Second},
		{1, 0.001, time.Millisecond},
		{1000, 1.0005, 1001 * time.Millisecond},
		{0, 7, 0},
		{math.MaxUint32, 0.001, fsrvp.MaxWait},
		{math.MaxUint32 - 1, 1000, fsrvp.MaxWait - time.Millisecond},
	} {
		var got time.Duration
		s := &fake{commit: func(_ context.Context, wait time.Duration) error { got = wait; return nil }}
		req := &fsrvp.CommitShadowCopySetRequest{TimeOutInMilliseconds: test.recorded}
		recording := []*transcript.Exchange{exchange(0, 0, req, &fsrvp.CommitShadowCopySetResponse{})}
		_, err := Run(t.Context(), recording, &Config{Service: s, TimeoutScale: test.scale})
		require.NoError(t, err)
		require.Equal(t, test.want, got, "%+v", test)
		require.Equal(t, test.recorded, req.TimeOutInMilliseconds, "the recording is as it was")
	}
}

// TestRunStopsOthers has one call fail while others are at work.
func TestRunStopsOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		req, resp := version()
		errBroken := errors.New("broken")
		s := &fake{versions: func(ctx context.Context, call int64) (fsrvp.Versions, error) {
			if call == 3 {
				time.Sleep(time.Second)
				return fsrvp.Versions{}, errBroken
			}
			<-ctx.Done()
			return fsrvp.Versions{}, context.Cause(ctx)
		}}
		recording := []*transcript.Exchange{exchange(0, 9, req, resp), exchange(0, 9, req, resp),
			exchange(0, 9, req, resp), exchange(9, 10, req, resp)}
		report, err := Run(t.Context(), recording, &Config{Service: s})
		require.ErrorIs(t, err, errBroken)
		require.ErrorContains(t, err, "call ")
		require.Zero(t, report.Calls)
		require.Equal(t, int64(3), s.calls.Load())
		require.Equal(t, time.Second, report.Elapsed)
	})
}
