// Package statetest checks that a store for the agents of a cluster satisfies the contract of
// [state.Shared].
package statetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

// Run runs the checks on new tables. Each call of newTable returns a function that opens one table
// for a named member, and fails the test if it cannot. Run closes the tables that it opens.
func Run(t *testing.T, newTable func(t *testing.T) (open func(member string) (state.Shared, error))) {
	type opener = func(member string) state.Shared
	run := func(name string, f func(t *testing.T, open opener)) {
		t.Run(name, func(t *testing.T) {
			open := newTable(t)
			f(t, func(member string) state.Shared {
				s, err := open(member)
				require.NoError(t, err)
				t.Cleanup(func() { _ = s.Close() })
				_, err = s.Load(t.Context())
				require.NoError(t, err)
				return s
			})
		})
	}
	run("OneTable", func(t *testing.T, open opener) { oneTable(t, open("a"), open("b")) })
	run("Conflict", func(t *testing.T, open opener) { conflict(t, open("a"), open("b")) })
	run("Wait", func(t *testing.T, open opener) { wait(t, open("a"), open("b")) })
	run("Life", func(t *testing.T, open opener) { life(t, open("a"), open("b")) })
	run("Again", func(t *testing.T, open opener) { again(t, open) })
	run("Counters", func(t *testing.T, open opener) { counters(t, open) })
	t.Run("NameInUse", func(t *testing.T) {
		open := newTable(t)
		s, err := open("a")
		require.NoError(t, err)
		_, err = open("a")
		require.ErrorIs(t, err, state.ErrInUse)
		require.NoError(t, s.Close())
		s, err = open("a")
		require.NoError(t, err)
		require.NoError(t, s.Close())
	})
}

func put(kv ...string) state.Change {
	c := state.Change{Put: map[string][]byte{}}
	for i := 0; i < len(kv); i += 2 {
		c.Put[kv[i]] = []byte(kv[i+1])
	}
	return c
}

// refresh requires what the next Refresh of a store takes in.
func refresh(t *testing.T, s state.Shared, want map[string]string, dropped ...string) {
	t.Helper()
	c, err := s.Refresh(t.Context())
	require.NoError(t, err)
	have := map[string]string{}
	for k, v := range c.Put {
		have[k] = string(v)
	}
	if want == nil {
		want = map[string]string{}
	}
	require.Equal(t, want, have)
	require.ElementsMatch(t, dropped, c.Drop)
}

func oneTable(t *testing.T, a, b state.Shared) {
	require.Equal(t, a.ID(), b.ID())
	require.NotEqual(t, state.ID{}, a.ID())
	require.Equal(t, "a", a.Member())
	require.NoError(t, a.Write(t.Context(), put("x", "1", "y", "2")))
	require.NoError(t, a.Write(t.Context(), state.Change{Drop: []string{"x"}, Put: map[string][]byte{"z": {}}}))
	refresh(t, a, nil) // its own writes are no news
	refresh(t, b, map[string]string{"y": "2", "z": ""}, "x")
	require.Equal(t, a.Sequence(), b.Sequence())
	before := b.Sequence()
	require.NoError(t, b.Write(t.Context(), put("x", "3")))
	require.Greater(t, b.Sequence(), before)
	refresh(t, a, map[string]string{"x": "3"})
	records, err := a.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string][]byte{"x": []byte("3"), "y": []byte("2"), "z": {}}, records)
}

func conflict(t *testing.T, a, b state.Shared) {
	require.NoError(t, a.Write(t.Context(), put("x", "a")))
	before := b.Sequence()
	for range 2 { // a conflict is no Refresh
		require.ErrorIs(t, b.Write(t.Context(), put("x", "b", "y", "b")), state.ErrConflict)
	}
	require.Equal(t, before, b.Sequence())
	refresh(t, b, map[string]string{"x": "a"})
	require.NoError(t, b.Write(t.Context(), put("x", "b")))
	require.ErrorIs(t, a.Write(t.Context(), state.Change{Drop: []string{"x"}}), state.ErrConflict)
	refresh(t, a, map[string]string{"x": "b"})
}

func wait(t *testing.T, a, b state.Shared) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, b.Wait(ctx), context.DeadlineExceeded)
	woken := make(chan error, 1)
	go func() { woken <- b.Wait(t.Context()) }()
	require.NoError(t, a.Write(t.Context(), put("x", "1")))
	require.NoError(t, <-woken)
	require.NoError(t, b.Wait(t.Context()), "it is still behind")
	refresh(t, b, map[string]string{"x": "1"})
}

func life(t *testing.T, a, b state.Shared) {
	l, err := a.Life(t.Context(), "b")
	require.NoError(t, err)
	require.Equal(t, state.Present, l)
	require.NoError(t, b.Close())
	l, err = a.Life(t.Context(), "b")
	require.NoError(t, err)
	require.Equal(t, state.Gone, l, "it has closed the table")
	l, err = a.Life(t.Context(), "never")
	require.NoError(t, err)
	require.NotEqual(t, state.Lost, l, "of one that never was the cluster knows nothing")
}

// again checks what a member finds that comes back.
func again(t *testing.T, open func(string) state.Shared) {
	a := open("a")
	b := open("b")
	for i := range 700 { // a store may now and then begin anew
		require.NoError(t, a.Write(t.Context(), put("n", strconv.Itoa(i), fmt.Sprint("k", i%7), strconv.Itoa(i))))
	}
	sequence := a.Sequence()
	require.NoError(t, a.Close())
	require.ErrorIs(t, b.Write(t.Context(), put("n", "old")), state.ErrConflict, "however old the view is")
	c, err := b.Refresh(t.Context())
	require.NoError(t, err)
	require.Equal(t, "699", string(c.Put["n"]))
	require.Len(t, c.Put, 8)
	require.NoError(t, b.Write(t.Context(), put("n", "b")))
	a = open("a")
	require.Greater(t, a.Sequence(), sequence)
	records, err := a.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, "b", string(records["n"]))
	require.Len(t, records, 8)
}

// counters has several members add to one number at once: no addition is lost.
func counters(t *testing.T, open func(string) state.Shared) {
	const members, each = 4, 50
	var wg sync.WaitGroup
	stores := make([]state.Shared, members)
	for i := range stores {
		stores[i] = open(strconv.Itoa(i))
	}
	errs := make([]error, members)
	for i, s := range stores {
		wg.Go(func() { errs[i] = count(t.Context(), s, each) })
	}
	wg.Wait()
	require.Equal(t, make([]error, members), errs)
	records, err := stores[0].Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(members*each), string(records["n"]))
	require.Equal(t, []string{"n"}, slices.Collect(maps.Keys(records)))
}

func count(ctx context.Context, s state.Shared, times int) error {
	n := 0
	for range times {
		for {
			c, err := s.Refresh(ctx)
			if err != nil {
				return err
			}
			if v, ok := c.Put["n"]; ok {
				if n, err = strconv.Atoi(string(v)); err != nil {
					return err
				}
			}
			err = s.Write(ctx, put("n", strconv.Itoa(n+1)))
			if err == nil {
				n++
				break
			}
			if !errors.Is(err, state.ErrConflict) {
				return err
			}
		}
	}
	return nil
}
