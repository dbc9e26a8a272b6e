package replay

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// recorded is the recording of a life.
func recorded(t testing.TB, name string) []*transcript.Exchange {
	t.Helper()
	i := slices.IndexFunc(lives, func(l life) bool { return l.name == name })
	require.GreaterOrEqual(t, i, 0)
	fs := newFileServer(t)
	lives[i].calls(t, fs)
	return fs.recording(t)
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

			// What the replay was recorded as is the same recording, but for ids and times.
			again := second.recording(t)
			for _, e := range again[len(recording):] { // whether an aborted set is gone indeed
				require.Equal(t, fsrvp.OpDeleteShareMapping, e.Opnum())
				require.Equal(t, fsrvp.ErrObjectNotFound, e.Response.Status())
			}
			again = again[:len(recording)]
			third := newFileServer(t)
			report, err = Run(t.Context(), again, &Config{Dial: third.dial})
			require.NoError(t, err)
			require.Empty(t, lines(report.Differences))
		})
	}
}

func TestRunOtherNames(t *testing.T) {
	names, err := NewShareMap(map[string]string{
		`\\fs1`: `\\10.0.0.7`, `\\fs1.example.test`: `\\10.0.0.7`, `\\fs1\data`: `\\10.0.0.7\logs`, `\\FS1.example.test\LOGS`: `\\10.0.0.7\data`,
	})
	require.NoError(t, err)
	for _, life := range lives {
		t.Run(life.name, func(t *testing.T) {
			first := newFileServer(t)
			life.calls(t, first)
			second := newFileServer(t, func(cfg *agent.Config) { cfg.Names = []string{"10.0.0.7"} })
			report, err := Run(t.Context(), first.recording(t), &Config{Dial: second.dial, Shares: names.Rewrite})
			require.NoError(t, err)
			require.Empty(t, lines(report.Differences))
			second.requireClean(t)
		})
	}
}

func TestRunConfig(t *testing.T) {
	s := &fake{}
	good := []*transcript.Exchange{exchange(0, 0, &fsrvp.GetSupportedVersionRequest{}, &fsrvp.GetSupportedVersionResponse{})}
	dial := func(context.Context, transcript.Connection) (fsrvp.Service, error) { return s, nil }
	for name, test := range map[string]struct {
		cfg       *Config
		recording []*transcript.Exchange
	}{
		"nil":                 {nil, good},
		"neither":             {&Config{}, good},
		"both":                {&Config{Service: s, Dial: dial}, good},
		"negative speed":      {&Config{Service: s, Speed: -1}, good},
		"endless time-outs":   {&Config{Service: s, TimeoutScale: math.Inf(1)}, good},
		"no number":           {&Config{Service: s, TimeoutScale: math.NaN()}, good},
		"nil exchange":        {&Config{Service: s}, []*transcript.Exchange{nil}},
		"no request":          {&Config{Service: s}, []*transcript.Exchange{{}}},
		"response as request": {&Config{Service: s}, []*transcript.Exchange{{Request: &fsrvp.AddToShadowCopySetResponse{}, Response: &fsrvp.AddToShadowCopySetResponse{}}}},
		"another's response":  {&Config{Service: s}, []*transcript.Exchange{exchange(0, 0, &fsrvp.SetContextRequest{}, &fsrvp.StartShadowCopySetResponse{})}},
		"response and fault":  {&Config{Service: s}, []*transcript.Exchange{{Request: &fsrvp.SetContextRequest{}, Response: &fsrvp.SetContextResponse{}, Fault: dcerpc.ErrAccessDenied}}},
	} {
		t.Run(name, func(t *testing.T) {
			report, err := Run(t.Context(), test.recording, test.cfg)
			require.Error(t, err)
			require.Equal(t, &Report{}, report)
			require.Zero(t, s.calls.Load())
		})
	}
}

// epoch is when the recordings made here begin.
var epoch = time.Date(2026, 11, 22, 20, 21, 20, 0, time.UTC)

// exchange is one that begins and ends so long after epoch.
func exchange(begin, end time.Duration, req fsrvp.Message, resp fsrvp.Response) *transcript.Exchange {
	return &transcript.Exchange{Time: epoch.Add(begin), ResponseTime: epoch.Add(end), Request: req, Response: resp}
}

// A fake is a Service of the methods that it needs.
type fake struct {
	fsrvp.Service
	calls    atomic.Int64
	versions func(ctx context.Context, call int64) (fsrvp.Versions, error)
	commit   func(ctx context.Context, wait time.Duration) error
	context  func(fsrvp.ContextValue) error
	start    func() (fsrvp.SetID, error)
	abort    func(fsrvp.SetID) error
	support  func(string) (fsrvp.PathSupport, error)
}

func (f *fake) GetSupportedVersion(ctx context.Context) (fsrvp.Versions, error) {
	return f.versions(ctx, f.calls.Add(1))
}

func (f *fake) CommitShadowCopySet(ctx context.Context, _ fsrvp.SetID, wait time.Duration) error {
	f.calls.Add(1)
	return f.commit(ctx, wait)
}

func (f *fake) SetContext(_ context.Context, c fsrvp.ContextValue) error { return f.context(c) }

func (f *fake) StartShadowCopySet(context.Context, fsrvp.SetID) (fsrvp.SetID, error) {
	return f.start()
}

func (f *fake) AbortShadowCopySet(_ context.Context, id fsrvp.SetID) error { return f.abort(id) }

func (f *fake) IsPathSupported(_ context.Context, share string) (fsrvp.PathSupport, error) {
	return f.support(share)
}

func version() (fsrvp.Message, fsrvp.Response) {
	return &fsrvp.GetSupportedVersionRequest{}, &fsrvp.GetSupportedVersionResponse{MinVersion: 1, MaxVersion: 1}
}

func TestRunUnanswered(t *testing.T) {
	recording := recorded(t, "read-only")
	// Without the answers to RecoveryComplete and Commit there is nothing to compare there, but the
	// calls are made.
	for _, e := range recording {
		if op := e.Opnum(); op == fsrvp.OpCommitShadowCopySet || op == fsrvp.OpRecoveryCompleteShadowCopySet {
			e.Response, e.ResponseTime, e.Error = nil, time.Time{}, "lost"
		}
	}
	fs := newFileServer(t)
	report, err := Run(t.Context(), recording, &Config{Dial: fs.dial})
	require.NoError(t, err)
	require.Equal(t, 2, report.Unanswered)
	require.Equal(t, len(recording)-2, report.Same)
	require.Equal(t, len(recording), report.Calls)
	fs.requireClean(t)
}

// TestRunDial has one connection for each of the recording's, closed after its last call.
func TestRunDial(t *testing.T) {
	req, resp := version()
	var recording []*transcript.Exchange
	for i := range 6 {
		e := exchange(time.Duration(i), time.Duration(i), req, resp)
		e.Connection = transcript.Connection{Client: []string{"10.0.0.1:1000", "10.0.0.1:1001", "10.0.0.2:1000"}[i/2], User: "backup"}
		recording = append(recording, e)
	}
	type conn struct {
		fsrvp.Service
		closer
	}
	var open atomic.Int64
	s := &fake{versions: func(context.Context, int64) (fsrvp.Versions, error) { return fsrvp.Versions{Min: 1, Max: 1}, nil }}
	var seen []transcript.Connection
	dial := func(_ context.Context, c transcript.Connection) (fsrvp.Service, error) {
		open.Add(1)
		seen = append(seen, c)
		return conn{s, func() error { open.Add(-1); return errors.New("not of interest") }}, nil
	}
	report, err := Run(t.Context(), recording, &Config{Dial: dial})
	require.NoError(t, err)
	require.Equal(t, 6, report.Same)
	require.Zero(t, open.Load())
	require.Equal(t, []transcript.Connection{recording[0].Connection, recording[2].Connection, recording[4].Connection}, seen)

	errRefused := errors.New("refused")
	report, err = Run(t.Context(), recording, &Config{Dial: func(ctx context.Context, c transcript.Connection) (fsrvp.Service, error) {
		if c.Client == "10.0.0.2:1000" {
			return nil, errRefused
		}
		return dial(ctx, c)
	}})
	require.ErrorIs(t, err, errRefused)
	require.Equal(t, 4, report.Calls)
	require.Zero(t, open.Load())

	_, err = Run(t.Context(), recording, &Config{Dial: func(context.Context, transcript.Connection) (fsrvp.Service, error) { return nil, nil }})
	require.ErrorContains(t, err, "no Service came from Dial")
}

type closer func() error

func (c closer) Close() error { return c() }
