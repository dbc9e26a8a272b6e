package replay

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

func TestRules(t *testing.T) {
	of := func(m fsrvp.Message, field string, was, now any) *Difference {
		return &Difference{Exchange: &transcript.Exchange{Request: m}, Field: field, Recorded: was, Now: now}
	}
	owner := of(&fsrvp.IsPathSupportedRequest{}, "OwnerMachineName", "fs1", "fs9")
	status := of(&fsrvp.IsPathShadowCopiedRequest{}, "Return", fsrvp.ErrNotSupported, fsrvp.Status(0))
	denied := &dcerpc.Fault{Status: pdu.FaultAccessDenied}
	fault := of(&fsrvp.SetContextRequest{}, "Fault", denied, (*dcerpc.Fault)(nil))
	for _, tt := range []struct {
		rule string
		want []*Difference
	}{
		{"IsPathSupported.OwnerMachineName", []*Difference{owner}},
		{"ispathsupported.ownermachinename=fs1:fs9", []*Difference{owner}},
		{"IsPathSupported.OwnerMachineName=fs1:fs8", nil},
		{"IsPathShadowCopied.Return=FSRVP_E_NOT_SUPPORTED:ZERO", []*Difference{status}},
		{"*.Return=not_supported:0", []*Difference{status}},
		{"*.Return=0x8004230C:*", []*Difference{status}},
		{"*.Return=*:E_INVALIDARG", nil},
		{"SetContext.Fault=5:none", []*Difference{fault}},
		{"SetContext.*", []*Difference{fault}},
		{"*.*", []*Difference{owner, status, fault}},
		{"CommitShadowCopySet.Return", nil},
	} {
		r, err := ParseRule(tt.rule)
		require.NoError(t, err)
		var got []*Difference
		for _, d := range []*Difference{owner, status, fault} {
			if r.Tolerates(d) {
				got = append(got, d)
			}
		}
		require.Equal(t, tt.want, got, tt.rule)
		again, err := ParseRule(r.String())
		require.NoError(t, err)
		require.Equal(t, r, again)
	}
	for _, bad := range []string{"", "Return", ".Return", "SetContext.", "Nothing.Return", "SetContext.Return=1",
		"SetContext.Return=:2"} {
		_, err := ParseRule(bad)
		require.Error(t, err, bad)
	}
}

// TestRunTolerates has a server that differs in what the rules leave to it, and in one thing more.
func TestRunTolerates(t *testing.T) {
	var life func(t testing.TB, fs *fileServer)
	for _, l := range lives {
		if l.name == "errors" {
			life = l.calls
		}
	}
	first := newFileServer(t)
	life(t, first)
	recording := first.recording(t)
	var rules []Rule
	for _, s := range []string{"*.Return=E_INVALIDARG:SHADOWCOPYSET_ID_MISMATCH",
		"AddToShadowCopySet.Return=E_INVALIDARG:OBJECT_NOT_FOUND",
		"GetShareMapping.Return=0x80042311:BAD_STATE"} {
		r, err := ParseRule(s)
		require.NoError(t, err)
		rules = append(rules, r)
	}
	second := newFileServer(t, strict)
	tolerated := 0
	report, err := Run(t.Context(), recording, &Config{Dial: second.dial, Tolerate: rules,
		OnCall: func(r *Result) { tolerated += len(r.Tolerated) }})
	require.NoError(t, err)
	require.Equal(t, []string{
		`call 23 DeleteShareMapping \\fs1\data: Return: recorded 0x80070057 E_INVALIDARG, now 0x80042308 FSRVP_E_OBJECT_NOT_FOUND`,
	}, lines(report.Differences))
	require.Equal(t, 1, report.Different)
	require.Equal(t, 4, report.Tolerated)
	require.Equal(t, 4, tolerated)
	require.Equal(t, len(recording)-1, report.Same)
}
