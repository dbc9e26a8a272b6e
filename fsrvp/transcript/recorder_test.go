package transcript

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// failing is a Service whose methods fail, or not.
type failing struct {
	fsrvp.Service
	err error
}

func (f *failing) GetSupportedVersion(context.Context) (fsrvp.Versions, error) {
	return fsrvp.Versions{Min: 1, Max: 2}, f.err
}

func (f *failing) GetShareMapping(context.Context, fsrvp.CopyID, fsrvp.SetID, string, uint32) (*fsrvp.ShareMapping,
	error) {
	return &fsrvp.ShareMapping{Created: time.Date(math.MaxInt32, 1, 1, 0, 0, 0, 0, time.UTC)}, f.err
}

func TestRecorderErrors(t *testing.T) {
	broken, proxied := errors.New("broken"), fmt.Errorf("of another server: %w", dcerpc.ErrServerTooBusy)
	results := func(s fsrvp.Status) fsrvp.Response {
		return &fsrvp.GetSupportedVersionResponse{MinVersion: 1, MaxVersion: 2, Return: s}
	}
	client, server := context.Background(), dcerpc.WithPeer(context.Background(), dcerpc.Peer{
		Identity: dcerpc.Identity{Account: "backup", Domain: "FSRVP",
			Mechanism: "ntlm"}, Addr: dcerpctest.Addr("a"), Level: dcerpc.LevelIntegrity,
	})
	ended, cancel := context.WithCancel(server)
	cancel()
	for name, test := range map[string]struct {
		ctx  context.Context
		err  error
		want Exchange
	}{
		"success":                   {client, nil, Exchange{Response: results(0)}},
		"status":                    {client, &fsrvp.Error{Status: fsrvp.ErrBadState}, Exchange{Response: results(fsrvp.ErrBadState)}},
		"fault":                     {client, dcerpc.ErrServerTooBusy, Exchange{Fault: dcerpc.ErrServerTooBusy}},
		"no answer":                 {client, broken, Exchange{Error: "broken"}},
		"server succeeds":           {server, nil, Exchange{Response: results(0)}},
		"server has a status":       {server, fsrvp.ErrWaitTimeout, Exchange{Response: results(fsrvp.ErrWaitTimeout)}},
		"server has none":           {server, broken, Exchange{Response: results(fsrvp.ErrFail), Error: "broken"}},
		"server returns a fault":    {server, dcerpc.ErrServerTooBusy, Exchange{Fault: dcerpc.ErrServerTooBusy}},
		"server wraps a fault":      {server, proxied, Exchange{Response: results(fsrvp.ErrFail), Error: proxied.Error()}},
		"client has gone":           {ended, broken, Exchange{Error: "broken"}},
		"client has gone, answered": {ended, fsrvp.ErrBadState, Exchange{Response: results(fsrvp.ErrBadState)}},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			r := NewRecorder(&failing{err: test.err}, &b, nil)
			v, err := r.GetSupportedVersion(test.ctx)
			require.Equal(t, test.err, err)
			require.Equal(t, fsrvp.Versions{Min: 1, Max: 2}, v)
			all, err := ReadAll(&b)
			require.NoError(t, err)
			require.Len(t, all, 1)
			got := all[0]
			if test.ctx != client {
				require.Equal(t, Connection{Client: "a", User: `FSRVP\backup`, Mechanism: "ntlm",
					Level: dcerpc.LevelIntegrity}, got.Connection)
			}
			require.Equal(t, test.want.Response, got.Response)
			require.Equal(t, test.want.Fault, got.Fault)
			require.Equal(t, test.want.Error, got.Error)
			require.Equal(t, got.Answered(), !got.ResponseTime.IsZero())
		})
	}
}

// TestRecorderMappingOutOfRange is what NewHandler answers E_FAIL to.
func TestRecorderMappingOutOfRange(t *testing.T) {
	var b bytes.Buffer
	r := NewRecorder(&failing{}, &b, nil)
	m, err := r.GetShareMapping(dcerpc.WithPeer(t.Context(), dcerpc.Peer{}), fsrvp.CopyID{}, fsrvp.SetID{}, "", 1)
	require.Error(t, err)
	require.Nil(t, m)
	all, err := ReadAll(&b)
	require.NoError(t, err)
	require.Equal(t, &fsrvp.GetShareMappingResponse{Level: 1, Return: fsrvp.ErrFail}, all[0].Response)
	require.NotEmpty(t, all[0].Error)
}

// TestRecorderWaits is about waits that the wire rounds, or cannot express.
func TestRecorderWaits(t *testing.T) {
	for wait, want := range map[time.Duration]time.Duration{
		0: 0, 1: time.Millisecond, time.Millisecond: time.Millisecond, time.Millisecond + 1: 2 * time.Millisecond,
		time.Hour: time.Hour, fsrvp.MaxWait: fsrvp.MaxWait, fsrvp.MaxWait + 1: -1, math.MaxInt64: -1, -1: -1, -time.Hour: -1,
	} {
		got := time.Duration(-1)
		r := NewRecorder(&fake{commit: func(_ context.Context, wait time.Duration) error { got = wait; return nil }},
			io.Discard, nil)
		err := r.CommitShadowCopySet(t.Context(), fsrvp.SetID{}, wait)
		require.Equal(t, want >= 0, err == nil, wait)
		require.Equal(t, want, got, wait)
	}
}

// TestRecorderDuration is about calls that take time.
func TestRecorderDuration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		s := &fake{commit: func(context.Context, time.Duration) error { time.Sleep(90 * time.Second); return nil }}
		begun := time.Now().UTC()
		require.NoError(t, NewRecorder(s, &b, nil).CommitShadowCopySet(t.Context(), fsrvp.SetID{}, time.Minute))
		all, err := ReadAll(&b)
		require.NoError(t, err)
		require.Equal(t, begun, all[0].Time)
		require.Equal(t, begun.Add(90*time.Second), all[0].ResponseTime)
	})
}

func TestRecorderWriteErrors(t *testing.T) {
	errFull := errors.New("disk full")
	service := &failing{}
	for name, test := range map[string]struct {
		good int // calls of Write that succeed
		lost string
	}{
		"at once":         {0, "3 calls"},
		"after the first": {2, "2 calls"},
	} {
		t.Run(name, func(t *testing.T) {
			writes := 0
			r := NewRecorder(service, writerFunc(func(b []byte) (int, error) {
				if writes++; writes > test.good {
					return len(b) / 2, errFull
				}
				return len(b), nil
			}), nil)
			for range 3 {
				v, err := r.GetSupportedVersion(t.Context())
				require.NoError(t, err)
				require.Equal(t, fsrvp.Versions{Min: 1, Max: 2}, v)
			}
			require.ErrorIs(t, r.Err(), errFull)
			require.ErrorContains(t, r.Close(), test.lost)
			require.Equal(t, test.good+1, writes, "nothing is written after an error")
		})
	}

	// A call that has no place in a transcript is left out alone.
	var b bytes.Buffer
	r := NewRecorder(&fake{support: func(string) (fsrvp.PathSupport, error) { return fsrvp.PathSupport{}, nil }}, &b,
		nil)
	_, err := r.IsPathSupported(t.Context(), "\xff")
	require.NoError(t, err)
	_, err = r.IsPathSupported(t.Context(), `\\fs1\x`)
	require.NoError(t, err)
	require.ErrorContains(t, r.Close(), "1 calls")
	_, err = r.IsPathSupported(t.Context(), `\\fs1\after the end`)
	require.NoError(t, err)
	all, err := ReadAll(&b)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, &fsrvp.IsPathSupportedRequest{ShareName: ndr.WTF8(`\\fs1\x`)}, all[0].Request)
}

// TestRecorderAtOnce has many callers, and one line for each call.
func TestRecorderAtOnce(t *testing.T) {
	var b bytes.Buffer
	r := NewRecorder(&failing{}, &b, nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if _, err := r.GetSupportedVersion(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, r.Close())
	all, err := ReadAll(&b)
	require.NoError(t, err)
	require.Len(t, all, 1600)
}

// TestRecorderHeader is what a Recorder without calls writes, and one that goes on with a file.
func TestRecorderHeader(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, NewRecorder(&failing{}, &b, nil).Close())
	require.Equal(t, headerLine, b.String())
	r := NewRecorder(&failing{}, &b, nil)
	_, err := r.GetSupportedVersion(t.Context())
	require.NoError(t, err)
	all, err := ReadAll(&b)
	require.NoError(t, err)
	require.Len(t, all, 1)
}

func BenchmarkRecorder(b *testing.B) {
	r := NewRecorder(&failing{}, io.Discard, nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.GetSupportedVersion(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTranscript(b *testing.B) {
	text := write(b, example())
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadAll(bytes.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
}
