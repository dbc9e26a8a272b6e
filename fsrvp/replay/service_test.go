package replay

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// newService is NewService for recordings that are good.
func newService(t testing.TB, recording []*transcript.Exchange, cfg *ServiceConfig) *Service {
	t.Helper()
	s, err := NewService(recording, cfg)
	require.NoError(t, err)
	return s
}

// TestServiceToRun plays each recording to itself.
func TestServiceToRun(t *testing.T) {
	for _, life := range lives {
		t.Run(life.name, func(t *testing.T) {
			fs := newFileServer(t)
			life.calls(t, fs)
			recording := fs.recording(t)
			s := newService(t, recording, nil)
			report, err := Run(t.Context(), recording, &Config{Service: s, Keep: true})
			require.NoError(t, err)
			require.Empty(t, lines(report.Differences))
			require.Equal(t, len(recording), report.Same)
			require.Zero(t, s.Departures())
			require.Empty(t, s.Unasked())
		})
	}
}

// TestServiceToProvider has a backup of shares that nobody has.
func TestServiceToProvider(t *testing.T) {
	shares := []string{`\\fs1\data`, `\\fs1\logs`, `\\fs1\vms$`}
	first := newFileServer(t)
	runBackup := func(l *dcerpctest.Listener, shares []string) ([]provider.Copy, error) {
		var copies []provider.Copy
		err := provider.Run(t.Context(), &provider.Config{
			Context: fsrvp.ContextNASRollback,
			Dial:    func(ctx context.Context, server string) (provider.Agent, error) { return dialFrom(ctx, l, "p") },
			// The answer to a failure comes at once.
			RetryFor: -1,
		}, shares, func(_ context.Context, set *provider.Set) error {
			copies = set.Copies
			return nil
		})
		return copies, err
	}
	want, err := runBackup(first.listener, shares)
	require.NoError(t, err)
	recording := first.recording(t)

	names, err := NewShareMap(map[string]string{`\\fs1`: `\\fs7`})
	require.NoError(t, err)
	var departures []string
	s := newService(t, recording, &ServiceConfig{Shares: names.Rewrite, OnDeparture: func(_ context.Context, d *Departure) error {
		departures = append(departures, d.Error())
		return nil
	}})
	l := dcerpctest.Listen()
	serve(t, l, s)
	copies, err := runBackup(l, []string{`\\fs7\data`, `\\FS7\LOGS`, `\\fs7\vms$`})
	require.NoError(t, err)
	require.Empty(t, departures)
	require.Empty(t, s.Unasked())
	for i := range copies {
		require.Equal(t, want[i].CopyID, copies[i].CopyID)
		require.Equal(t, want[i].Created, copies[i].Created)
	}

	// The recording has one run.
	_, err = runBackup(l, []string{`\\fs7\data`})
	require.ErrorIs(t, err, fsrvp.ErrBadState)
	require.Equal(t, 1, s.Departures())
	require.Equal(t, []string{"replay: SetContext departs from the recording: the recording has no such call: the call does not fit the server's state (FSRVP_E_BAD_STATE, 0x80042301)"}, departures)
}

// TestServiceOrder is the matching rule, call by call.
func TestServiceOrder(t *testing.T) {
	ctx := t.Context()
	set, a, b := fsrvp.SetID{1}, fsrvp.CopyID{2}, fsrvp.CopyID{3}
	var at time.Duration
	call := func(req fsrvp.Message, resp fsrvp.Response) *transcript.Exchange {
		at += time.Second
		return exchange(at, at, req, resp)
	}
	get := func(id fsrvp.CopyID, s fsrvp.Status) *transcript.Exchange {
		resp := &fsrvp.GetShareMappingResponse{Level: 1, Return: s}
		if s == 0 {
			resp.ShareMapping1 = &fsrvp.ShareMapping1{ShadowCopySetID: set, ShadowCopyID: id}
		}
		return call(&fsrvp.GetShareMappingRequest{ShadowCopyID: id, ShadowCopySetID: set, ShareName: `\\fs1\s`, Level: 1}, resp)
	}
	commit := func(s fsrvp.Status) *transcript.Exchange {
		return call(&fsrvp.CommitShadowCopySetRequest{ShadowCopySetID: set}, &fsrvp.CommitShadowCopySetResponse{StatusResponse: fsrvp.StatusResponse{Return: s}})
	}
	recording := []*transcript.Exchange{
		call(&fsrvp.GetSupportedVersionRequest{}, &fsrvp.GetSupportedVersionResponse{MinVersion: 1, MaxVersion: 1}),
		call(&fsrvp.GetSupportedVersionRequest{}, &fsrvp.GetSupportedVersionResponse{MinVersion: 1, MaxVersion: 2}),
		call(&fsrvp.SetContextRequest{Context: 7}, &fsrvp.SetContextResponse{StatusResponse: fsrvp.StatusResponse{Return: fsrvp.ErrUnsupportedContext}}),
		call(&fsrvp.SetContextRequest{Context: 9}, &fsrvp.SetContextResponse{}),
		call(&fsrvp.StartShadowCopySetRequest{ClientShadowCopySetID: fsrvp.SetID{8}}, &fsrvp.StartShadowCopySetResponse{ShadowCopySetID: set}),
		call(&fsrvp.AddToShadowCopySetRequest{ShadowCopySetID: set, ShareName: `\\fs1\s`}, &fsrvp.AddToShadowCopySetResponse{ShadowCopyID: a}),
		call(&fsrvp.AddToShadowCopySetRequest{ShadowCopySetID: set, ShareName: `\\fs1\s`}, &fsrvp.AddToShadowCopySetResponse{Return: fsrvp.ErrObjectAlreadyExists}),
		call(&fsrvp.AddToShadowCopySetRequest{ShadowCopySetID: set, ShareName: `\\fs1\t`}, &fsrvp.AddToShadowCopySetResponse{ShadowCopyID: b}),
		get(a, fsrvp.ErrNotExposed),
		commit(fsrvp.ErrTimeout),
		commit(0),
		call(&fsrvp.ExposeShadowCopySetRequest{ShadowCopySetID: set}, &fsrvp.ExposeShadowCopySetResponse{}),
		get(a, 0),
		call(&fsrvp.RecoveryCompleteShadowCopySetRequest{ShadowCopySetID: set}, &fsrvp.RecoveryCompleteShadowCopySetResponse{}),
	}
	var last *Departure
	s := newService(t, recording, &ServiceConfig{OnDeparture: func(_ context.Context, d *Departure) error { last = d; return nil }})
	departs := func(err error, expected *transcript.Exchange) {
		t.Helper()
		require.ErrorIs(t, err, fsrvp.ErrBadState)
		require.Same(t, last, err)
		require.Same(t, expected, last.Expected)
	}

	for i, want := range []uint32{1, 2, 2, 2} {
		v, err := s.GetSupportedVersion(ctx)
		require.NoError(t, err)
		require.Equal(t, want, v.Max, i)
	}
	_, err := s.StartShadowCopySet(ctx, fsrvp.SetID{77})
	departs(err, recording[3])
	departs(s.CommitShadowCopySet(ctx, set, 0), nil) // not handed out yet
	require.NoError(t, s.SetContext(ctx, 9), "what failed may be left out")
	departs(s.SetContext(ctx, 7), recording[4])
	departs(s.SetContext(ctx, 8), recording[4])
	got, err := s.StartShadowCopySet(ctx, fsrvp.SetID{77})
	require.NoError(t, err)
	require.Equal(t, set, got)

	departs(s.CommitShadowCopySet(ctx, set, time.Hour), recording[5])
	copyB, err := s.AddToShadowCopySet(ctx, fsrvp.CopyID{99}, set, `\\FS1\T\`)
	require.NoError(t, err, "the order of shares is free")
	require.Equal(t, b, copyB)
	copyA, err := s.AddToShadowCopySet(ctx, fsrvp.CopyID{98}, set, `\\fs1\s`)
	require.NoError(t, err)
	require.Equal(t, a, copyA)
	_, err = s.AddToShadowCopySet(ctx, fsrvp.CopyID{98}, set, `\\fs1\s`)
	departs(err, recording[10]) // it came before t, which was reached
	departs(s.ExposeShadowCopySet(ctx, set, time.Hour), recording[10])
	require.ErrorIs(t, s.CommitShadowCopySet(ctx, set, 0), fsrvp.ErrTimeout)
	require.NotErrorIs(t, s.CommitShadowCopySet(ctx, set, 0), fsrvp.ErrTimeout)
	departs(s.CommitShadowCopySet(ctx, set, 0), recording[11])
	departs(s.AbortShadowCopySet(ctx, set), recording[11])
	_, err = s.GetShareMapping(ctx, a, set, `\\fs1\s`, 1)
	departs(err, recording[11]) // before the commit it would have been answered
	require.NoError(t, s.ExposeShadowCopySet(ctx, set, 0))
	for range 3 {
		m, err := s.GetShareMapping(ctx, a, set, `\\fs1\s`, 1)
		require.NoError(t, err)
		require.Equal(t, a, m.CopyID)
	}
	_, err = s.GetShareMapping(ctx, a, set, `\\fs1\s`, 2)
	departs(err, recording[13])
	_, err = s.GetShareMapping(ctx, b, set, `\\fs1\s`, 1)
	departs(err, recording[13])
	require.NoError(t, s.RecoveryCompleteShadowCopySet(ctx, set))
	require.Equal(t, []*transcript.Exchange{recording[2], recording[6], recording[8]}, s.Unasked())
}

// TestServiceIDs is about ids: of clients, and those that nobody has given.
func TestServiceIDs(t *testing.T) {
	ctx := t.Context()
	mine, myCopy := fsrvp.SetID{1}, fsrvp.CopyID{2}
	recording := []*transcript.Exchange{
		exchange(1, 1, &fsrvp.SetContextRequest{}, &fsrvp.SetContextResponse{}),
		// This server uses the ids of its client.
		exchange(2, 2, &fsrvp.StartShadowCopySetRequest{ClientShadowCopySetID: mine}, &fsrvp.StartShadowCopySetResponse{ShadowCopySetID: mine}),
		exchange(3, 3, &fsrvp.AddToShadowCopySetRequest{ClientShadowCopyID: myCopy, ShadowCopySetID: mine, ShareName: `\\fs1\s`},
			&fsrvp.AddToShadowCopySetResponse{ShadowCopyID: myCopy}),
		exchange(4, 4, &fsrvp.GetShareMappingRequest{ShadowCopyID: fsrvp.CopyID{55}, ShadowCopySetID: mine, ShareName: `\\fs1\s`, Level: 1},
			&fsrvp.GetShareMappingResponse{Level: 1, Return: fsrvp.ErrInvalidArg}),
		exchange(5, 5, &fsrvp.GetShareMappingRequest{ShadowCopyID: myCopy, ShadowCopySetID: mine, ShareName: `\\fs1\s`, Level: 1},
			&fsrvp.GetShareMappingResponse{Level: 1, ShareMapping1: &fsrvp.ShareMapping1{ShadowCopySetID: mine, ShadowCopyID: myCopy}}),
		exchange(6, 6, &fsrvp.PrepareShadowCopySetRequest{ShadowCopySetID: fsrvp.SetID{44}}, &fsrvp.PrepareShadowCopySetResponse{StatusResponse: fsrvp.StatusResponse{Return: fsrvp.ErrBadID}}),
	}
	for _, e := range recording[4:5] {
		e.Response.(*fsrvp.GetShareMappingResponse).ShareMapping1.ShadowCopyShareName.String = fsrvp.ExposedName("s", myCopy)
		e.Response.(*fsrvp.GetShareMappingResponse).ShareMapping1.ShadowCopyShareName.Valid = true
	}
	s := newService(t, recording, nil)
	require.NoError(t, s.SetContext(ctx, 0))
	client, clientCopy := fsrvp.NewSetID(), fsrvp.NewCopyID()
	set, err := s.StartShadowCopySet(ctx, client)
	require.NoError(t, err)
	require.Equal(t, client, set)
	id, err := s.AddToShadowCopySet(ctx, clientCopy, set, `\\fs1\s`)
	require.NoError(t, err)
	require.Equal(t, clientCopy, id)
	_, err = s.GetShareMapping(ctx, fsrvp.CopyID{}, set, `\\fs1\s`, 1)
	require.ErrorIs(t, err, fsrvp.ErrBadState, "null is not any unknown id")
	_, err = s.GetShareMapping(ctx, fsrvp.NewCopyID(), set, `\\fs1\s`, 1)
	require.ErrorIs(t, err, fsrvp.ErrInvalidArg)
	m, err := s.GetShareMapping(ctx, id, set, `\\fs1\s`, 1)
	require.NoError(t, err)
	require.Equal(t, &fsrvp.ShareMapping{SetID: set, CopyID: id, Exposed: fsrvp.ExposedName("s", clientCopy), Created: m.Created}, m)
	require.ErrorIs(t, s.PrepareShadowCopySet(ctx, fsrvp.NewSetID(), 0), fsrvp.ErrBadID, "one unknown set is as good as another")
	require.ErrorIs(t, s.PrepareShadowCopySet(ctx, set, 0), fsrvp.ErrBadState)
	require.Equal(t, 2, s.Departures())
}

func TestServiceAnswers(t *testing.T) {
	req, resp := version()
	lost := exchange(0, 0, req, nil)
	lost.Error = "cut off"
	fault := exchange(0, 0, req, nil)
	fault.Fault = dcerpc.ErrServerTooBusy
	chosen := errors.New("as I like")
	for name, test := range map[string]struct {
		recording []*transcript.Exchange
		cfg       *ServiceConfig
		want      error
		says      string
	}{
		"answer":       {[]*transcript.Exchange{exchange(0, 0, req, resp)}, nil, nil, ""},
		"nothing":      {nil, nil, fsrvp.ErrBadState, "the recording has no such call"},
		"fault":        {[]*transcript.Exchange{fault}, nil, dcerpc.ErrServerTooBusy, ""},
		"unanswered":   {[]*transcript.Exchange{lost}, nil, fsrvp.ErrBadState, "no answer to it: cut off"},
		"of choice":    {nil, &ServiceConfig{OnDeparture: func(context.Context, *Departure) error { return fsrvp.ErrOutOfMemory }}, fsrvp.ErrOutOfMemory, ""},
		"any error":    {nil, &ServiceConfig{OnDeparture: func(context.Context, *Departure) error { return chosen }}, chosen, ""},
		"of no choice": {nil, &ServiceConfig{OnDeparture: func(context.Context, *Departure) error { return nil }}, fsrvp.ErrBadState, ""},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := newService(t, test.recording, test.cfg).GetSupportedVersion(t.Context())
			if test.want == nil {
				require.NoError(t, err)
				require.Equal(t, fsrvp.Versions{Min: 1, Max: 1}, v)
				return
			}
			require.ErrorIs(t, err, test.want)
			require.ErrorContains(t, err, test.says)
			require.Zero(t, v)
		})
	}
	_, err := NewService([]*transcript.Exchange{{}}, nil)
	require.Error(t, err)
	_, err = NewService(nil, &ServiceConfig{Speed: -1})
	require.Error(t, err)
}

func TestServiceLatency(t *testing.T) {
	req, resp := version()
	recording := []*transcript.Exchange{exchange(0, 40*time.Second, req, resp)}
	for speed, want := range map[float64]time.Duration{0: 0, 1: 40 * time.Second, 4: 10 * time.Second, 0.5: 80 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			_, err := newService(t, recording, &ServiceConfig{Speed: speed}).GetSupportedVersion(t.Context())
			require.NoError(t, err)
			require.Equal(t, want, time.Since(began))
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := newService(t, recording, &ServiceConfig{Speed: 1}).GetSupportedVersion(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// TestServiceDeterministic plays a recording twice, and has the same transcript but for times.
func TestServiceDeterministic(t *testing.T) {
	recording := recorded(t, "two shares of a volume")
	var transcripts [2]bytes.Buffer
	for i := range transcripts {
		r := transcript.NewRecorder(newService(t, recording, nil), &transcripts[i], nil)
		_, err := Run(t.Context(), recording, &Config{Service: r, Keep: true})
		require.NoError(t, err)
	}
	a, err := transcript.ReadAll(&transcripts[0])
	require.NoError(t, err)
	b, err := transcript.ReadAll(&transcripts[1])
	require.NoError(t, err)
	require.Len(t, b, len(a))
	for i := range a {
		require.Equal(t, a[i].Request, b[i].Request)
		require.Equal(t, a[i].Response, b[i].Response)
		require.Equal(t, recording[i].Response, a[i].Response, "the recorded ids")
	}
}

// TestServiceAtOnce has several clients, each with a share of its own.
func TestServiceAtOnce(t *testing.T) {
	var recording []*transcript.Exchange
	for i := range 400 {
		recording = append(recording, exchange(time.Duration(i), time.Duration(i),
			&fsrvp.IsPathShadowCopiedRequest{ShareName: `\\fs1\s`},
			&fsrvp.IsPathShadowCopiedResponse{ShadowCopyCompatibility: fsrvp.Compatibility(i)}))
	}
	s := newService(t, recording, nil)
	var mu sync.Mutex
	seen := map[fsrvp.Compatibility]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				p, err := s.IsPathShadowCopied(t.Context(), `\\fs1\s`)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				seen[p.Compatibility] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Len(t, seen, 400, "each answer once")
	require.Empty(t, s.Unasked())
}

// TestServiceFaultOverWire says what a client sees of a recorded fault.
func TestServiceFaultOverWire(t *testing.T) {
	req, _ := version()
	fault := exchange(0, 0, req, nil)
	fault.Fault = dcerpc.ErrServerTooBusy
	l := dcerpctest.Listen()
	serve(t, l, newService(t, []*transcript.Exchange{fault}, nil))
	c, err := dialFrom(t.Context(), l, "a")
	require.NoError(t, err)
	defer c.Close()
	_, err = c.GetSupportedVersion(t.Context())
	require.ErrorIs(t, err, dcerpc.ErrServerTooBusy)
}
