package replay

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// lines are differences as they are printed.
func lines(differences []Difference) []string {
	var s []string
	for i := range differences {
		s = append(s, differences[i].String())
	}
	return s
}

// recorded is the recording of a life.
func recorded(t testing.TB, name string) []*Exchange {
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

func TestRunAgainstStrictAgent(t *testing.T) {
	want := map[string][]string{
		"two shares of a volume": {
			`call 8 AddToShadowCopySet \\fs1.example.test\logs: Return: recorded 0x00000000 ZERO, now 0x8004230D FSRVP_E_OBJECT_ALREADY_EXISTS`,
			`call 15 GetShareMapping \\fs1.example.test\logs: Return: recorded 0x00000000 ZERO, now 0x80070057 E_INVALIDARG`,
			`call 22 DeleteShareMapping \\fs1.example.test\logs: Return: recorded 0x00000000 ZERO, now 0x80042308 FSRVP_E_OBJECT_NOT_FOUND`,
		},
		"errors": {
			`call 8 AddToShadowCopySet \\fs1\data: Return: recorded 0x80070057 E_INVALIDARG, now 0x80042501 FSRVP_E_SHADOWCOPYSET_ID_MISMATCH`,
			`call 9 AddToShadowCopySet \\elsewhere\data: Return: recorded 0x80070057 E_INVALIDARG, now 0x80042308 FSRVP_E_OBJECT_NOT_FOUND`,
			`call 13 GetShareMapping \\fs1\data: Return: recorded 0x80042311 FSRVP_E_NOT_EXPOSED, now 0x80042301 FSRVP_E_BAD_STATE`,
			`call 14 CommitShadowCopySet: Return: recorded 0x80070057 E_INVALIDARG, now 0x80042501 FSRVP_E_SHADOWCOPYSET_ID_MISMATCH`,
			`call 23 DeleteShareMapping \\fs1\data: Return: recorded 0x80070057 E_INVALIDARG, now 0x80042308 FSRVP_E_OBJECT_NOT_FOUND`,
		},
	}
	for _, life := range lives {
		t.Run(life.name, func(t *testing.T) {
			first := newFileServer(t)
			life.calls(t, first)
			recording := first.recording(t)
			second := newFileServer(t, strict)
			report, err := Run(t.Context(), recording, &Config{Dial: second.dial})
			require.NoError(t, err)
			require.Equal(t, want[life.name], lines(report.Differences))
			require.Equal(t, len(want[life.name]), report.Different)
			require.Equal(t, len(recording)-report.Different, report.Same)
			second.requireClean(t)
		})
	}
}

// TestRunResults is about results that differ where statuses do not.
func TestRunResults(t *testing.T) {
	recording := recorded(t, "two shares of a volume")
	second := newFileServer(t, func(cfg *agent.Config) {
		cfg.Machine = "fs9"
		cfg.PlainHiddenNames = true
	})
	report, err := Run(t.Context(), recording, &Config{Dial: second.dial})
	require.NoError(t, err)
	table := report.Differences
	require.Len(t, table, 4)
	for _, d := range table[:3] {
		require.Equal(t, "OwnerMachineName", d.Field)
		require.Equal(t, "fs1", d.Recorded)
		require.Equal(t, "fs9", d.Now)
	}
	d := table[3]
	require.Equal(t, fsrvp.OpGetShareMapping, d.Exchange.Opnum())
	require.Equal(t, `\\fs1\vms$`, d.Share())
	require.Equal(t, "ShadowCopyShareName", d.Field)
	require.Equal(t, d.Now.(string)+"$", d.Recorded, "in today's ids")

	// The machine's name is rewritten as a host.
	names, err := NewShareMap(map[string]string{`\\fs1`: `\\fs9`})
	require.NoError(t, err)
	third := newFileServer(t, func(cfg *agent.Config) { cfg.Machine, cfg.Names = "fs9", []string{"fs9", "fs1.example.test"} })
	report, err = Run(t.Context(), recording, &Config{Dial: third.dial, Shares: names.Rewrite})
	require.NoError(t, err)
	require.Empty(t, lines(report.Differences))
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
	good := []*Exchange{exchange(0, 0, &fsrvp.GetSupportedVersionRequest{}, &fsrvp.GetSupportedVersionResponse{})}
	dial := func(context.Context, Connection) (fsrvp.Service, error) { return s, nil }
	for name, test := range map[string]struct {
		cfg       *Config
		recording []*Exchange
	}{
		"nil":                {nil, good},
		"neither":            {&Config{}, good},
		"both":               {&Config{Service: s, Dial: dial}, good},
		"negative speed":     {&Config{Service: s, Speed: -1}, good},
		"endless time-outs":  {&Config{Service: s, TimeoutScale: math.Inf(1)}, good},
		"no number":          {&Config{Service: s, TimeoutScale: math.NaN()}, good},
		"nil exchange":       {&Config{Service: s}, []*Exchange{nil}},
		"no request":         {&Config{Service: s}, []*Exchange{{}}},
		"another's response": {&Config{Service: s}, []*Exchange{exchange(0, 0, &fsrvp.SetContextRequest{}, &fsrvp.StartShadowCopySetResponse{})}},
		"response and fault": {&Config{Service: s}, []*Exchange{{Request: &fsrvp.SetContextRequest{}, Response: &fsrvp.SetContextResponse{}, Fault: dcerpc.ErrAccessDenied}}},
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
func exchange(begin, end time.Duration, req fsrvp.Message, resp fsrvp.Response) *Exchange {
	return &Exchange{Time: epoch.Add(begin), ResponseTime: epoch.Add(end), Request: req, Response: resp}
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

// TestRunOrder has calls that overlap in the recording, and tells when they begin now.
func TestRunOrder(t *testing.T) {
	const sec = time.Second
	var recording []*Exchange
	add := func(begin, end time.Duration) {
		i := fsrvp.ContextValue(len(recording))
		recording = append(recording, exchange(begin, end, &fsrvp.SetContextRequest{Context: i}, &fsrvp.SetContextResponse{}))
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
		var recording []*Exchange
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
		recording := []*Exchange{exchange(0, 0, req, &fsrvp.CommitShadowCopySetResponse{})}
		_, err := Run(t.Context(), recording, &Config{Service: s, TimeoutScale: test.scale})
		require.NoError(t, err)
		require.Equal(t, test.want, got, "%+v", test)
		require.Equal(t, test.recorded, req.TimeOutInMilliseconds, "the recording is as it was")
	}
}

// TestRunComparison is about answers that no agent of ours gives.
func TestRunComparison(t *testing.T) {
	req, resp := version()
	set := func(b byte) fsrvp.SetID { return fsrvp.SetID{b} }
	start := func(b byte) *Exchange {
		return exchange(0, 0, &fsrvp.StartShadowCopySetRequest{}, &fsrvp.StartShadowCopySetResponse{ShadowCopySetID: set(b)})
	}
	fault := exchange(0, 0, req, nil)
	fault.Fault = dcerpc.ErrServerTooBusy
	answers := func(f func() (fsrvp.Versions, error)) *fake {
		return &fake{versions: func(context.Context, int64) (fsrvp.Versions, error) { return f() }}
	}
	starts := func(ids ...fsrvp.SetID) *fake {
		return &fake{start: func() (fsrvp.SetID, error) {
			id := ids[0]
			ids = ids[1:]
			return id, nil
		}}
	}
	null := exchange(0, 0, &fsrvp.IsPathSupportedRequest{ShareName: `\\fs1\x`}, &fsrvp.IsPathSupportedResponse{SupportedByThisProvider: 7})
	for name, test := range map[string]struct {
		recording []*Exchange
		service   *fake
		want      []string
	}{
		"versions": {[]*Exchange{exchange(0, 0, req, resp)}, answers(func() (fsrvp.Versions, error) { return fsrvp.Versions{Min: 0, Max: 2}, nil }),
			[]string{"call 1 GetSupportedVersion: MinVersion: recorded 1, now 0", "call 1 GetSupportedVersion: MaxVersion: recorded 1, now 2"}},
		"fault now": {[]*Exchange{exchange(0, 0, req, resp)}, answers(func() (fsrvp.Versions, error) { return fsrvp.Versions{}, dcerpc.ErrAccessDenied }),
			[]string{"call 1 GetSupportedVersion: Fault: recorded none, now 0x00000005 " + pdu.FaultAccessDenied.String()}},
		"fault then": {[]*Exchange{fault}, answers(func() (fsrvp.Versions, error) { return fsrvp.Versions{}, nil }),
			[]string{"call 1 GetSupportedVersion: Fault: recorded 0x1C010014 " + pdu.FaultServerTooBusy.String() + ", now none"}},
		"another fault": {[]*Exchange{fault}, answers(func() (fsrvp.Versions, error) { return fsrvp.Versions{}, dcerpc.ErrAccessDenied }),
			[]string{"call 1 GetSupportedVersion: Fault: recorded 0x1C010014 " + pdu.FaultServerTooBusy.String() + ", now 0x00000005 " + pdu.FaultAccessDenied.String()}},
		"same fault":       {[]*Exchange{fault}, answers(func() (fsrvp.Versions, error) { return fsrvp.Versions{}, dcerpc.ErrServerTooBusy }), nil},
		"ids differ":       {[]*Exchange{start(1), start(2)}, starts(set(7), set(8)), nil},
		"one id for two":   {[]*Exchange{start(1), start(2)}, starts(set(7), set(7)), []string{"call 2 StartShadowCopySet: pShadowCopySetId: recorded an id of its own, now " + set(7).String()}},
		"two ids for one":  {[]*Exchange{start(1), start(1)}, starts(set(7), set(8)), []string{"call 2 StartShadowCopySet: pShadowCopySetId: recorded " + set(7).String() + ", now " + set(8).String()}},
		"no id then":       {[]*Exchange{start(0)}, starts(set(7)), []string{"call 1 StartShadowCopySet: pShadowCopySetId: recorded " + set(0).String() + ", now " + set(7).String()}},
		"no id at all":     {[]*Exchange{start(0)}, starts(set(0)), nil},
		"truth and NULL":   {[]*Exchange{null}, &fake{support: func(string) (fsrvp.PathSupport, error) { return fsrvp.PathSupport{Supported: true}, nil }}, nil},
		"no truth":         {[]*Exchange{null}, &fake{support: func(string) (fsrvp.PathSupport, error) { return fsrvp.PathSupport{}, nil }}, []string{`call 1 IsPathSupported \\fs1\x: SupportedByThisProvider: recorded true, now false`}},
		"owner out of NUL": {[]*Exchange{null}, &fake{support: func(string) (fsrvp.PathSupport, error) { return fsrvp.PathSupport{Supported: true, Owner: "fs2"}, nil }}, []string{`call 1 IsPathSupported \\fs1\x: OwnerMachineName: recorded "", now "fs2"`}},
	} {
		t.Run(name, func(t *testing.T) {
			report, err := Run(t.Context(), test.recording, &Config{Service: test.service, Keep: true})
			require.NoError(t, err)
			require.Equal(t, test.want, lines(report.Differences))
			for i := range report.Differences {
				b, err := json.Marshal(&report.Differences[i])
				require.NoError(t, err)
				require.True(t, json.Valid(b))
			}
		})
	}
}

func TestDifferenceJSON(t *testing.T) {
	e := exchange(0, 0, &fsrvp.IsPathShadowCopiedRequest{ShareName: `\\fs1\x`}, nil)
	e.Client, e.Server = "10.0.0.3:40000", "10.0.0.2:445"
	b, err := json.Marshal(&Difference{Index: 4, Exchange: e, Field: "Return", Recorded: fsrvp.ErrNotSupported, Now: fsrvp.Status(0)})
	require.NoError(t, err)
	require.JSONEq(t, `{
		"call": 5, "time": "2026-11-22T20:21:20.000000000Z", "client": "10.0.0.3:40000", "server": "10.0.0.2:445",
		"opnum": 9, "method": "IsPathShadowCopied", "share": "\\\\fs1\\x", "field": "Return",
		"recorded": 2147754764, "now": 0, "recorded_text": "0x8004230C FSRVP_E_NOT_SUPPORTED", "now_text": "0x00000000 ZERO"
	}`, string(b))
}

// TestRunMappings is about GetShareMapping, whose answers have ids, names and times.
func TestRunMappings(t *testing.T) {
	set, cpy := fsrvp.SetID{1}, fsrvp.CopyID{2}
	mapping := func(change func(*fsrvp.ShareMapping1)) *Exchange {
		m := &fsrvp.ShareMapping1{
			ShadowCopySetID: set, ShadowCopyID: cpy, ShareNameUNC: ndr.StringOf(`\\fs1\data`),
			ShadowCopyShareName: ndr.StringOf(fsrvp.ExposedName("data", cpy)), CreationTimestamp: 1,
		}
		change(m)
		return exchange(0, 0, &fsrvp.GetShareMappingRequest{ShadowCopyID: cpy, ShadowCopySetID: set, ShareName: `\\fs1\data`, Level: 1},
			&fsrvp.GetShareMappingResponse{Level: 1, ShareMapping1: m})
	}
	nothing := func(*fsrvp.ShareMapping1) {}
	later := func(m *fsrvp.ShareMapping1) { m.CreationTimestamp = 2 }
	none := mapping(nothing)
	none.Response = &fsrvp.GetShareMappingResponse{Level: 1}
	for name, test := range map[string]struct {
		recording, now []*Exchange // now is what the Service says
		want           []string    // fields
	}{
		"same":               {[]*Exchange{mapping(nothing)}, []*Exchange{mapping(nothing)}, nil},
		"other time":         {[]*Exchange{mapping(nothing)}, []*Exchange{mapping(later)}, nil},
		"no time":            {[]*Exchange{mapping(nothing)}, []*Exchange{mapping(func(m *fsrvp.ShareMapping1) { m.CreationTimestamp = 0 })}, []string{"CreationTimestamp"}},
		"time moves":         {[]*Exchange{mapping(nothing), mapping(nothing)}, []*Exchange{mapping(nothing), mapping(later)}, []string{"CreationTimestamp"}},
		"time moved then":    {[]*Exchange{mapping(nothing), mapping(later)}, []*Exchange{mapping(nothing), mapping(nothing)}, nil},
		"none now":           {[]*Exchange{mapping(nothing)}, []*Exchange{none}, []string{"ShareMapping1"}},
		"none then":          {[]*Exchange{none}, []*Exchange{mapping(nothing)}, []string{"ShareMapping1"}},
		"none":               {[]*Exchange{none}, []*Exchange{none}, nil},
		"everything":         {[]*Exchange{mapping(nothing)}, []*Exchange{mapping(func(m *fsrvp.ShareMapping1) { *m = fsrvp.ShareMapping1{} })}, []string{"ShadowCopySetId", "ShadowCopyId", "ShareNameUNC", "ShadowCopyShareName", "CreationTimestamp"}},
		"spelled other ways": {[]*Exchange{mapping(nothing)}, []*Exchange{mapping(func(m *fsrvp.ShareMapping1) { m.ShareNameUNC.String = `\\FS1\data` })}, []string{"ShareNameUNC"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := NewService(test.now, nil)
			require.NoError(t, err)
			report, err := Run(t.Context(), test.recording, &Config{Service: s})
			require.NoError(t, err)
			var fields []string
			for _, d := range report.Differences {
				require.NotEmpty(t, d.String())
				_, err := json.Marshal(&d)
				require.NoError(t, err)
				fields = append(fields, d.Field)
			}
			require.Equal(t, test.want, fields)
		})
	}
}

func TestRunUnanswered(t *testing.T) {
	recording := recorded(t, "read-only")
	// Without the answers to RecoveryComplete and Commit there is nothing to compare there, but the calls are made.
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

// TestRunLeavesNothing stops a replay before each of its calls, and in each.
func TestRunLeavesNothing(t *testing.T) {
	recording := recorded(t, "read-write")
	for _, after := range []bool{false, true} {
		for stop := range recording {
			fs := newFileServer(t)
			dials := 0
			report, err := Run(t.Context(), recording, &Config{Dial: func(ctx context.Context, c Connection) (fsrvp.Service, error) {
				dials++
				s, err := fs.dial(ctx, c)
				if err == nil && dials == 1 {
					s = &dying{Client: s.(*fsrvp.Client), at: int64(stop), after: after}
				}
				return s, err
			}})
			require.ErrorIs(t, err, net.ErrClosed)
			require.Equal(t, stop, report.Calls)
			require.Equal(t, stop, report.Same)
			require.Empty(t, report.Left)
			fs.requireClean(t)
			// The next client need not wait for the Message Sequence Timer.
			require.NoError(t, fs.client(t, "other").SetContext(t.Context(), fsrvp.ContextBackup))
		}
	}
}

// A dying client breaks its connection at one of its calls: before it, or when the answer is there.
type dying struct {
	*fsrvp.Client
	calls, at int64
	after     bool
}

// call makes a call, unless it is the one that breaks.
func (d *dying) call(f func() error) error {
	d.calls++
	if d.calls-1 != d.at {
		return f()
	}
	if d.after {
		_ = f()
	}
	return errors.Join(net.ErrClosed, d.Close())
}

func (d *dying) GetSupportedVersion(ctx context.Context) (v fsrvp.Versions, err error) {
	return v, d.call(func() error { v, err = d.Client.GetSupportedVersion(ctx); return err })
}

func (d *dying) SetContext(ctx context.Context, c fsrvp.ContextValue) error {
	return d.call(func() error { return d.Client.SetContext(ctx, c) })
}

func (d *dying) StartShadowCopySet(ctx context.Context, client fsrvp.SetID) (id fsrvp.SetID, err error) {
	err = d.call(func() error { id, err = d.Client.StartShadowCopySet(ctx, client); return err })
	return id, err
}

func (d *dying) AddToShadowCopySet(ctx context.Context, client fsrvp.CopyID, set fsrvp.SetID, share string) (id fsrvp.CopyID, err error) {
	err = d.call(func() error { id, err = d.Client.AddToShadowCopySet(ctx, client, set, share); return err })
	return id, err
}

func (d *dying) CommitShadowCopySet(ctx context.Context, set fsrvp.SetID, wait time.Duration) error {
	return d.call(func() error { return d.Client.CommitShadowCopySet(ctx, set, wait) })
}

func (d *dying) ExposeShadowCopySet(ctx context.Context, set fsrvp.SetID, wait time.Duration) error {
	return d.call(func() error { return d.Client.ExposeShadowCopySet(ctx, set, wait) })
}

func (d *dying) RecoveryCompleteShadowCopySet(ctx context.Context, set fsrvp.SetID) error {
	return d.call(func() error { return d.Client.RecoveryCompleteShadowCopySet(ctx, set) })
}

func (d *dying) IsPathSupported(ctx context.Context, share string) (p fsrvp.PathSupport, err error) {
	err = d.call(func() error { p, err = d.Client.IsPathSupported(ctx, share); return err })
	return p, err
}

func (d *dying) IsPathShadowCopied(ctx context.Context, share string) (p fsrvp.PathShadowCopied, err error) {
	err = d.call(func() error { p, err = d.Client.IsPathShadowCopied(ctx, share); return err })
	return p, err
}

func (d *dying) GetShareMapping(ctx context.Context, id fsrvp.CopyID, set fsrvp.SetID, share string, level uint32) (m *fsrvp.ShareMapping, err error) {
	err = d.call(func() error { m, err = d.Client.GetShareMapping(ctx, id, set, share, level); return err })
	return m, err
}

func (d *dying) DeleteShareMapping(ctx context.Context, set fsrvp.SetID, id fsrvp.CopyID, share string) error {
	return d.call(func() error { return d.Client.DeleteShareMapping(ctx, set, id, share) })
}

func (d *dying) PrepareShadowCopySet(ctx context.Context, set fsrvp.SetID, wait time.Duration) error {
	return d.call(func() error { return d.Client.PrepareShadowCopySet(ctx, set, wait) })
}

// TestRunCancelled ends the context at each call.
func TestRunCancelled(t *testing.T) {
	recording := recorded(t, "two clients")
	errEnough := errors.New("enough")
	for stop := 0; stop < len(recording)-1; stop += 3 {
		fs := newFileServer(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		report, err := Run(ctx, recording, &Config{Dial: fs.dial, OnCall: func(r *Result) {
			if r.Index == stop {
				cancel(errEnough)
			}
		}})
		require.ErrorIs(t, err, errEnough)
		require.Equal(t, stop+1, report.Calls)
		require.Empty(t, report.Left)
		fs.requireClean(t)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errEnough)
	report, err := Run(ctx, recording, &Config{Dial: newFileServer(t).dial})
	require.ErrorIs(t, err, errEnough)
	require.Zero(t, report.Calls)
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
		recording := []*Exchange{exchange(0, 9, req, resp), exchange(0, 9, req, resp), exchange(0, 9, req, resp), exchange(9, 10, req, resp)}
		report, err := Run(t.Context(), recording, &Config{Service: s})
		require.ErrorIs(t, err, errBroken)
		require.ErrorContains(t, err, "call ")
		require.Zero(t, report.Calls)
		require.Equal(t, int64(3), s.calls.Load())
		require.Equal(t, time.Second, report.Elapsed)
	})
}

// TestRunKeep replays a recording that ends with a set on the server.
func TestRunKeep(t *testing.T) {
	first := newFileServer(t)
	c := first.client(t, "a")
	set, _ := copied(t, c, fsrvp.ContextNASRollback, `\\fs1\data`, `\\fs1\vms$`)
	require.NoError(t, c.RecoveryCompleteShadowCopySet(t.Context(), set))
	copied(t, c, fsrvp.ContextNASRollback, `\\fs1\data`)
	recording := first.recording(t)

	kept := newFileServer(t)
	report, err := Run(t.Context(), recording, &Config{Dial: kept.dial, Keep: true})
	require.NoError(t, err)
	require.Empty(t, report.Removed)
	require.Len(t, kept.agent.Table(), 2)

	removed := newFileServer(t)
	report, err = Run(t.Context(), recording, &Config{Dial: removed.dial})
	require.NoError(t, err)
	require.Len(t, report.Removed, 2)
	removed.requireClean(t)

	// Keep is for recordings that were replayed whole.
	stopped := newFileServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	report, err = Run(ctx, recording, &Config{Dial: stopped.dial, Keep: true, OnCall: func(r *Result) {
		if r.Index == len(recording)-2 {
			cancel()
		}
	}})
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, report.Removed, 2)
	stopped.requireClean(t)
}

// TestRunLeft has a server that will not remove anything.
func TestRunLeft(t *testing.T) {
	set := fsrvp.SetID{5}
	s := &fake{
		start: func() (fsrvp.SetID, error) { return set, nil },
		abort: func(fsrvp.SetID) error { return fsrvp.ErrFail },
	}
	recording := []*Exchange{exchange(0, 0, &fsrvp.StartShadowCopySetRequest{}, &fsrvp.StartShadowCopySetResponse{ShadowCopySetID: fsrvp.SetID{1}})}
	report, err := Run(t.Context(), recording, &Config{Service: s})
	require.ErrorIs(t, err, fsrvp.ErrFail)
	require.ErrorContains(t, err, set.String())
	require.Equal(t, []fsrvp.SetID{set}, report.Left)
	require.Equal(t, 1, report.Same)
}

// TestRunDial has one connection for each of the recording's, closed after its last call.
func TestRunDial(t *testing.T) {
	req, resp := version()
	var recording []*Exchange
	for i := range 6 {
		e := exchange(time.Duration(i), time.Duration(i), req, resp)
		e.Connection = Connection{Client: []string{"10.0.0.1:1000", "10.0.0.1:1001", "10.0.0.2:1000"}[i/2], User: "backup"}
		recording = append(recording, e)
	}
	type conn struct {
		fsrvp.Service
		closer
	}
	var open atomic.Int64
	s := &fake{versions: func(context.Context, int64) (fsrvp.Versions, error) { return fsrvp.Versions{Min: 1, Max: 1}, nil }}
	var seen []Connection
	dial := func(_ context.Context, c Connection) (fsrvp.Service, error) {
		open.Add(1)
		seen = append(seen, c)
		return conn{s, func() error { open.Add(-1); return errors.New("not of interest") }}, nil
	}
	report, err := Run(t.Context(), recording, &Config{Dial: dial})
	require.NoError(t, err)
	require.Equal(t, 6, report.Same)
	require.Zero(t, open.Load())
	require.Equal(t, []Connection{recording[0].Connection, recording[2].Connection, recording[4].Connection}, seen)

	errRefused := errors.New("refused")
	report, err = Run(t.Context(), recording, &Config{Dial: func(ctx context.Context, c Connection) (fsrvp.Service, error) {
		if c.Client == "10.0.0.2:1000" {
			return nil, errRefused
		}
		return dial(ctx, c)
	}})
	require.ErrorIs(t, err, errRefused)
	require.Equal(t, 4, report.Calls)
	require.Zero(t, open.Load())

	_, err = Run(t.Context(), recording, &Config{Dial: func(context.Context, Connection) (fsrvp.Service, error) { return nil, nil }})
	require.ErrorContains(t, err, "no Service")
}

type closer func() error

func (c closer) Close() error { return c() }
