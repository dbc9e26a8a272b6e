package provider

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A recorder notes which hooks are called, and how many run at once.
type recorder struct {
	mu    sync.Mutex
	calls []string
}

func (r *recorder) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
}

func (r *recorder) writer(name string, group int) *Writer {
	return &Writer{
		Name:   name,
		Group:  group,
		Freeze: func(context.Context) error { r.note("freeze %s", name); return nil },
		Thaw:   func(context.Context) error { r.note("thaw %s", name); return nil },
	}
}

func newTestRun(writers ...*Writer) *run {
	c, err := (&Config{Dial: func(context.Context, string) (Agent, error) { return nil, errInjected }}).withDefaults()
	if err != nil {
		panic(err)
	}
	return &run{Config: c, writers: writers}
}

func TestGroups(t *testing.T) {
	var rec recorder
	r := newTestRun(rec.writer("guest", 1), rec.writer("disk", 2), rec.writer("db", -1), rec.writer("guest", 1))
	require.NoError(t, r.freeze(t.Context()))
	require.NoError(t, r.thaw(t.Context()))
	require.Equal(t, "freeze db, freeze guest, freeze guest, freeze disk, thaw disk, thaw guest, thaw guest, thaw db",
		strings.Join(rec.calls, ", "))
}

// TestGroupAtOnce has writers of one group that wait for each other.
func TestGroupAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		meet := func(n int) func(context.Context) error {
			var wg sync.WaitGroup
			wg.Add(n)
			return func(context.Context) error { wg.Done(); wg.Wait(); return nil }
		}
		freeze, thaw := meet(3), meet(3)
		var ws []*Writer
		for i := range 3 {
			ws = append(ws, &Writer{Name: fmt.Sprint(i), Freeze: freeze, Thaw: thaw})
		}
		r := newTestRun(ws...)
		require.NoError(t, r.freeze(t.Context()))
		require.NoError(t, r.thaw(t.Context()))
	})
}

// TestGroupThatFails has later groups hear nothing, and all that were called be thawed.
func TestGroupThatFails(t *testing.T) {
	var rec recorder
	bad := rec.writer("bad", 1)
	bad.Freeze = func(context.Context) error { return errInjected }
	r := newTestRun(rec.writer("first", 0), bad, rec.writer("last", 2))
	require.ErrorIs(t, r.freeze(t.Context()), errInjected)
	require.NoError(t, r.thaw(t.Context()))
	require.Equal(t, "freeze first, thaw bad, thaw first", strings.Join(rec.calls, ", "))
}

// TestFreezeStopsBetweenGroups has the run end while the first group freezes.
func TestFreezeStopsBetweenGroups(t *testing.T) {
	var rec recorder
	ctx, cancel := context.WithCancelCause(t.Context())
	first := rec.writer("first", 0)
	first.Freeze = func(context.Context) error { cancel(errInjected); return nil }
	r := newTestRun(first, rec.writer("last", 2))
	require.ErrorIs(t, r.freeze(ctx), errInjected)
	require.NoError(t, r.thaw(ctx))
	require.Equal(t, "thaw first", strings.Join(rec.calls, ", "))
}

func TestThawIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name  string
			errs  []error
			calls int
			want  []error
		}{
			{"works", []error{nil}, 1, nil},
			{"works at last", []error{errInjected, errInjected, errInjected, nil}, 4, nil},
			{"never works", []error{errInjected}, 4, []error{errInjected, ErrStillFrozen}},
			{"thawed already", []error{errInjected, fmt.Errorf("at its limit: %w", ErrNotHeld)}, 2, []error{ErrNotHeld}},
		} {
			calls := 0
			w := &Writer{Name: "app", Thaw: func(context.Context) error {
				calls++
				return c.errs[min(calls, len(c.errs))-1]
			}}
			r := newTestRun(w)
			require.NoError(t, r.freeze(t.Context()))
			err := r.thaw(t.Context())
			require.Equal(t, c.calls, calls, c.name)
			for _, want := range c.want {
				require.ErrorIs(t, err, want, c.name)
			}
			if c.want == nil {
				require.NoError(t, err, c.name)
			}
			if !slices.Contains(c.want, ErrStillFrozen) {
				require.NotErrorIs(t, err, ErrStillFrozen, c.name)
			}
		}
	})
}

// TestThawDoesNotWaitForHungGroup has a Thaw that hangs for longer than others should be frozen.
func TestThawDoesNotWaitForHungGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var thawed time.Duration
		db := &Writer{Name: "db", Thaw: func(context.Context) error { thawed = time.Since(began); return nil }}
		hung := &Writer{Name: "hung", Group: 1,
			Thaw: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		r := newTestRun(hung, db)
		require.NoError(t, r.freeze(t.Context()))
		require.ErrorIs(t, r.thaw(t.Context()), ErrStillFrozen)
		require.Equal(t, thawPatience, thawed)
		require.Equal(t, time.Minute, time.Since(began), "the limit of the hung writer")
	})
}
