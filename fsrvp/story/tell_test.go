package story_test

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/story"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// A stage is a real agent whose calls are recorded.
type stage struct {
	t      *testing.T
	memory *fsrvptest.Memory
	s      fsrvp.Service
	file   bytes.Buffer
}

// play runs a play on a stage, by a clock that does not wait, and returns the stories.
func play(t *testing.T, act func(s *stage)) (sets []*story.Set) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{t: t, memory: fsrvptest.NewMemory()}
		a, err := agent.New(t.Context(), &agent.Config{
			Snapshots: s.memory.Snapshots, Shares: s.memory.Shares, StorePath: filepath.Join(t.TempDir(),
				"agent.db"), Names: []string{"fs1"},
		})
		require.NoError(t, err)
		defer a.Close()
		r := transcript.NewRecorder(a, &s.file,
			&transcript.RecorderConfig{Connection: transcript.Connection{Server: "10.0.0.9:445"}})
		s.s = r
		act(s)
		require.NoError(t, r.Close())
		calls, err := transcript.ReadAll(&s.file)
		require.NoError(t, err)
		sets = story.Tell(calls, nil)
	})
	return sets
}

// An actor is a client.
type actor struct {
	*stage
	ctx    context.Context
	set    fsrvp.SetID
	copies []fsrvp.CopyID
	shares []string
}

func (s *stage) actor(address, user string) *actor {
	return s.actorWith(address, user, dcerpc.SIDBuiltinBackupOperators)
}

func (s *stage) actorWith(address, user string, groups ...dcerpc.SID) *actor {
	return &actor{stage: s, ctx: dcerpc.WithPeer(s.t.Context(), dcerpc.Peer{
		Addr:     &net.TCPAddr{IP: net.ParseIP(address), Port: 50000},
		Identity: dcerpc.Identity{Principal: user, Account: user, SIDs: groups}, Level: dcerpc.LevelPrivacy,
	})}
}

const wait = time.Minute

// to brings a set of some shares to a status.
func (a *actor) to(status story.Status, shares ...string) *actor {
	t := a.t
	t.Helper()
	var err error
	step := func(at story.Status, f func() error) {
		if err == nil && status >= at {
			time.Sleep(10 * time.Millisecond)
			err = f()
		}
	}
	step(story.None, func() error { return a.s.SetContext(a.ctx, fsrvp.ContextBackup) })
	step(story.Started, func() error {
		var err error
		a.set, err = a.s.StartShadowCopySet(a.ctx, fsrvp.NewSetID())
		return err
	})
	for _, share := range shares {
		step(story.Added, func() error { return a.add(share) })
	}
	step(story.Committed, func() error { return a.s.PrepareShadowCopySet(a.ctx, a.set, wait) })
	step(story.Committed, func() error { return a.s.CommitShadowCopySet(a.ctx, a.set, wait) })
	step(story.Exposed, func() error { return a.s.ExposeShadowCopySet(a.ctx, a.set, wait) })
	for i := range a.shares {
		step(story.Exposed, func() error { return a.mapping(i) })
	}
	step(story.Recovered, func() error { return a.s.RecoveryCompleteShadowCopySet(a.ctx, a.set) })
	require.NoError(t, err)
	return a
}

func (a *actor) add(share string) error {
	id, err := a.s.AddToShadowCopySet(a.ctx, fsrvp.NewCopyID(), a.set, `\\fs1\`+share)
	if err == nil {
		a.copies, a.shares = append(a.copies, id), append(a.shares, `\\fs1\`+share)
	}
	return err
}

func (a *actor) mapping(i int) error {
	_, err := a.s.GetShareMapping(a.ctx, a.copies[i], a.set, a.shares[i], 1)
	return err
}

func (a *actor) release() {
	for i := range a.shares {
		require.NoError(a.t, a.s.DeleteShareMapping(a.ctx, a.set, a.copies[i], a.shares[i]))
	}
}

// status checks what a call is answered.
func (s *stage) status(want fsrvp.Status, err error) {
	s.t.Helper()
	require.ErrorIs(s.t, err, want)
}

const (
	alice = "10.0.0.1"
	bob   = "10.0.0.2"
)

// TestOutcomes has a real agent tell each story, and checks how it is understood: the outcome, the
// verdict, and what is said of the calls that failed.
func TestOutcomes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		act     func(s *stage)
		want    []story.Outcome
		verdict string   // of the first
		said    []string // of the events of all, in order
	}{
		{name: "released", act: func(s *stage) {
			s.actor(alice, "a").to(story.Recovered, "share", "other").release()
		}, want: []story.Outcome{story.Released}, verdict: "complete: the set was recovered and its exposed shares were deleted"},
		{name: "kept", act: func(s *stage) {
			s.actor(alice, "a").to(story.Recovered, "share", "other")
		}, want: []story.Outcome{story.Kept}, verdict: "complete: the set was recovered; 2 exposed shares were left for later"},
		{name: "timer between two calls", act: func(s *stage) {
			a := s.actor(alice, "a").to(story.Committed, "share")
			time.Sleep(200 * time.Second)
			s.status(fsrvp.ErrInvalidArg, s.s.ExposeShadowCopySet(a.ctx, a.set, wait))
		}, want: []story.Outcome{story.TimedOut},
			verdict: "timed out: no call came for 3m0s after CommitShadowCopySet: the Message Sequence Timer ran out, " +
				"and the agent deletes the set with its snapshots and shares; the set was only Committed (MS-FSRVP 3.1.2)",
			said: []string{"the Message Sequence Timer ran out",
				"the set was gone: the Message Sequence Timer had run out 20s before"}},
		{name: "no RecoveryComplete", act: func(s *stage) {
			s.actor(alice, "a").to(story.Exposed, "share")
			time.Sleep(31 * time.Minute)
			_, err := s.s.GetSupportedVersion(s.actor(bob, "b").ctx)
			require.NoError(s.t, err)
		}, want: []story.Outcome{story.TimedOut},
			said: []string{"no call came for 30m0s after GetShareMapping: the Message Sequence Timer ran out, and the agent deletes the set with its " +
				"snapshots and shares; RecoveryCompleteShadowCopySet, which stops the timer, had not been called"}},
		{name: "another client", act: func(s *stage) {
			s.actor(alice, "a").to(story.Added, "share")
			time.Sleep(5 * time.Second)
			b := s.actor(bob, "b")
			s.status(fsrvp.ErrShadowCopySetInProgress, s.s.SetContext(b.ctx, fsrvp.ContextBackup))
		}, want: []story.Outcome{story.Underway, story.Refused}, verdict: "underway when the recording ends, Added",
			said: []string{"the client 10.0.0.1 (a) has set "}},
		{name: "another client's context", act: func(s *stage) {
			s.actor(alice, "a").to(story.None)
			s.status(fsrvp.ErrShadowCopySetInProgress, s.s.SetContext(s.actor(bob, "b").ctx, fsrvp.ContextBackup))
		}, want: []story.Outcome{story.Refused},
			verdict: "refused: SetContext failed with FSRVP_E_SHADOW_COPY_SET_IN_PROGRESS: the context of the client 10.0.0.1 is set: " +
				"one set at a time is made on a server (MS-FSRVP 3.1.4.2)",
			said: []string{"the context of the client 10.0.0.1 is set"}},
		{name: "refused, then served", act: func(s *stage) {
			a := s.actor(alice, "a").to(story.Started)
			b := s.actor(bob, "b")
			s.status(fsrvp.ErrShadowCopySetInProgress, s.s.SetContext(b.ctx, fsrvp.ContextBackup))
			require.NoError(s.t, s.s.AbortShadowCopySet(a.ctx, a.set))
			b.to(story.Recovered, "share").release()
		}, want: []story.Outcome{story.Aborted, story.Released}, verdict: "aborted by the client",
			said: []string{"the client 10.0.0.1 (a) has set"}},
		{name: "two jobs of one host", act: func(s *stage) {
			one := s.actor(alice, "one").to(story.Committed, "share")
			time.Sleep(time.Second)
			s.actor(alice, "two").to(story.Recovered, "other").release()
			s.status(fsrvp.ErrInvalidArg, s.s.ExposeShadowCopySet(one.ctx, one.set, wait))
		}, want: []story.Outcome{story.Displaced, story.Released},
			said: []string{"a SetContext came from the client's own address 10.0.0.1 (two) while the set was Committed: the agent takes it for " +
				"a client that starts over, and deletes the unfinished set", "the set was gone: another SetContext had deleted it"}},
		{name: "wrong state", act: func(s *stage) {
			a := s.actor(alice, "a").to(story.Started)
			s.status(fsrvp.ErrBadState, s.s.PrepareShadowCopySet(a.ctx, a.set, wait))
			s.status(fsrvp.ErrBadState, s.s.ExposeShadowCopySet(a.ctx, a.set, wait))
			require.NoError(s.t, a.add("share"))
			s.status(fsrvp.ErrNotExposed, a.mapping(0))
			require.NoError(s.t, s.s.AbortShadowCopySet(a.ctx, a.set))
		}, want: []story.Outcome{story.Aborted},
			verdict: "aborted by the client: PrepareShadowCopySet failed with FSRVP_E_BAD_STATE: the set is Started, and the method wants one " +
				"that is Added (MS-FSRVP 3.1.4.13)",
			said: []string{"the set is Started, and the method wants one that is Added",
				"the set is Started, and the method wants one that is Committed",
				"the set is not exposed yet"}},
		{name: "abort of a recovered set", act: func(s *stage) {
			a := s.actor(alice, "a").to(story.Recovered, "share")
			s.status(fsrvp.ErrBadState, s.s.AbortShadowCopySet(a.ctx, a.set))
		}, want: []story.Outcome{story.Kept}, said: []string{"the set is Recovered: a recovered set cannot be aborted"}},
		{name: "abort after a failure", act: func(s *stage) {
			a := s.actor(alice, "a").to(story.Added, "share")
			s.status(fsrvp.ErrNotSupported, a.add("plain"))
			s.status(fsrvp.ErrObjectAlreadyExists, a.add("share"))
			require.NoError(s.t, s.s.AbortShadowCopySet(a.ctx, a.set))
		}, want: []story.Outcome{story.Aborted},
			verdict: `aborted by the client: AddToShadowCopySet failed with FSRVP_E_NOT_SUPPORTED: the server can make no shadow copies of the volume ` +
				`that \\fs1\plain is on (MS-FSRVP 3.1.4.4)`,
			said: []string{`volume that \\fs1\plain is on`,
				`\\fs1\share, or another share of its volume, is in the set already`}},
		{name: "no context", act: func(s *stage) {
			a := s.actor(alice, "a").to(story.Recovered, "share")
			_, err := s.s.StartShadowCopySet(a.ctx, fsrvp.NewSetID())
			s.status(fsrvp.ErrBadState, err)
		}, want: []story.Outcome{story.Kept, story.Refused},
			said: []string{"no context is set: RecoveryCompleteShadowCopySet has reset it, and SetContext comes first"}},
		{name: "nobody", act: func(s *stage) {
			a := s.actorWith(alice, "nobody1")
			s.status(fsrvp.ErrAccessDenied, s.s.SetContext(a.ctx, fsrvp.ContextBackup))
		}, want: []story.Outcome{story.Refused},
			verdict: "refused: SetContext failed with E_ACCESSDENIED: nobody1 may not do this: the methods are for members of the server's " +
				"Administrators and Backup Operators (MS-FSRVP 3.1.4)",
			said: []string{"nobody1 may not do this"}},
		{name: "slow snapshots", act: func(s *stage) {
			a := s.actor(alice, "a").to(story.Added, "share")
			require.NoError(s.t, s.memory.Delay(fsrvp.OpCommitShadowCopySet, 90*time.Second))
			require.NoError(s.t, s.s.PrepareShadowCopySet(a.ctx, a.set, wait))
			s.status(fsrvp.ErrTimeout, s.s.CommitShadowCopySet(a.ctx, a.set, wait))
			require.NoError(s.t, s.s.CommitShadowCopySet(a.ctx, a.set, wait))
			require.NoError(s.t, s.s.ExposeShadowCopySet(a.ctx, a.set, wait))
			require.NoError(s.t, s.s.RecoveryCompleteShadowCopySet(a.ctx, a.set))
			a.release()
		}, want: []story.Outcome{story.Released}, said: []string{"the snapshots were not finished within the 1m0s that the client gave"}},
		{name: "contexts", act: func(s *stage) {
			a := s.actor(alice, "a")
			s.status(fsrvp.ErrUnsupportedContext, s.s.SetContext(a.ctx,
				fsrvp.AttrAutoRecovery|fsrvp.AttrNoAutoRecovery))
			s.status(fsrvp.ErrUnsupportedContext, s.s.SetContext(a.ctx, 0x1234))
		}, want: []story.Outcome{story.Refused},
			said: []string{"AUTO_RECOVERY and NO_AUTO_RECOVERY exclude each other",
				"the server does not make shadow copies in the context"}},
		{name: "restart", act: func(s *stage) {
			// The agent forgets the set between two calls, which no call of the recording shows.
			a := s.actor(alice, "a").to(story.Added, "share")
			calls := s.file.Len()
			require.NoError(s.t, s.s.AbortShadowCopySet(a.ctx, a.set))
			s.file.Truncate(calls)
			time.Sleep(time.Second)
			s.status(fsrvp.ErrInvalidArg, s.s.CommitShadowCopySet(a.ctx, a.set, wait))
		}, want: []story.Outcome{story.Lost},
			said: []string{"the server had no set of this id any more, though nothing in the recording has ended it: its Message Sequence Timer ran " +
				"out earlier than 1s after AddToShadowCopySet (the standard has 30m0s), it was restarted", "the set was gone"}},
		{name: "ids", act: func(s *stage) {
			a := s.actor(alice, "a").to(story.Exposed, "share")
			_, err := s.s.GetShareMapping(a.ctx, fsrvp.NewCopyID(), a.set, a.shares[0], 1)
			s.status(fsrvp.ErrInvalidArg, err)
			_, err = s.s.GetShareMapping(a.ctx, a.copies[0], a.set, `\\fs1\other`, 1)
			s.status(fsrvp.ErrInvalidArg, err)
			_, err = s.s.GetShareMapping(a.ctx, fsrvp.CopyID{}, a.set, a.shares[0], 1)
			s.status(fsrvp.ErrInvalidArg, err)
		}, want: []story.Outcome{story.Underway},
			said: []string{"the set has no shadow copy", `\\fs1\other was not added to the set`,
				"an id in it is null"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sets := play(t, tt.act)
			var got []story.Outcome
			var said []string
			for _, s := range sets {
				got = append(got, s.Outcome)
				for _, e := range s.Events {
					if e.Text != "" {
						said = append(said, e.Text)
					}
				}
			}
			require.Equal(t, tt.want, got, "%s", said)
			if tt.verdict != "" {
				require.Equal(t, tt.verdict, sets[0].Verdict())
			}
			require.Len(t, said, len(tt.said), "%q", said)
			for i, want := range tt.said {
				require.Contains(t, said[i], want)
			}
			for _, s := range sets {
				require.True(t, strings.HasSuffix(string(s.AppendText(nil)), "\n"))
				require.NotContains(t, string(s.AppendLine(nil)), "\n")
			}
		})
	}
}
