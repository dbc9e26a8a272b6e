package replay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// as calls s as the backup operator from an address, within this process.
func as(s fsrvp.Service, address string) fsrvp.Service {
	return fsrvptest.As(s, dcerpc.Peer{
		Identity: dcerpc.Identity{Principal: "backup@EXAMPLE.TEST", Account: "backup",
			SIDs: []dcerpc.SID{dcerpc.SIDBuiltinBackupOperators}},
		Addr:     dcerpctest.Addr(address),
		AuthType: dcerpc.AuthKerberos,
		Level:    dcerpc.LevelPrivacy,
	})
}

// A walker makes calls at random, with ids that it was given and some that nobody has.
type walker struct {
	*rand.Rand
	clients []fsrvp.Service
	sets    []fsrvp.SetID
	copies  []fsrvp.CopyID
}

func pick[T any](w *walker, from []T) T { return from[w.IntN(len(from))] }

// recent prefers what was given last.
func recent[T any](w *walker, from []T) T {
	if w.IntN(4) > 0 {
		return from[len(from)-1]
	}
	return pick(w, from)
}

// step makes one call. What comes of it is for the recorder.
func (w *walker) step(ctx context.Context) {
	c := w.clients[0]
	if w.IntN(10) == 0 {
		c = pick(w, w.clients)
	}
	share := pick(w, []string{`\\fs1\data`, `\\fs1\logs\`, `\\FS1\VMS$`, `\\fs1.example.test\data`, `\\fs1\none`,
		`\\other\data`, `none`})
	set, id := recent(w, w.sets), recent(w, w.copies)
	wait := time.Minute
	switch w.IntN(16) {
	case 0:
		_ = c.SetContext(ctx, pick(w, []fsrvp.ContextValue{fsrvp.ContextBackup,
			fsrvp.ContextNASRollback | fsrvp.AttrAutoRecovery, 0x400002}))
	case 1, 2:
		if s, err := c.StartShadowCopySet(ctx, fsrvp.NewSetID()); err == nil {
			w.sets = append(w.sets, s)
		}
	case 3, 4, 5:
		if s, err := c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, share); err == nil {
			w.copies = append(w.copies, s)
		}
	case 6:
		_ = c.PrepareShadowCopySet(ctx, set, wait)
	case 7, 8:
		_ = c.CommitShadowCopySet(ctx, set, wait)
	case 9:
		_ = c.ExposeShadowCopySet(ctx, set, wait)
	case 10:
		_, _ = c.GetShareMapping(ctx, id, set, share, uint32(1+w.IntN(8)/7))
	case 11:
		_ = c.RecoveryCompleteShadowCopySet(ctx, set)
	case 12:
		if w.IntN(3) == 0 {
			_ = c.AbortShadowCopySet(ctx, set)
		}
	case 13:
		_ = c.DeleteShareMapping(ctx, set, id, share)
	case 14:
		_, _ = c.IsPathSupported(ctx, share)
	case 15:
		_, _ = c.IsPathShadowCopied(ctx, share)
	}
}

// TestRandomCalls plays what clients did at random to another agent, and to the clients again.
func TestRandomCalls(t *testing.T) {
	succeeded := map[fsrvp.Opnum]int{}
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			first := newFileServer(t)
			w := &walker{
				Rand:    rand.New(rand.NewPCG(seed, 0)),
				clients: []fsrvp.Service{as(first.recorder, "a"), as(first.recorder, "b")},
				sets:    []fsrvp.SetID{{}, {1}}, copies: []fsrvp.CopyID{{}, {2}},
			}
			_ = w.clients[0].SetContext(t.Context(), fsrvp.ContextBackup)
			for range 150 {
				w.step(t.Context())
			}
			recording := first.recording(t)
			for _, e := range recording {
				if e.Succeeded() {
					succeeded[e.Opnum()]++
				}
			}

			second := newFileServer(t)
			report, err := Run(t.Context(), recording, &Config{Dial: func(_ context.Context,
				c transcript.Connection) (fsrvp.Service, error) {
				return as(second.agent, c.Client), nil
			}})
			require.NoError(t, err)
			require.Empty(t, lines(report.Differences))
			second.requireClean(t)

			s := newService(t, recording, nil)
			report, err = Run(t.Context(), recording, &Config{Service: s, Keep: true})
			require.NoError(t, err)
			require.Empty(t, lines(report.Differences))
			require.Zero(t, s.Departures())
			require.Empty(t, s.Unasked())
		})
	}
	for op := fsrvp.OpSetContext; op.Valid(); op++ {
		require.GreaterOrEqual(t, succeeded[op], 3, "%v succeeds too seldom for the test to mean anything", op)
	}
}
