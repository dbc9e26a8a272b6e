package replay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// TestRunLeavesNothing stops a replay before each of its calls, and in each.
func TestRunLeavesNothing(t *testing.T) {
	recording := recorded(t, "read-write")
	for _, after := range []bool{false, true} {
		for stop := range recording {
			fs := newFileServer(t)
			dials := 0
			report, err := Run(t.Context(), recording, &Config{Dial: func(ctx context.Context,
				c transcript.Connection) (fsrvp.Service, error) {
				dials++
				s, err := fs.dial(ctx, c)
				if err == nil && dials == 1 {
					s = newDying(s.(*fsrvp.Client), int64(stop), after)
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
	fsrvp.ServiceFunc
	client    *fsrvp.Client
	calls, at int64
	after     bool
}

func newDying(c *fsrvp.Client, at int64, after bool) *dying {
	d := &dying{client: c, at: at, after: after}
	d.ServiceFunc = d.call
	return d
}

// Close closes the connection, as the replay does with Services that can be closed.
func (d *dying) Close() error { return d.client.Close() }

// call makes a call, unless it is the one that breaks.
func (d *dying) call(ctx context.Context, req fsrvp.Message) (fsrvp.Response, error) {
	if req.Opnum() == fsrvp.OpAbortShadowCopySet { // the replay's own, to clean up
		return fsrvp.Serve(ctx, d.client, req)
	}
	d.calls++
	if d.calls-1 != d.at {
		return fsrvp.Serve(ctx, d.client, req)
	}
	if d.after {
		_, _ = fsrvp.Serve(ctx, d.client, req)
	}
	return nil, errors.Join(net.ErrClosed, d.client.Close())
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
	recording := []*transcript.Exchange{exchange(0, 0, &fsrvp.StartShadowCopySetRequest{},
		&fsrvp.StartShadowCopySetResponse{ShadowCopySetID: fsrvp.SetID{1}})}
	report, err := Run(t.Context(), recording, &Config{Service: s})
	require.ErrorIs(t, err, fsrvp.ErrFail)
	require.ErrorContains(t, err, set.String())
	require.Equal(t, []fsrvp.SetID{set}, report.Left)
	require.Equal(t, 1, report.Same)
}

// A lying server says that it has aborted a set that is committed, and has not, as Samba's does.
type lying struct {
	*fsrvp.Client
	committed bool
}

func (l *lying) CommitShadowCopySet(ctx context.Context, set fsrvp.SetID, wait time.Duration) error {
	l.committed = true
	return l.Client.CommitShadowCopySet(ctx, set, wait)
}

func (l *lying) AbortShadowCopySet(ctx context.Context, set fsrvp.SetID) error {
	if l.committed {
		return nil
	}
	return l.Client.AbortShadowCopySet(ctx, set)
}

// TestRunLyingServer ends recordings after a commit and after an exposure, with and without an
// abort.
func TestRunLyingServer(t *testing.T) {
	whole := recorded(t, "two shares of a volume")
	for _, last := range []fsrvp.Opnum{fsrvp.OpAddToShadowCopySet, fsrvp.OpCommitShadowCopySet,
		fsrvp.OpExposeShadowCopySet} {
		for _, abort := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, abort %v", last, abort), func(t *testing.T) {
				var recording []*transcript.Exchange
				for i, e := range whole {
					if e.Opnum() == last {
						recording = whole[: i+1 : i+1]
					}
				}
				if abort {
					end := recording[len(recording)-1]
					req := &fsrvp.AbortShadowCopySetRequest{ShadowCopySetID: transcript.SetOf(end.Request)}
					recording = append(recording, &transcript.Exchange{Time: end.End(), Connection: end.Connection,
						Request: req, Response: &fsrvp.AbortShadowCopySetResponse{}})
				}
				fs := newFileServer(t)
				s := &lying{Client: fs.client(t, "a")}
				report, err := Run(t.Context(), recording, &Config{Service: s})
				require.NoError(t, err)
				require.Empty(t, lines(report.Differences))
				fs.requireClean(t)
			})
		}
	}
}

// TestRunResetsContext has clients that set a context and start no set.
func TestRunResetsContext(t *testing.T) {
	set := func(client string) *transcript.Exchange {
		e := exchange(0, 0, &fsrvp.SetContextRequest{Context: fsrvp.ContextAppRollback}, &fsrvp.SetContextResponse{})
		e.Client = client
		return e
	}
	fs := newFileServer(t)
	report, err := Run(t.Context(), []*transcript.Exchange{set("10.0.0.1:1"), set("10.0.0.1:2")},
		&Config{Service: fs.client(t, "a")})
	require.NoError(t, err)
	require.Equal(t, 2, report.Same)
	require.NoError(t, fs.client(t, "b").SetContext(t.Context(), fsrvp.ContextBackup))

	// Those of another client are let alone.
	report, err = Run(t.Context(), []*transcript.Exchange{set("10.0.0.1:1")}, &Config{Service: fs.client(t, "c")})
	require.NoError(t, err)
	require.Len(t, report.Differences, 1)
	require.ErrorIs(t, fs.client(t, "d").SetContext(t.Context(), fsrvp.ContextBackup), fsrvp.ErrShadowCopySetInProgress)

	// Of two that a recording has, one may be in doubt.
	errBroken := errors.New("broken")
	s := &fake{context: func(fsrvp.ContextValue) error { return errBroken }}
	_, err = Run(t.Context(), []*transcript.Exchange{set("10.0.0.1:1")}, &Config{Service: s})
	require.ErrorIs(t, err, errBroken)
	require.ErrorContains(t, err, "resetting the context")
}

// TestRunTouchesNothingElse plays a recording to the server that it is of, which has still got what
// was recorded.
func TestRunTouchesNothingElse(t *testing.T) {
	fs := newFileServer(t)
	c := fs.client(t, "a")
	set, _ := copied(t, c, fsrvp.ContextNASRollback, `\\fs1\data`)
	require.NoError(t, c.RecoveryCompleteShadowCopySet(t.Context(), set))
	copies := fs.agent.Table()
	id := copies[0].Copies[0].ID
	recording := fs.recording(t)
	last := recording[len(recording)-1]
	// The recording goes on with what the server has not seen yet.
	recording = append(recording, &transcript.Exchange{
		Time: last.End(), Connection: last.Connection,
		Request:  &fsrvp.DeleteShareMappingRequest{ShadowCopySetID: set, ShadowCopyID: id, ShareName: `\\fs1\data`},
		Response: &fsrvp.DeleteShareMappingResponse{},
	})

	report, err := Run(t.Context(), recording, &Config{Dial: fs.dial})
	require.NoError(t, err)
	require.Empty(t, lines(report.Differences))
	require.Equal(t, copies, fs.agent.Table())

	// The beginning is missing, so that the set is a stranger.
	report, err = Run(t.Context(), recording[len(recording)-2:], &Config{Dial: fs.dial})
	require.NoError(t, err)
	require.Equal(t, []string{
		`call 1 RecoveryCompleteShadowCopySet: Return: recorded 0x00000000 ZERO, now 0x80070057 E_INVALIDARG`,
		`call 2 DeleteShareMapping \\fs1\data: Return: recorded 0x00000000 ZERO, now 0x80042308 FSRVP_E_OBJECT_NOT_FOUND`,
	}, lines(report.Differences))
	require.Equal(t, copies, fs.agent.Table())
}
