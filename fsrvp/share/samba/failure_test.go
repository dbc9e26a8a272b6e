//go:build unix

package samba

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// TestExposeFails has every command of Expose fail: nothing is left.
func TestExposeFails(t *testing.T) {
	f, share := newFake(t, Config{})
	for _, base := range []string{"data", "open"} {
		t.Run(base, func(t *testing.T) {
			f.t = t
			share.Name = base
			e := exposureOf(share, share.Path)
			before := f.state()
			f.eachFailure(e,
				func() { f.change(func(s *fakeState) { *s = before }) },
				func() error { return f.Expose(t.Context(), e) },
				func(command string) { require.Equal(t, before, f.state(), command) })
		})
	}
}

// TestUnexposeFails has every command of Unexpose fail: it can be called again, and the share is
// not half there.
func TestUnexposeFails(t *testing.T) {
	f, share := newFake(t, Config{})
	e := exposureOf(share, share.Path)
	before := f.state()
	require.NoError(t, f.Expose(t.Context(), e))
	exposed := f.state()
	f.eachFailure(e,
		func() { f.change(func(s *fakeState) { *s = exposed }) },
		func() error {
			err := f.Unexpose(t.Context(), backend.Owner{}, e.Name)
			if err == nil {
				require.Equal(t, before, f.state())
			}
			return err
		},
		func(command string) {
			if now := f.state(); len(now.Registry) > 0 {
				require.Equal(t, exposed, now, command)
			} else {
				require.Equal(t, before, now, command)
			}
		})
}

// TestSealFails has every command of SealShare fail: the share is as it was, or nobody can write to
// it.
func TestSealFails(t *testing.T) {
	f, share := newFake(t, Config{})
	e := exposureOf(share, share.Path)
	e.Writable = true
	require.NoError(t, f.Expose(t.Context(), e))
	exposed := f.state()
	f.eachFailure(e,
		func() { f.change(func(s *fakeState) { *s = exposed }) },
		func() error { return f.SealShare(t.Context(), e) },
		func(command string) {
			c, err := f.conf(t.Context())
			require.NoError(t, err)
			now := c.share(e.Name)
			require.True(t, !c.available(now) || c.isReadOnly(now) ||
				f.state().Registry[e.Name] == exposed.Registry[e.Name], command)
			require.Equal(t, strict, f.state().SDs[e.Name])
		})
}

// eachFailure runs act once for every command that it gives, that one failing: before it has done
// something, or after.
func (f *fakeSamba) eachFailure(e backend.Exposure, begin func(), act func() error, after func(command string)) {
	f.t.Helper()
	begin()
	f.calls()
	require.NoError(f.t, act())
	commands := f.commands(e)
	seen := map[string]int{}
	for _, command := range commands {
		for _, mode := range []string{"before", "after"} {
			begin()
			program, _, _ := strings.Cut(command, "FILE")
			f.fail(fakeFault{Command: strings.ReplaceAll(strings.ReplaceAll(program, "-- ", ""), "X", e.Name),
				Skip: seen[command], Mode: mode})
			f.calls()
			err := act()
			f.fail()
			if command != "net conf delshare X" || mode == "before" { // else the share is gone, and that was all
				require.ErrorContains(f.t, err, "luck", "%s, %s", command, mode)
			}
			after(command + ", " + mode)
			require.NoError(f.t, act(), "after %s, %s", command, mode)
		}
		seen[command]++
	}
}

// TestUndoFails leaves a half-made share, as a crash does, that nobody can use: Unexpose removes
// it, and another Expose completes it.
func TestUndoFails(t *testing.T) {
	f, share := newFake(t, Config{})
	e := exposureOf(share, share.Path)
	before := f.state()
	halfMade := func() {
		t.Helper()
		f.change(func(s *fakeState) { *s = before })
		f.fail(fakeFault{Command: "sharesec data@", Mode: "before"},
			fakeFault{Command: "net conf delshare", Mode: "before"})
		err := f.Expose(t.Context(), e)
		require.ErrorContains(t, err, "--setsddl")
		require.ErrorContains(t, err, "delshare")
		require.Contains(t, f.state().Registry[e.Name], "\tavailable = No\n")
	}
	halfMade()
	list, _, err := f.List(t.Context(), backend.Owner{})
	require.NoError(t, err)
	require.Equal(t, []backend.ExposedShare{{Name: e.Name, Partial: true}}, list)
	f.fail()
	require.NoError(t, f.Unexpose(t.Context(), backend.Owner{}, e.Name))
	require.Equal(t, before, f.state())

	halfMade()
	f.fail()
	require.NoError(t, f.Expose(t.Context(), e))
	require.Contains(t, f.state().Registry[e.Name], "\tavailable = Yes\n")
	require.Equal(t, strict, f.state().SDs[e.Name])

	halfMade()
	f.fail()
	f.change(func(s *fakeState) { s.Text = strings.Replace(s.Text, "[data]", "[renamed]", 1) })
	require.ErrorIs(t, f.Expose(t.Context(), e), fsrvp.ErrObjectNotFound)
	require.Empty(t, f.state().Registry, "its base share is gone")
}

// hangs makes a command hang, and returns what to wait with until it and its child are there, and
// until both are gone.
func (f *fakeSamba) hangs(command string) (begun, gone func()) {
	f.t.Helper()
	path := filepath.Join(f.home, "pipe")
	require.NoError(f.t, syscall.Mkfifo(path, 0o600))
	f.fail(fakeFault{Command: command, Mode: "hang"})
	var pipe *os.File
	return func() {
			var err error
			pipe, err = os.Open(path) // waits for the writer
			require.NoError(f.t, err)
			_, err = io.ReadFull(pipe, make([]byte, len("both hang")))
			require.NoError(f.t, err)
		}, func() {
			rest, err := io.ReadAll(pipe) // ends when nobody has it open
			require.NoError(f.t, errors.Join(err, pipe.Close()))
			require.Empty(f.t, rest)
			require.NoError(f.t, os.Remove(path))
			f.fail()
		}
}

// TestTimeout ends a program that hangs, and its child, when it takes too long or the caller has
// had enough.
func TestTimeout(t *testing.T) {
	f, share := newFake(t, Config{})
	e := exposureOf(share, share.Path)
	before := f.state()
	for _, command := range []string{"testparm", "sharesec data ", "net conf import", "sharesec data@",
		"net conf setparm"} {
		t.Run(command, func(t *testing.T) {
			f.t = t
			begun, gone := f.hangs(command)
			ctx, cancel := context.WithCancelCause(t.Context())
			enough := errors.New("enough")
			result := make(chan error, 1)
			go func() { result <- f.Expose(ctx, e) }()
			begun()
			cancel(enough)
			require.ErrorIs(t, <-result, enough)
			gone()
			require.Equal(t, before, f.state())
		})
	}
	f.hangs("testparm") // in opening the pipe, which nobody reads
	f.tools.timeout = 100 * time.Millisecond
	require.ErrorContains(t, f.Expose(t.Context(), e), "no end after 100ms")
}

// TestDisconnect waits for smbd to disconnect who uses a share.
func TestDisconnect(t *testing.T) {
	f, share := newFake(t, Config{})
	e := exposureOf(share, share.Path)
	user := strings.ToUpper(e.Name) + "  4711    10.99.0.3     Thu Jan  1 00:00:00 1970 UTC     -            -           "
	other := e.Name + "x 4711    10.99.0.3     Thu Jan  1 00:00:00 1970 UTC     -            -           "

	require.NoError(t, f.Expose(t.Context(), e))
	f.change(func(s *fakeState) { s.Users = []string{user, user, other} })
	f.calls()
	require.NoError(t, f.Unexpose(t.Context(), backend.Owner{}, e.Name))
	require.Equal(t, []string{
		testparm, "net conf delshare X", closeShare, reload, smbstatus, closeShare, smbstatus, closeShare, smbstatus,
	}, f.commands(e))

	f.disconnectWait = time.Millisecond
	require.NoError(t, f.Expose(t.Context(), e))
	f.change(func(s *fakeState) { s.Users = []string{user} })
	require.ErrorContains(t, f.Unexpose(t.Context(), backend.Owner{}, e.Name),
		"still in use after 1ms, by smbd processes 4711")
	require.ErrorContains(t, f.Unexpose(t.Context(), backend.Owner{}, e.Name), "still in use",
		"the share is gone, its user is not")
	f.change(func(s *fakeState) { s.Users = nil })
	require.NoError(t, f.Unexpose(t.Context(), backend.Owner{}, e.Name))

	f.disconnectWait = time.Hour
	f.change(func(s *fakeState) { s.Users = []string{user} })
	ctx, cancel := context.WithCancel(t.Context())
	f.tools.log = slog.New(onCommand{slog.DiscardHandler, "smbstatus", cancel})
	require.ErrorIs(t, f.Unexpose(ctx, backend.Owner{}, e.Name), context.Canceled)
}

// onCommand calls a function when a program has run.
type onCommand struct {
	slog.Handler
	program string
	do      func()
}

func (h onCommand) Enabled(context.Context, slog.Level) bool { return true }

func (h onCommand) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "program" && a.Value.String() == h.program {
			h.do()
		}
		return true
	})
	return nil
}

// TestParallel has many callers: what changes the registry does not mix.
func TestParallel(t *testing.T) {
	f, share := newFake(t, Config{})
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			e := exposureOf(share, share.Path)
			e.Writable = true
			for _, do := range []func() error{
				func() error { return f.Expose(t.Context(), e) },
				func() error { _, err := f.Lookup(t.Context(), "Data"); return err },
				func() error { return f.SealShare(t.Context(), e) },
				func() error { _, _, err := f.List(t.Context(), backend.Owner{}); return err },
				func() error { return f.Unexpose(t.Context(), backend.Owner{}, e.Name) },
			} {
				if err := do(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.Empty(t, f.state().Registry)
	require.Equal(t, map[string]string{"data": strict}, f.state().SDs)

	require.NoError(t, f.lock(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e := exposureOf(share, share.Path)
	require.ErrorIs(t, f.Expose(ctx, e), context.Canceled)
	require.ErrorIs(t, f.SealShare(ctx, e), context.Canceled)
	require.ErrorIs(t, f.Unexpose(ctx, backend.Owner{}, e.Name), context.Canceled)
	_, _, err := f.List(ctx, backend.Owner{})
	require.ErrorIs(t, err, context.Canceled)
	f.unlock()
}

// TestStrangeAnswers refuses what programs do not say in this world.
func TestStrangeAnswers(t *testing.T) {
	f, share := newFake(t, Config{})
	e := exposureOf(share, share.Path)
	e.Writable = true // or the write list would not be cloned
	good := f.state()
	for _, test := range []struct {
		name, why string
		how       func(*fakeState)
	}{
		{"no configuration", "no [global]", func(s *fakeState) { s.Text = "" }},
		{"a line break", "line break", func(s *fakeState) { s.Text = strings.Replace(s.Text, "alice\n", "alice\nadmin users = bob\n", 1) }},
		{"a control character", "control character", func(s *fakeState) { s.Text = strings.Replace(s.Text, "alice", "\x1b[31m", 1) }},
		{"no descriptor", "sharesec shows", func(s *fakeState) { s.SDs = map[string]string{"data": "security descriptor:"} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			f.t = t
			f.change(func(s *fakeState) {
				*s = good
				test.how(s)
			})
			require.ErrorContains(t, f.Expose(t.Context(), e), test.why)
			require.Empty(t, f.state().Registry)
		})
	}
}

// TestNewFails tells what is missing.
func TestNewFails(t *testing.T) {
	_, err := New(t.Context(), &Config{Programs: t.TempDir()})
	require.ErrorContains(t, err, "Samba's program net")
	f, _ := newFake(t, Config{})
	cfg := &Config{Programs: f.home}
	f.change(func(s *fakeState) { s.Text = "[global]\n" })
	_, err = New(t.Context(), cfg)
	require.ErrorContains(t, err, `"registry shares = yes"`)
	f.change(func(s *fakeState) { s.Text = "[global]\n\tregistry shares = Yes\n" })
	clustered, err := Clustered(t.Context(), cfg)
	require.NoError(t, err)
	require.False(t, clustered)
	f.change(func(s *fakeState) { s.Text = "[global]\n\tclustering = Yes\n\tregistry shares = Yes\n" })
	_, err = New(t.Context(), cfg)
	require.ErrorIs(t, err, ErrClustered)
	require.ErrorContains(t, err, `"clustering = yes"`)
	clustered, err = Clustered(t.Context(), cfg)
	require.NoError(t, err)
	require.True(t, clustered)
	_, err = New(t.Context(), &Config{Programs: f.home, Clustered: true})
	require.NoError(t, err)
	f.fail(fakeFault{Command: "testparm", Mode: "before"})
	_, err = Clustered(t.Context(), cfg)
	require.ErrorContains(t, err, "no such luck")
	f.change(func(s *fakeState) { s.Text = "[global]\n\tregistry shares = Yes\n" })
	f.fail(fakeFault{Command: "net conf listshares", Mode: "before"})
	_, err = New(t.Context(), cfg)
	require.ErrorContains(t, err, "no such luck")
	f.fail()
	_, err = New(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(f.home, "smbstatus")))
	_, err = New(t.Context(), cfg)
	require.ErrorContains(t, err, "Samba's program smbstatus")
}
