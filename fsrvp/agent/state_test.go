package agent_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	snapmem "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

// situations are where a server can be when a call comes: without a creation, with a context alone,
// and with a set in each status.
var situations = []string{"Idle", "ContextSet", "Started", "Added", "CreationInProgress", "Committed", "Exposed",
	"Recovered"}

// The answers in each situation, in that order. "x" is the profile's answer to an unknown set.
const (
	ok   = "0"
	bad  = "BAD_STATE"
	busy = "IN_PROGRESS"
)

var stateTable = []struct {
	method string
	call   func(r *rig, l *life) error
	want   [8]string // by situation
	strict [8]string // where Strict differs; empty: as want
}{
	{
		"GetSupportedVersion", func(r *rig, _ *life) error { _, err := r.GetSupportedVersion(r.as); return err },
		[8]string{ok, ok, ok, ok, ok, ok, ok, ok}, [8]string{},
	},
	{
		"SetContext", func(r *rig, _ *life) error { return r.SetContext(r.as, fsrvp.ContextNASRollback) },
		[8]string{ok, ok, ok, ok, ok, ok, ok, ok}, [8]string{},
	},
	{
		"SetContext of another client", func(r *rig, _ *life) error { return r.SetContext(r.other, fsrvp.ContextNASRollback) },
		[8]string{ok, busy, busy, busy, busy, busy, busy, ok}, [8]string{},
	},
	{
		"SetContext, invalid", func(r *rig, _ *life) error { return r.SetContext(r.as, 0x400002) },
		[8]string{"CONTEXT", "CONTEXT", "CONTEXT", "CONTEXT", "CONTEXT", "CONTEXT", "CONTEXT", "CONTEXT"}, [8]string{},
	},
	{
		"StartShadowCopySet", func(r *rig, _ *life) error { _, err := r.StartShadowCopySet(r.as, fsrvp.NewSetID()); return err },
		[8]string{bad, ok, busy, busy, busy, busy, busy, bad}, [8]string{},
	},
	{
		"StartShadowCopySet, null id", func(r *rig, _ *life) error { _, err := r.StartShadowCopySet(r.as, fsrvp.SetID{}); return err },
		[8]string{"ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG"}, [8]string{},
	},
	{
		"AddToShadowCopySet", func(r *rig, l *life) error {
			_, err := r.AddToShadowCopySet(r.as, fsrvp.NewCopyID(), l.set, db)
			return err
		},
		[8]string{"x", "x", ok, ok, bad, bad, bad, bad}, [8]string{},
	},
	{
		"AddToShadowCopySet, same share", func(r *rig, l *life) error {
			_, err := r.AddToShadowCopySet(r.as, fsrvp.NewCopyID(), l.set, `\\192.0.2.1\VMS\disks\1`)
			return err
		},
		[8]string{"x", "x", ok, "EXISTS", bad, bad, bad, bad}, [8]string{},
	},
	{
		"AddToShadowCopySet, same volume", func(r *rig, l *life) error {
			_, err := r.AddToShadowCopySet(r.as, fsrvp.NewCopyID(), l.set, docs)
			return err
		},
		[8]string{"x", "x", ok, ok, bad, bad, bad, bad}, [8]string{"x", "x", ok, "EXISTS", bad, bad, bad, bad},
	},
	{
		"AddToShadowCopySet, unknown share", func(r *rig, l *life) error {
			_, err := r.AddToShadowCopySet(r.as, fsrvp.NewCopyID(), l.set, absent)
			return err
		},
		[8]string{"NOTFOUND", "NOTFOUND", "NOTFOUND", "NOTFOUND", "NOTFOUND", "NOTFOUND", "NOTFOUND",
			"NOTFOUND"}, [8]string{},
	},
	{
		"AddToShadowCopySet, another host", func(r *rig, l *life) error {
			_, err := r.AddToShadowCopySet(r.as, fsrvp.NewCopyID(), l.set, alien)
			return err
		},
		[8]string{"ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG"},
		[8]string{"NOTFOUND", "NOTFOUND", "NOTFOUND", "NOTFOUND", "NOTFOUND", "NOTFOUND", "NOTFOUND", "NOTFOUND"},
	},
	{
		"AddToShadowCopySet, no UNC path", func(r *rig, l *life) error {
			_, err := r.AddToShadowCopySet(r.as, fsrvp.NewCopyID(), l.set, "vms")
			return err
		},
		[8]string{"ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG"}, [8]string{},
	},
	{
		"PrepareShadowCopySet", func(r *rig, l *life) error { return r.PrepareShadowCopySet(r.as, l.set, wait) },
		[8]string{"x", "x", bad, ok, bad, bad, bad, bad}, [8]string{},
	},
	{
		"CommitShadowCopySet", func(r *rig, l *life) error {
			if r.status(l.set) == agent.CreationInProgress {
				return r.CommitShadowCopySet(r.as, l.set, 0)
			}
			return r.CommitShadowCopySet(r.as, l.set, wait)
		},
		[8]string{"x", "x", bad, ok, "TIMEOUT", bad, bad, bad}, [8]string{},
	},
	{
		"ExposeShadowCopySet", func(r *rig, l *life) error { return r.ExposeShadowCopySet(r.as, l.set, wait) },
		[8]string{"x", "x", bad, bad, bad, ok, bad, bad}, [8]string{},
	},
	{
		"RecoveryCompleteShadowCopySet", func(r *rig, l *life) error { return r.RecoveryCompleteShadowCopySet(r.as, l.set) },
		[8]string{"x", "x", bad, bad, bad, bad, ok, bad}, [8]string{},
	},
	{
		"AbortShadowCopySet", func(r *rig, l *life) error { return r.AbortShadowCopySet(r.as, l.set) },
		[8]string{"x", "x", ok, ok, ok, ok, ok, bad}, [8]string{},
	},
	{
		"AbortShadowCopySet, null id", func(r *rig, _ *life) error { return r.AbortShadowCopySet(r.as, fsrvp.SetID{}) },
		[8]string{"ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG"}, [8]string{},
	},
	{
		"IsPathSupported", func(r *rig, _ *life) error { _, err := r.IsPathSupported(r.as, vms); return err },
		[8]string{ok, ok, ok, ok, ok, ok, ok, ok}, [8]string{},
	},
	{
		"IsPathSupported, unknown share", func(r *rig, _ *life) error { _, err := r.IsPathSupported(r.as, absent); return err },
		[8]string{"NOTFOUND", "NOTFOUND", "NOTFOUND", "NOTFOUND", "NOTFOUND", "NOTFOUND", "NOTFOUND",
			"NOTFOUND"}, [8]string{},
	},
	{
		"IsPathShadowCopied", func(r *rig, _ *life) error {
			p, err := r.IsPathShadowCopied(r.as, docs) // on the volume of vms
			if err == nil && !p.Present {
				return errNotPresent
			}
			return err
		},
		[8]string{"no", "no", "no", "no", "no", ok, ok, ok}, [8]string{},
	},
	{
		"GetShareMapping", func(r *rig, l *life) error {
			_, err := r.GetShareMapping(r.as, l.copies[0], l.set, vms, 1)
			return err
		},
		[8]string{"x", "x", "NOTEXPOSED", "NOTEXPOSED", "NOTEXPOSED", "NOTEXPOSED", ok, ok},
		[8]string{"x", "x", bad, bad, bad, bad, ok, bad},
	},
	{
		"GetShareMapping, level 2", func(r *rig, l *life) error {
			_, err := r.GetShareMapping(r.as, l.copies[0], l.set, vms, 2)
			return err
		},
		[8]string{"ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG"}, [8]string{},
	},
	{
		"GetShareMapping, unknown copy", func(r *rig, l *life) error {
			_, err := r.GetShareMapping(r.as, fsrvp.NewCopyID(), l.set, vms, 1)
			return err
		},
		[8]string{"x", "x", "NOTEXPOSED", "NOTEXPOSED", "NOTEXPOSED", "NOTEXPOSED", "ARG", "ARG"},
		[8]string{"x", "x", bad, bad, bad, bad, "ARG", bad},
	},
	{
		"GetShareMapping, share not in the copy", func(r *rig, l *life) error {
			_, err := r.GetShareMapping(r.as, l.copies[0], l.set, db, 1)
			return err
		},
		[8]string{"x", "x", "NOTEXPOSED", "NOTEXPOSED", "NOTEXPOSED", "NOTEXPOSED", "ARG", "ARG"},
		[8]string{"x", "x", bad, bad, bad, bad, "ARG", bad},
	},
	{
		"DeleteShareMapping", func(r *rig, l *life) error { return r.DeleteShareMapping(r.as, l.set, l.copies[0], vms) },
		[8]string{"NOTFOUND", "NOTFOUND", bad, bad, bad, bad, ok, ok}, [8]string{},
	},
	{
		"DeleteShareMapping, unknown copy", func(r *rig, l *life) error {
			return r.DeleteShareMapping(r.as, l.set, fsrvp.NewCopyID(), vms)
		},
		[8]string{"NOTFOUND", "NOTFOUND", bad, bad, bad, bad, "ARG", "ARG"},
		[8]string{"NOTFOUND", "NOTFOUND", bad, bad, bad, bad, "NOTFOUND", "NOTFOUND"},
	},
	{
		"DeleteShareMapping, share not in the copy", func(r *rig, l *life) error {
			return r.DeleteShareMapping(r.as, l.set, l.copies[0], db)
		},
		[8]string{"NOTFOUND", "NOTFOUND", bad, bad, bad, bad, "ARG", "ARG"},
		[8]string{"NOTFOUND", "NOTFOUND", bad, bad, bad, bad, "NOTFOUND", "NOTFOUND"},
	},
	{
		"DeleteShareMapping, null arguments", func(r *rig, l *life) error {
			return r.DeleteShareMapping(r.as, fsrvp.SetID{}, fsrvp.CopyID{}, "")
		},
		[8]string{"ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG"}, [8]string{},
	},
	{
		"AddToShadowCopySet, null set and unknown share", func(r *rig, l *life) error {
			_, err := r.AddToShadowCopySet(r.as, fsrvp.NewCopyID(), fsrvp.SetID{}, absent)
			return err
		},
		[8]string{"ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG"}, [8]string{},
	},
	{
		"PrepareShadowCopySet, null set", func(r *rig, l *life) error {
			return r.PrepareShadowCopySet(r.as, fsrvp.SetID{}, wait)
		},
		[8]string{"ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG"}, [8]string{},
	},
	{
		"CommitShadowCopySet, null set", func(r *rig, l *life) error {
			return r.CommitShadowCopySet(r.as, fsrvp.SetID{}, wait)
		},
		[8]string{"ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG"}, [8]string{},
	},
	{
		"ExposeShadowCopySet, null set", func(r *rig, l *life) error {
			return r.ExposeShadowCopySet(r.as, fsrvp.SetID{}, wait)
		},
		[8]string{"ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG"}, [8]string{},
	},
	{
		"RecoveryCompleteShadowCopySet, null set", func(r *rig, l *life) error {
			return r.RecoveryCompleteShadowCopySet(r.as, fsrvp.SetID{})
		},
		[8]string{"ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG"}, [8]string{},
	},
	{
		"GetShareMapping, null set", func(r *rig, l *life) error {
			_, err := r.GetShareMapping(r.as, l.copies[0], fsrvp.SetID{}, vms, 1)
			return err
		},
		[8]string{"ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG"}, [8]string{},
	},
	{
		"GetShareMapping, null copy", func(r *rig, l *life) error {
			_, err := r.GetShareMapping(r.as, fsrvp.CopyID{}, l.set, vms, 1)
			return err
		},
		[8]string{"ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG"}, [8]string{},
	},
	{
		"GetShareMapping, empty share", func(r *rig, l *life) error {
			_, err := r.GetShareMapping(r.as, l.copies[0], l.set, "", 1)
			return err
		},
		[8]string{"ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG", "ARG"}, [8]string{},
	},
}

// errNotPresent stands for a ShadowCopyPresent of false.
var errNotPresent = fmt.Errorf("not present")

func wireStatus(t testing.TB, name string, p agent.Profile) fsrvp.Status {
	switch name {
	case ok:
		return 0
	case bad:
		return fsrvp.ErrBadState
	case busy:
		return fsrvp.ErrShadowCopySetInProgress
	case "CONTEXT":
		return fsrvp.ErrUnsupportedContext
	case "ARG":
		return fsrvp.ErrInvalidArg
	case "EXISTS":
		return fsrvp.ErrObjectAlreadyExists
	case "NOTFOUND":
		return fsrvp.ErrObjectNotFound
	case "TIMEOUT":
		return fsrvp.ErrTimeout
	case "NOTEXPOSED":
		return fsrvp.ErrNotExposed
	case "x":
		if p == agent.Strict {
			return fsrvp.ErrShadowCopySetIDMismatch
		}
		return fsrvp.ErrInvalidArg
	}
	t.Fatalf("unknown answer %q", name)
	return 0
}

// TestEveryMethodInEveryStatus calls each method in each situation, for both profiles, and checks
// the answer and that a refused call leaves the set as it was.
func TestEveryMethodInEveryStatus(t *testing.T) {
	for _, profile := range []agent.Profile{agent.Windows, agent.Strict} {
		for _, tc := range stateTable {
			for i, situation := range situations {
				want := tc.want[i]
				if profile == agent.Strict && tc.strict[i] != "" {
					want = tc.strict[i]
				}
				t.Run(fmt.Sprintf("%v/%s/%s", profile, tc.method, situation), func(t *testing.T) {
					t.Parallel()
					r := newRig(t, func(r *rig) { r.cfg.Profile = profile })
					l := r.situation(t, situation)
					before := r.status(l.set)
					err := tc.call(r, l)
					if want == "no" {
						require.ErrorIs(t, err, errNotPresent)
						return
					}
					requireStatus(t, wireStatus(t, want, profile), err)
					if err != nil {
						require.Equal(t, before, r.status(l.set), "a refused call changes nothing")
					}
				})
			}
		}
	}
}

// situation brings a fresh agent where a test wants it.
func (r *rig) situation(t *testing.T, name string) *life {
	l := &life{set: fsrvp.NewSetID(), copies: []fsrvp.CopyID{fsrvp.NewCopyID()}, shares: []string{vms}}
	switch name {
	case "Idle":
	case "ContextSet":
		require.NoError(t, r.SetContext(client1, fsrvp.ContextBackup))
	case "Started":
		l.set = r.bring(t, fsrvp.ContextBackup, agent.Started).set
	case "CreationInProgress":
		l = r.bring(t, fsrvp.ContextBackup, agent.Added, vms)
		// Every Create from now on waits until it is cancelled.
		r.snapshots.Fault = func(ctx context.Context, p snapmem.Point) error {
			if p.Method == "Create" {
				<-ctx.Done()
			}
			return ctx.Err()
		}
		requireStatus(t, fsrvp.ErrTimeout, r.CommitShadowCopySet(client1, l.set, 0))
	default:
		l = r.bring(t, fsrvp.ContextBackup, agent.SetStatus(name), vms)
	}
	return l
}

// TestAccessIsCheckedFirst makes every call of the table, valid or not, as somebody who may not
// call.
func TestAccessIsCheckedFirst(t *testing.T) {
	for name, ctx := range map[string]context.Context{
		"unknown":      context.Background(),
		"unprivileged": dcerpc.WithPeer(context.Background(), dcerpc.Peer{Identity: dcerpc.Identity{Account: "nobody1"}, AuthType: dcerpc.AuthSPNEGO, Level: dcerpc.LevelPrivacy}),
	} {
		for _, situation := range situations {
			r := newRig(t, nil)
			l := r.situation(t, situation)
			r.as, r.other = ctx, ctx
			for _, tc := range stateTable {
				requireStatus(t, fsrvp.ErrAccessDenied, tc.call(r, l), name, situation, tc.method)
			}
		}
	}
}
