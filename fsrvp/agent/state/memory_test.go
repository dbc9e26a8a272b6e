package state_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state/statetest"
)

func TestMemory(t *testing.T) {
	statetest.Run(t, func(*testing.T) func(string) (state.Shared, error) {
		m := state.NewMemory(state.ID{})
		return func(member string) (state.Shared, error) { return m.Open(member, nil) }
	})
}

// TestMemoryLife has a member killed: what it still calls has no effect.
func TestMemoryLife(t *testing.T) {
	m := state.NewMemory(state.ID{})
	a, err := m.Open("a", nil)
	require.NoError(t, err)
	b, err := m.Open("b", nil)
	require.NoError(t, err)
	m.SetLife("b", state.Lost)
	l, err := a.Life(t.Context(), "b")
	require.NoError(t, err)
	require.Equal(t, state.Lost, l)
	require.NoError(t, b.Write(t.Context(), state.Change{Put: map[string][]byte{"x": []byte("1")}}),
		"a lost one may be alive")
	m.SetLife("b", state.Gone)
	require.ErrorIs(t, b.Write(t.Context(), state.Change{}), net.ErrClosed)
	_, err = b.Refresh(t.Context())
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = m.Open("b", nil)
	require.NoError(t, err)
	require.ErrorIs(t, b.Write(t.Context(), state.Change{}), net.ErrClosed, "another one has its name")
	require.Len(t, m.Records(), 1)
}

// TestMemoryFault has a write fail before its effect, and after it.
func TestMemoryFault(t *testing.T) {
	broken := errors.New("broken")
	m := state.NewMemory(state.ID{})
	var fail state.Point
	s, err := m.Open("a", func(_ context.Context, p state.Point) error {
		if p == fail {
			return broken
		}
		return nil
	})
	require.NoError(t, err)
	for _, done := range []bool{false, true} {
		fail = state.Point{Method: "Write", Done: done}
		require.ErrorIs(t, s.Write(t.Context(), state.Change{Put: map[string][]byte{"x": []byte("1")}}), broken)
		_, there := m.Records()["x"]
		require.Equal(t, done, there)
	}
}

func TestJoined(t *testing.T) {
	c := state.Joined(
		state.Change{Put: map[string][]byte{"a": []byte("1"), "b": []byte("1")}},
		state.Change{Drop: []string{"a", "c"}},
		state.Change{Drop: []string{"b"}, Put: map[string][]byte{"c": []byte("3"), "b": []byte("3")}},
	)
	require.Equal(t, state.Change{Put: map[string][]byte{"b": []byte("3"), "c": []byte("3")}, Drop: []string{"a"}}, c)
}
