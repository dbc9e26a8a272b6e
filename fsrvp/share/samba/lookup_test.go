//go:build unix

package samba

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// TestLookupAsksSeldom: what testparm said a moment ago is good for shares that were there, and for
// no others.
func TestLookupAsksSeldom(t *testing.T) {
	f, share := newFake(t, Config{})
	aged := func(age time.Duration) { f.seen.Store(&view{conf: f.seen.Load().conf, at: time.Now().Add(-age)}) }
	lookup := func(name string, want error, testparms int) {
		t.Helper()
		got, err := f.Lookup(t.Context(), name)
		require.ErrorIs(t, err, want)
		if want == nil {
			require.Equal(t, share.Path, got.Path)
		}
		require.Len(t, f.calls(), testparms)
	}
	aged(confAge)
	lookup("data", nil, 1)
	aged(-time.Hour) // asked in the future, so that no machine is too slow
	lookup("data", nil, 0)
	lookup("OPEN", nil, 0)
	lookup("absent", fsrvp.ErrObjectNotFound, 1)

	f.change(func(s *fakeState) { s.Text += "\n\n[new]\n\tpath = " + share.Path + "\n" })
	aged(-time.Hour)
	lookup("new", nil, 1)

	f.change(func(s *fakeState) { s.Text = "[global]\n\tregistry shares = Yes\n" })
	aged(confAge)
	lookup("data", fsrvp.ErrObjectNotFound, 1)

	f.fail(fakeFault{Command: "testparm", Mode: "before"})
	aged(-time.Hour)
	_, err := f.Lookup(t.Context(), "data")
	require.ErrorContains(t, err, "testparm")
}
