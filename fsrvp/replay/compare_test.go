package replay

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
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
	require.Equal(t, `\\fs1\vms$\`, d.Share())
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

// TestRunComparison is about answers that no agent of ours gives.
func TestRunComparison(t *testing.T) {
	req, resp := version()
	set := func(b byte) fsrvp.SetID { return fsrvp.SetID{b} }
	start := func(b byte) *transcript.Exchange {
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
		recording []*transcript.Exchange
		service   *fake
		want      []string
	}{
		"versions": {[]*transcript.Exchange{exchange(0, 0, req, resp)}, answers(func() (fsrvp.Versions, error) { return fsrvp.Versions{Min: 0, Max: 2}, nil }),
			[]string{"call 1 GetSupportedVersion: MinVersion: recorded 1, now 0", "call 1 GetSupportedVersion: MaxVersion: recorded 1, now 2"}},
		"fault now": {[]*transcript.Exchange{exchange(0, 0, req, resp)}, answers(func() (fsrvp.Versions, error) { return fsrvp.Versions{}, dcerpc.ErrAccessDenied }),
			[]string{"call 1 GetSupportedVersion: Fault: recorded none, now 0x00000005 " + pdu.FaultAccessDenied.String()}},
		"fault then": {[]*transcript.Exchange{fault}, answers(func() (fsrvp.Versions, error) { return fsrvp.Versions{}, nil }),
			[]string{"call 1 GetSupportedVersion: Fault: recorded 0x1C010014 " + pdu.FaultServerTooBusy.String() + ", now none"}},
		"another fault": {[]*transcript.Exchange{fault}, answers(func() (fsrvp.Versions, error) { return fsrvp.Versions{}, dcerpc.ErrAccessDenied }),
			[]string{"call 1 GetSupportedVersion: Fault: recorded 0x1C010014 " + pdu.FaultServerTooBusy.String() + ", now 0x00000005 " + pdu.FaultAccessDenied.String()}},
		"same fault":       {[]*transcript.Exchange{fault}, answers(func() (fsrvp.Versions, error) { return fsrvp.Versions{}, dcerpc.ErrServerTooBusy }), nil},
		"ids differ":       {[]*transcript.Exchange{start(1), start(2)}, starts(set(7), set(8)), nil},
		"one id for two":   {[]*transcript.Exchange{start(1), start(2)}, starts(set(7), set(7)), []string{"call 2 StartShadowCopySet: pShadowCopySetId: recorded an id of its own, now " + set(7).String()}},
		"two ids for one":  {[]*transcript.Exchange{start(1), start(1)}, starts(set(7), set(8)), []string{"call 2 StartShadowCopySet: pShadowCopySetId: recorded " + set(7).String() + ", now " + set(8).String()}},
		"no id then":       {[]*transcript.Exchange{start(0)}, starts(set(7)), []string{"call 1 StartShadowCopySet: pShadowCopySetId: recorded " + set(0).String() + ", now " + set(7).String()}},
		"no id at all":     {[]*transcript.Exchange{start(0)}, starts(set(0)), nil},
		"truth and NULL":   {[]*transcript.Exchange{null}, &fake{support: func(string) (fsrvp.PathSupport, error) { return fsrvp.PathSupport{Supported: true}, nil }}, nil},
		"no truth":         {[]*transcript.Exchange{null}, &fake{support: func(string) (fsrvp.PathSupport, error) { return fsrvp.PathSupport{}, nil }}, []string{`call 1 IsPathSupported \\fs1\x: SupportedByThisProvider: recorded true, now false`}},
		"owner out of NUL": {[]*transcript.Exchange{null}, &fake{support: func(string) (fsrvp.PathSupport, error) { return fsrvp.PathSupport{Supported: true, Owner: "fs2"}, nil }}, []string{`call 1 IsPathSupported \\fs1\x: OwnerMachineName: recorded "", now "fs2"`}},
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
	mapping := func(change func(*fsrvp.ShareMapping1)) *transcript.Exchange {
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
		recording, now []*transcript.Exchange // now is what the Service says
		want           []string               // fields
	}{
		"same":               {[]*transcript.Exchange{mapping(nothing)}, []*transcript.Exchange{mapping(nothing)}, nil},
		"other time":         {[]*transcript.Exchange{mapping(nothing)}, []*transcript.Exchange{mapping(later)}, nil},
		"no time":            {[]*transcript.Exchange{mapping(nothing)}, []*transcript.Exchange{mapping(func(m *fsrvp.ShareMapping1) { m.CreationTimestamp = 0 })}, []string{"CreationTimestamp"}},
		"time moves":         {[]*transcript.Exchange{mapping(nothing), mapping(nothing)}, []*transcript.Exchange{mapping(nothing), mapping(later)}, []string{"CreationTimestamp"}},
		"time moved then":    {[]*transcript.Exchange{mapping(nothing), mapping(later)}, []*transcript.Exchange{mapping(nothing), mapping(nothing)}, nil},
		"none now":           {[]*transcript.Exchange{mapping(nothing)}, []*transcript.Exchange{none}, []string{"ShareMapping1"}},
		"none then":          {[]*transcript.Exchange{none}, []*transcript.Exchange{mapping(nothing)}, []string{"ShareMapping1"}},
		"none":               {[]*transcript.Exchange{none}, []*transcript.Exchange{none}, nil},
		"everything":         {[]*transcript.Exchange{mapping(nothing)}, []*transcript.Exchange{mapping(func(m *fsrvp.ShareMapping1) { *m = fsrvp.ShareMapping1{} })}, []string{"ShadowCopySetId", "ShadowCopyId", "ShareNameUNC", "ShadowCopyShareName", "CreationTimestamp"}},
		"spelled other ways": {[]*transcript.Exchange{mapping(nothing)}, []*transcript.Exchange{mapping(func(m *fsrvp.ShareMapping1) { m.ShareNameUNC.String = `\\FS1\data` })}, []string{"ShareNameUNC"}},
	} {
		t.Run(name, func(t *testing.T) {
			start := exchange(-1, -1, &fsrvp.StartShadowCopySetRequest{}, &fsrvp.StartShadowCopySetResponse{ShadowCopySetID: set})
			s, err := NewService(append(test.now, start), nil)
			require.NoError(t, err)
			report, err := Run(t.Context(), append(test.recording, start), &Config{Service: s, Keep: true})
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
