package fsrvptest_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A mutant is a server that does one thing wrong.
type mutant struct {
	fsrvp.ServiceFunc
	service fsrvp.Service
	status  func(op fsrvp.Opnum, err error) error // changes what methods answer
	lies    bool                                  // results are wrong
}

func (m *mutant) call(ctx context.Context, req fsrvp.Message) (fsrvp.Response, error) {
	resp, err := fsrvp.Serve(ctx, m.service, req)
	if m.lies {
		switch r := resp.(type) {
		case *fsrvp.GetSupportedVersionResponse:
			r.MaxVersion++
		case *fsrvp.IsPathSupportedResponse:
			r.OwnerMachineName = ndr.NullString{}
		case *fsrvp.IsPathShadowCopiedResponse:
			r.ShadowCopyCompatibility = 4
		case *fsrvp.GetShareMappingResponse:
			if a := r.ShareMapping1; a != nil {
				a.ShadowCopySetID, a.ShadowCopyID = fsrvp.NewSetID(), fsrvp.NewCopyID()
				a.ShadowCopyShareName.String = "lie" + a.ShadowCopyShareName.String[:1]
				a.CreationTimestamp += 1e7
			}
		}
	}
	if m.status != nil {
		err = m.status(req.Opnum(), err)
		resp.SetStatus(fsrvp.StatusOf(err))
	}
	return resp, err
}

// HangUp passes on that a case has ended, or that the server was restarted.
func (m *mutant) HangUp() {
	if l, ok := m.service.(interface{ HangUp() }); ok {
		l.HangUp()
	}
}

// mutate returns s with one thing wrong, or nothing yet.
func mutate(s fsrvp.Service, status func(op fsrvp.Opnum, err error) error) *mutant {
	m := &mutant{service: s, status: status}
	m.ServiceFunc = m.call
	return m
}

// breeds are the mutants, by what they do wrong.
var breeds = map[string]func(t *fsrvptest.Target, wrap func(change func(*mutant))){
	"answers every error by another": func(_ *fsrvptest.Target, wrap func(func(*mutant))) {
		wrap(func(m *mutant) {
			m.status = func(_ fsrvp.Opnum, err error) error {
				if err != nil {
					return fsrvp.ErrOutOfMemory
				}
				return nil
			}
		})
	},
	"answers errors by success": func(_ *fsrvptest.Target, wrap func(func(*mutant))) {
		wrap(func(m *mutant) { m.status = func(fsrvp.Opnum, error) error { return nil } })
	},
	"lies": func(_ *fsrvptest.Target, wrap func(func(*mutant))) { wrap(func(m *mutant) { m.lies = true }) },
	"forgets a client that has not begun a call for half the time": func(t *fsrvptest.Target, wrap func(func(*mutant))) {
		last := time.Now()
		wrap(func(m *mutant) {
			m.status = func(_ fsrvp.Opnum, err error) error {
				silent := time.Since(last) > t.SequenceTimeout/2
				last = time.Now()
				if silent {
					return fsrvp.ErrBadID
				}
				return err
			}
		})
	},
	"has files that stay as they are": func(t *fsrvptest.Target, _ func(func(*mutant))) {
		t.Files = deafFiles{t.Files}
	},
	"has no rights on what it exposes": func(t *fsrvptest.Target, _ func(func(*mutant))) { t.Rights = noRights{} },
	"leaves something of everything": func(t *fsrvptest.Target, _ func(func(*mutant))) {
		n := 0
		t.Held = func(context.Context) (int, int, error) { n++; return n, n, nil }
	},
	"deletes every set when it starts": func(t *fsrvptest.Target, _ func(func(*mutant))) {
		restart := t.Restart
		restarted := false
		t.Restart = func(ctx context.Context) error {
			restarted = true
			return restart(ctx)
		}
		t.Client = mutate(t.Client, func(op fsrvp.Opnum, err error) error {
			if restarted && (op == fsrvp.OpDeleteShareMapping || op == fsrvp.OpStartShadowCopySet ||
				op == fsrvp.OpExposeShadowCopySet ||
				op == fsrvp.OpAbortShadowCopySet) {
				return fsrvp.ErrObjectNotFound
			}
			return err
		})
	},
}

// TestLateDeletionFails: what a method deletes must be gone when it answers, and not a little
// later.
func TestLateDeletionFails(t *testing.T) {
	whole := direct(t, agent.Config{})
	for _, c := range fsrvptest.Cases() {
		var ends fsrvp.Opnum
		switch c.Name {
		case "Abort/Deletes/Exposed":
			ends = fsrvp.OpAbortShadowCopySet
		case "Delete/LeavesNothing":
			ends = fsrvp.OpDeleteShareMapping
		case "SetContext/StartsOver/Exposed":
			ends = fsrvp.OpSetContext
		default:
			continue
		}
		target, late := whole, 0
		target.Client = mutate(whole.Client, func(op fsrvp.Opnum, err error) error {
			if op == ends {
				late = 1 // for the next one who counts
			}
			return err
		})
		target.Held = func(ctx context.Context) (int, int, error) {
			snapshots, shares, err := whole.Held(ctx)
			snapshots, late = snapshots+late, 0
			return snapshots, shares, err
		}
		res := c.Run(t.Context(), &target)
		require.Equal(t, fsrvptest.Failed, res.Verdict, c.Name)
		require.Contains(t, res.Reason, "1 snapshots are left", c.Name)
		require.Equal(t, fsrvptest.Passed, c.Run(t.Context(), &whole).Verdict, c.Name)
	}
}

type deafFiles struct{ fsrvptest.Files }

func (f deafFiles) WriteFile(string, string, []byte) error { return nil }

type noRights struct{}

func (noRights) Mark(context.Context, string, string) error      { return nil }
func (noRights) Unmark(context.Context, string, string) error    { return nil }
func (noRights) Marks(context.Context, string) ([]string, error) { return nil, nil }

// TestEveryCaseCanFail runs every case on servers that do one thing wrong, and demands that each
// case finds one of them. A case about a method that must succeed must find the server where it
// does not.
func TestEveryCaseCanFail(t *testing.T) {
	const timeout = 180 * time.Second
	cfg := agent.Config{Timers: agent.Timers{Add: timeout, Prepare: timeout, GetShareMapping: timeout}}
	synctest.Test(t, func(t *testing.T) {
		whole := direct(t, cfg)
		whole.SequenceTimeout, whole.CaseTimeout = timeout, 10*time.Hour
		whole.Levels = map[dcerpc.AuthLevel]fsrvp.Service{} // who are denied everything, as the unprivileged client is
		for level := dcerpc.LevelInsecureNone; level < dcerpc.LevelIntegrity; level++ {
			whole.Levels[level] = whole.Unprivileged
		}
		found, byFailure := 0, 0
		for _, c := range fsrvptest.Cases() {
			right := whole // a Target remembers what a run has left
			if c.Run(context.Background(), &right).Verdict == fsrvptest.NotApplicable {
				continue
			}
			switch {
			case finds(t, c, &whole):
				found++
			case failsWithout(c, &whole):
				byFailure++
			default:
				t.Errorf("%s finds nothing", c.Name)
			}
			require.NoError(t, wipe(context.Background(), &whole))
		}
		t.Logf("%d cases find a server that answers wrongly, %d more one that fails", found, byFailure)
	})
}

// finds reports whether a case fails on one of the breeds.
func finds(t *testing.T, c fsrvptest.Case, whole *fsrvptest.Target) bool {
	found := false
	for _, breed := range breeds {
		target := *whole
		breed(&target, func(change func(*mutant)) {
			for _, s := range []*fsrvp.Service{&target.Client, &target.Other, &target.SameHost, &target.Unprivileged} {
				m := mutate(*s, nil)
				change(m)
				*s = m
			}
			target.Levels = maps.Clone(whole.Levels)
			for level := range target.Levels {
				target.Levels[level] = target.Unprivileged
			}
		})
		res := c.Run(context.Background(), &target)
		found = found || res.Verdict == fsrvptest.Failed && !strings.HasPrefix(res.Reason, "clean-up")
		require.NoError(t, wipe(context.Background(), whole))
	}
	return found
}

// failsWithout reports whether a case fails on a server where the method that it is named by fails.
func failsWithout(c fsrvptest.Case, whole *fsrvptest.Target) bool {
	subject, _, _ := strings.Cut(c.Name, "/")
	broken := func(op fsrvp.Opnum, err error) error {
		if err == nil && (strings.HasPrefix(op.String(), subject) || subject == "smbtorture" ||
			subject == "FileServer") {
			return errors.New("broken")
		}
		return err
	}
	target := *whole
	target.Client, target.Other = mutate(whole.Client, broken), mutate(whole.Other, broken)
	return c.Run(context.Background(), &target).Verdict == fsrvptest.Failed
}
