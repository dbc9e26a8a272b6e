package fsrvptest_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// A poisoner is a server that leaves itself in states in which another case cannot begin, as
// Samba's agent does.
type poisoner struct {
	fsrvp.ServiceFunc
	next   fsrvp.Service
	on     *poison
	denied bool
}

// A poison is what is wrong with a server, and what all its callers have in common.
type poison struct {
	keepsContext bool // Abort leaves the context set
	noStartOver  bool // SetContext leaves the unfinished set
	startsAlways bool // Start needs no context
	nullIsFine   bool // Start takes a null id
	deafAbort    bool // Abort of a set that is Exposed answers success and does nothing

	agent     func() *agent.Agent
	context   fsrvp.ContextValue // the last one
	starts    int
	loseStart int // the Start whose answer is lost, after it was done
}

// HangUp passes on that a case has ended, or that the server was restarted.
func (p *poisoner) HangUp() { p.next.(*fsrvptest.Line).HangUp() }

// status is that of a set; empty where there is none.
func (p *poison) status(id fsrvp.SetID) agent.SetStatus {
	for _, set := range p.agent().Table() {
		if set.ID == id && !set.Removing {
			return set.Status
		}
	}
	return ""
}

// busy reports whether a set is in creation.
func (p *poison) busy() bool {
	for _, set := range p.agent().Table() {
		if !set.Removing && set.Status != agent.Recovered {
			return true
		}
	}
	return false
}

func (p *poisoner) call(ctx context.Context, req fsrvp.Message) (fsrvp.Response, error) {
	on := p.on
	succeed := func() (fsrvp.Response, error) { return fsrvp.NewResponse(req.Opnum()), nil }
	switch r := req.(type) {
	case *fsrvp.SetContextRequest:
		if on.noStartOver && on.busy() && r.Context.Valid() && !p.denied {
			return succeed()
		}
	case *fsrvp.StartShadowCopySetRequest:
		if on.startsAlways && !on.busy() && !p.denied {
			_ = p.next.SetContext(ctx, fsrvp.ContextBackup) // refused where another client has one
		}
		if on.nullIsFine && r.ClientShadowCopySetID == (fsrvp.SetID{}) {
			req = &fsrvp.StartShadowCopySetRequest{ClientShadowCopySetID: fsrvp.NewSetID()}
		}
	case *fsrvp.AbortShadowCopySetRequest:
		if on.deafAbort && on.status(r.ShadowCopySetID) == agent.Exposed && !p.denied {
			return succeed()
		}
	}
	resp, err := fsrvp.Serve(ctx, p.next, req)
	if err != nil {
		return resp, err
	}
	switch r := req.(type) {
	case *fsrvp.SetContextRequest:
		on.context = r.Context
	case *fsrvp.StartShadowCopySetRequest:
		if on.starts++; on.starts == on.loseStart {
			return fsrvp.NewResponse(req.Opnum()), net.ErrClosed
		}
	case *fsrvp.AbortShadowCopySetRequest:
		if on.keepsContext && !on.busy() {
			_ = p.next.SetContext(ctx, on.context) // refused where another client has one
		}
	}
	return resp, nil
}

// poisoned is an agent in a bubble, called directly, with something wrong with it.
func poisoned(t *testing.T, p poison) fsrvptest.Target {
	const timeout = 180 * time.Second
	timers := agent.Timers{Add: timeout, Prepare: timeout, GetShareMapping: timeout}
	target, agent := directAgent(t, agent.Config{Timers: timers})
	target.SequenceTimeout, target.CaseTimeout = timeout, 10*time.Hour
	p.agent = agent
	for _, s := range []*fsrvp.Service{&target.Client, &target.SameHost, &target.Other, &target.Unprivileged} {
		m := &poisoner{next: *s, on: &p, denied: s == &target.Unprivileged}
		m.ServiceFunc = m.call
		*s = m
	}
	return target
}

// TestPoison runs the cases on servers that get in their own way: in the standard's order with a
// reset after each failure, in another order without, and again. All verdicts are the same, and
// the server can be used afterwards.
func TestPoison(t *testing.T) {
	for name, p := range map[string]poison{
		"right":                        {},
		"keeps its context":            {keepsContext: true},
		"keeps unfinished sets":        {noStartOver: true},
		"starts without a context":     {startsAlways: true},
		"takes a null id":              {nullIsFine: true},
		"does not abort what is there": {deafAbort: true},
		"most of it":                   {keepsContext: true, noStartOver: true, nullIsFine: true, deafAbort: true},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "right" && name != "most of it" {
				t.Skip("each runs all cases four times, and one server has most of what the others have")
			}
			synctest.Test(t, func(t *testing.T) {
				target := poisoned(t, p)
				require.NoError(t, target.Check(t.Context()))
				withReset := target
				withReset.Reset = func(ctx context.Context) error { return wipe(ctx, &target) }
				cases := fsrvptest.Cases()
				want := verdicts(t, &withReset, cases)
				failed := 0
				for _, v := range want {
					require.NotEqual(t, fsrvptest.Blocked, v)
					if v == fsrvptest.Failed {
						failed++
					}
				}
				require.Equal(t, name == "right", failed == 0, "%d cases fail", failed)
				r := rand.New(rand.NewPCG(11, 0))
				for range 2 {
					r.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
					requireVerdicts(t, want, &target, cases)
				}
				usable(t, target.Client)
			})
		})
	}
}

func requireVerdicts(t *testing.T, want map[string]fsrvptest.Verdict, target *fsrvptest.Target, cases []fsrvptest.Case) {
	t.Helper()
	before := "the first case"
	for _, c := range cases {
		if res := c.Run(t.Context(), target); res.Verdict != want[c.Name] {
			t.Errorf("%s after %s is %v, not %v: %s\n%s", c.Name, before, res.Verdict, want[c.Name], res.Reason, res.Did)
		}
		before = c.Name
	}
}

// wipe restarts the server and deletes the sets that it has.
func wipe(ctx context.Context, target *fsrvptest.Target) error {
	if err := target.Restart(ctx); err != nil {
		return err
	}
	// A set that is in creation goes with the context of its client, and with the timer.
	time.Sleep(target.SequenceTimeout + time.Second)
	return nil
}

// usable takes a set through its life.
func usable(t *testing.T, s fsrvp.Service) {
	t.Helper()
	ctx, share := t.Context(), `\\fs1\share`
	require.NoError(t, s.SetContext(ctx, fsrvp.ContextBackup))
	set, err := s.StartShadowCopySet(ctx, fsrvp.NewSetID())
	require.NoError(t, err)
	id, err := s.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, share)
	require.NoError(t, err)
	require.NoError(t, s.PrepareShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, s.CommitShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, s.ExposeShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, s.RecoveryCompleteShadowCopySet(ctx, set))
	require.NoError(t, s.DeleteShareMapping(ctx, set, id, share))
}

// TestLostAnswer loses the answer of a StartShadowCopySet, so that nobody knows the set's id: of a
// server that lets its client start over, and of one that is waited for.
func TestLostAnswer(t *testing.T) {
	for name, p := range map[string]poison{"starts over": {}, "is waited for": {noStartOver: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				target := poisoned(t, p)
				require.NoError(t, target.Check(t.Context()))
				var waited []time.Duration
				target.OnWait = func(limit time.Duration) { waited = append(waited, limit) }
				cases := named(t, "Add/Twice", "Commit/Succeeds", "Abort/Twice")
				require.Equal(t, fsrvptest.Passed, cases[0].Run(t.Context(), &target).Verdict)
				on := target.Client.(*poisoner).on
				on.loseStart = on.starts + 1
				res := cases[1].Run(t.Context(), &target)
				require.Equal(t, fsrvptest.Failed, res.Verdict)
				require.NotContains(t, res.Reason, "clean-up")
				require.Equal(t, fsrvptest.Passed, cases[2].Run(t.Context(), &target).Verdict)
				if p.noStartOver {
					require.Len(t, waited, 1)
					require.Greater(t, waited[0], target.SequenceTimeout)
				} else {
					require.Empty(t, waited)
				}
				usable(t, target.Client)
			})
		})
	}
}

// named returns cases by their names.
func named(t *testing.T, names ...string) (cases []fsrvptest.Case) {
	t.Helper()
	byName := map[string]fsrvptest.Case{}
	for _, c := range fsrvptest.Cases() {
		byName[c.Name] = c
	}
	for _, name := range names {
		require.Contains(t, byName, name)
		cases = append(cases, byName[name])
	}
	return cases
}

// TestBlocked has a server that says from some call on that a set is in creation, until it is
// reset.
func TestBlocked(t *testing.T) {
	for name, reset := range map[string]bool{"for good": false, "until it is reset": true} {
		t.Run(name, func(t *testing.T) {
			target := direct(t, agent.Config{})
			target.BlockedWait = -1
			stuck := false
			client := target.Client
			m := mutate(client, func(op fsrvp.Opnum, err error) error {
				if stuck && op == fsrvp.OpStartShadowCopySet {
					return fsrvp.ErrShadowCopySetInProgress
				}
				stuck = stuck || op == fsrvp.OpCommitShadowCopySet
				return err
			})
			target.Client = m
			if reset {
				target.Reset = func(ctx context.Context) error {
					stuck = false
					return target.Restart(ctx)
				}
			}
			cases := named(t, "Commit/Succeeds", "Add/Twice", "IsPathSupported/Supported", "Abort/Twice", "Add/OtherVolume")
			res := cases[0].Run(t.Context(), &target)
			require.Equal(t, !reset, res.Verdict == fsrvptest.Failed, "%v %s", res.Verdict, res.Reason)
			if reset {
				require.Equal(t, fsrvptest.Passed, cases[1].Run(t.Context(), &target).Verdict)
				return
			}
			require.Contains(t, res.Reason, "clean-up: the server stays blocked: a shadow copy set that it did not name stays in creation")
			res = cases[1].Run(t.Context(), &target)
			require.Equal(t, fsrvptest.Blocked, res.Verdict)
			require.Equal(t, "Commit/Succeeds", res.BlockedBy)
			require.Equal(t, "blocked", res.Verdict.String())
			require.Equal(t, fsrvptest.Passed, cases[2].Run(t.Context(), &target).Verdict, "it needs no set")
			target.OtherVolume = ""
			require.Equal(t, fsrvptest.NotApplicable, cases[4].Run(t.Context(), &target).Verdict, "it would not be applicable in any case")
			stuck = false
			require.Equal(t, fsrvptest.Passed, cases[3].Run(t.Context(), &target).Verdict, "the server is free again")
		})
	}
}

// TestHiddenNames is about servers that name the copies of hidden shares without a dollar behind
// the id in any case.
func TestHiddenNames(t *testing.T) {
	for _, profile := range profiles {
		for plain, want := range map[bool][]fsrvptest.Verdict{
			false: {fsrvptest.Passed, fsrvptest.Passed}, true: {fsrvptest.Passed, fsrvptest.Failed},
		} {
			target := direct(t, agent.Config{Profile: profile, PlainHiddenNames: plain})
			for i, c := range named(t, "Expose/HiddenName", "Expose/HiddenNameBackslash") {
				res := c.Run(t.Context(), &target)
				require.Equal(t, want[i], res.Verdict, "%v, plain names: %v: %s", profile, plain, res.Reason)
			}
		}
	}
}

// TestLevelsDenied: a server that refuses levels in RPC denies them too.
func TestLevelsDenied(t *testing.T) {
	c := named(t, "Access/Level/CONNECT")[0]
	for _, tt := range []struct {
		err  error
		want fsrvptest.Verdict
	}{
		{fsrvp.ErrAccessDenied, fsrvptest.Passed}, {dcerpc.ErrAccessDenied, fsrvptest.Passed}, {&dcerpc.BindError{}, fsrvptest.Passed},
		{nil, fsrvptest.Failed}, {fsrvp.ErrBadState, fsrvptest.Failed}, {dcerpc.ErrOpnumRange, fsrvptest.Failed}, {errors.New("broken"), fsrvptest.Failed},
	} {
		target := direct(t, agent.Config{})
		target.Levels = map[dcerpc.AuthLevel]fsrvp.Service{
			dcerpc.LevelInsecureConnect: fsrvp.ServiceFunc(func(_ context.Context, req fsrvp.Message) (fsrvp.Response, error) {
				resp := fsrvp.NewResponse(req.Opnum())
				resp.SetStatus(fsrvp.StatusOf(tt.err))
				return resp, tt.err
			}),
		}
		require.Equal(t, tt.want, c.Run(t.Context(), &target).Verdict, "%v", tt.err)
	}
}

// TestCheck has the check before the first case find what is wrong, and nothing where nothing is.
func TestCheck(t *testing.T) {
	answering := func(op fsrvp.Opnum, answer error) func(*testing.T, *fsrvptest.Target) {
		return func(_ *testing.T, target *fsrvptest.Target) {
			target.Client = mutate(target.Client, func(called fsrvp.Opnum, err error) error {
				if called == op {
					return answer
				}
				return err
			})
		}
	}
	for name, tt := range map[string]struct {
		change func(*testing.T, *fsrvptest.Target)
		want   error
	}{
		"nothing":       {func(*testing.T, *fsrvptest.Target) {}, nil},
		"no rights":     {func(_ *testing.T, target *fsrvptest.Target) { target.Client = target.Unprivileged }, fsrvptest.ErrNoRights},
		"no share":      {func(_ *testing.T, target *fsrvptest.Target) { target.Share = `\\fs1\absent` }, fsrvptest.ErrNoShare},
		"another host":  {func(_ *testing.T, target *fsrvptest.Target) { target.Share = `\\fs9\share` }, fsrvptest.ErrNoShare},
		"not supported": {func(_ *testing.T, target *fsrvptest.Target) { target.Share = target.Unsupported }, fsrvptest.ErrNotSupported},
		"busy": {func(t *testing.T, target *fsrvptest.Target) {
			require.NoError(t, target.Other.SetContext(t.Context(), 0))
			_, err := target.Other.StartShadowCopySet(t.Context(), fsrvp.NewSetID())
			require.NoError(t, err)
		}, fsrvptest.ErrBusy},
		"no interface": {answering(fsrvp.OpGetSupportedVersion, dcerpc.ErrUnknownInterface), fsrvptest.ErrNoService},
		"protection":   {answering(fsrvp.OpGetSupportedVersion, dcerpc.ErrAccessDenied), fsrvptest.ErrProtection},
		"fault":        {answering(fsrvp.OpIsPathSupported, dcerpc.ErrOpnumRange), fsrvptest.ErrAnswers},
		"no context":   {answering(fsrvp.OpSetContext, fsrvp.ErrFail), fsrvptest.ErrAnswers},
		"no connection": {func(_ *testing.T, target *fsrvptest.Target) {
			target.Client = fsrvptest.NewLine(func(context.Context) (fsrvp.Service, error) { return nil, net.ErrClosed })
		}, fsrvptest.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				target := direct(t, agent.Config{})
				tt.change(t, &target)
				err := target.Check(t.Context())
				if tt.want == nil {
					require.NoError(t, err)
					usable(t, target.Client)
					return
				}
				require.ErrorIs(t, err, tt.want)
			})
		})
	}
}

// TestLine breaks connections.
func TestLine(t *testing.T) {
	dialled, broken, closed := 0, false, 0
	refuse := errors.New("refused")
	var dialErr error
	line := fsrvptest.NewLine(func(context.Context) (fsrvp.Service, error) {
		if dialErr != nil {
			return nil, dialErr
		}
		dialled++
		return struct {
			fsrvp.ServiceFunc
			closer
		}{func(_ context.Context, req fsrvp.Message) (fsrvp.Response, error) {
			if broken {
				broken = false
				return nil, net.ErrClosed
			}
			return fsrvp.NewResponse(req.Opnum()), fsrvp.ErrBadState
		}, closer{&closed}}, nil
	})
	call := func() error { return line.SetContext(t.Context(), 0) }
	require.ErrorIs(t, call(), fsrvp.ErrBadState)
	require.ErrorIs(t, call(), fsrvp.ErrBadState)
	require.Equal(t, 1, dialled)
	broken = true
	require.ErrorIs(t, call(), net.ErrClosed, "it is not called twice")
	require.Equal(t, 1, closed)
	require.ErrorIs(t, call(), fsrvp.ErrBadState)
	require.Equal(t, 2, dialled)
	line.HangUp()
	line.HangUp()
	require.Equal(t, 2, closed)
	dialErr = refuse
	require.ErrorIs(t, call(), refuse)
	dialErr = nil
	require.ErrorIs(t, call(), fsrvp.ErrBadState)
	require.NoError(t, line.Close())
	require.Equal(t, 3, closed)
}

type closer struct{ n *int }

func (c closer) Close() error { *c.n++; return nil }

// TestDid is about what a case tells of itself.
func TestDid(t *testing.T) {
	target := direct(t, agent.Config{})
	res := named(t, "Add/NoShare")[0].Run(t.Context(), &target)
	require.Equal(t, fsrvptest.Passed, res.Verdict)
	require.Equal(t, "SetContext ok, StartShadowCopySet ok, AddToShadowCopySet E_INVALIDARG (10 times), AddToShadowCopySet ok", res.Did)
	cleaned := false
	for _, c := range res.Calls {
		require.False(t, cleaned && !c.CleanUp)
		cleaned = c.CleanUp
	}
	require.True(t, cleaned)
	target.Hidden = ""
	res = named(t, "Add/Hidden")[0].Run(t.Context(), &target)
	require.Equal(t, fsrvptest.NotApplicable, res.Verdict)
	require.Equal(t, "nothing was called", res.Did)
	require.Empty(t, res.Calls)
	res = named(t, "Add/TwiceByAlias")[0].Run(t.Context(), &target)
	require.True(t, strings.HasPrefix(res.Did, "SetContext ok, "), res.Did)
}
