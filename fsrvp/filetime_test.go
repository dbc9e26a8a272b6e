package fsrvp

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestFiletime(t *testing.T) {
	for _, tt := range []struct {
		ticks int64
		text  string
	}{
		{0, "1601-01-01T00:00:00Z"},
		{1, "1601-01-01T00:00:00.0000001Z"},
		{-1, "1600-12-31T23:59:59.9999999Z"},
		{116444736000000000, "1970-01-01T00:00:00Z"},
		{133766589521946510, "2024-11-21T10:35:52.194651Z"},
		{math.MaxInt64, "30828-09-14T02:48:05.4775807Z"},
		{math.MinInt64, "-27627-04-19T21:11:54.5224192Z"},
	} {
		f := Filetime(tt.ticks)
		require.Equal(t, tt.text, f.Time().Format(time.RFC3339Nano))
		back, err := FiletimeOf(f.Time())
		require.NoError(t, err)
		require.Equal(t, f, back)
	}
}

func TestFiletimeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := Filetime(rapid.Int64().Draw(t, "ticks"))
		back, err := FiletimeOf(f.Time())
		require.NoError(t, err)
		require.Equal(t, f, back)
		// All of the 100 ns belongs to it.
		back, err = FiletimeOf(f.Time().Add(99 * time.Nanosecond))
		require.NoError(t, err)
		require.Equal(t, f, back)
	})
}

func TestFiletimeOutOfRange(t *testing.T) {
	last, first := Filetime(math.MaxInt64).Time(), Filetime(math.MinInt64).Time()
	for _, out := range []time.Time{
		last.Add(100 * time.Nanosecond), last.Add(time.Second), last.AddDate(1, 0, 0),
		first.Add(-1), first.Add(-time.Second), first.AddDate(-1, 0, 0),
		time.Unix(math.MaxInt64/2, 0), time.Unix(math.MinInt64/2, 0), time.Unix(math.MaxInt64,
			0), time.Unix(math.MinInt64, 0),
	} {
		_, err := FiletimeOf(out)
		require.Error(t, err, "%v", out.Unix())
	}
	zone := time.FixedZone("x", 3600)
	f, err := FiletimeOf(time.Date(1601, 1, 1, 1, 0, 0, 0, zone))
	require.NoError(t, err)
	require.Zero(t, f)
	_, err = FiletimeOf(time.Time{})
	require.NoError(t, err, "year 1 has one")
}

func TestMilliseconds(t *testing.T) {
	for _, tt := range []struct {
		wait time.Duration
		want uint32
	}{
		{0, 0}, {1, 1}, {time.Millisecond, 1}, {time.Millisecond + 1, 2}, {time.Minute, 60000}, {MaxWait, math.MaxUint32},
	} {
		got, err := milliseconds(tt.wait)
		require.NoError(t, err)
		require.Equal(t, tt.want, got)
	}
	for _, wait := range []time.Duration{-1, MaxWait + 1, math.MaxInt64, math.MinInt64} {
		_, err := milliseconds(wait)
		require.Error(t, err)
	}
}
