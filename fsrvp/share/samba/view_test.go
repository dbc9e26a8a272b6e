//go:build unix

package samba

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

func TestIncludes(t *testing.T) {
	for text, want := range map[string][]string{
		"":                           nil,
		"[global]\n\tinclude = /a\n": {"/a"},
		"include=/a b \n Include = /c\nIN CLUDE = /d": {"/a b", "/c", "/d"},
		"include = registry":                          nil,
		"# include = /%m\n;include = %U\ninclude":     nil,
		"comment = include = x\ninclude = \\\n /a\n":  {"/a"},
		"include = /a\r\n":                            {"/a"},
	} {
		got, ok := includes(text)
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"include = /etc/%m.conf", "include = relative", "config file = /x",
		"include = \\\n/%U", "include ="} {
		_, ok := includes(text)
		require.False(t, ok, text)
	}
}

func TestConfStamps(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(path(name), []byte(text), 0o600))
		old := time.Now().Add(-time.Minute)
		require.NoError(t, os.Chtimes(path(name), old, old))
	}
	write("smb.conf", "include = "+path("a")+"\ninclude = "+path("gone"))
	write("a", "include = "+path("smb.conf")+"\ninclude = "+path("b"))
	write("b", "x = y")
	list, ok := confStamps(path("smb.conf"))
	require.True(t, ok)
	var names []string
	for _, s := range list {
		names = append(names, filepath.Base(s.path))
	}
	require.Equal(t, []string{"smb.conf", "a", "gone", "b"}, names)
	v := &view{files: list}
	require.True(t, v.filesSame())
	changes := map[string]func(){
		"content of the same length": func() { write("b", "x = z"); require.NoError(t, os.Chtimes(path("b"), time.Now(), time.Now())) },
		"another file of the same time": func() {
			info, err := os.Stat(path("b"))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path("b.new"), []byte("x = z"), 0o600))
			require.NoError(t, os.Chtimes(path("b.new"), info.ModTime(), info.ModTime()))
			require.NoError(t, os.Rename(path("b.new"), path("b")))
		},
		"a file that was not there": func() { write("gone", "") },
		"a file that is gone":       func() { require.NoError(t, os.Remove(path("a"))) },
	}
	for what, change := range changes {
		write("a", "include = "+path("b"))
		write("b", "x = y")
		require.NoError(t, os.RemoveAll(path("gone")))
		list, ok := confStamps(path("smb.conf"))
		require.True(t, ok)
		v := &view{files: list}
		require.True(t, v.filesSame(), what)
		change()
		require.False(t, v.filesSame(), what)
	}
	write("a", "include = /etc/%m")
	_, ok = confStamps(path("smb.conf"))
	require.False(t, ok)
	write("a", strings.Repeat("x", maxConf+1))
	_, ok = confStamps(path("smb.conf"))
	require.False(t, ok)
	require.False(t, (*view)(nil).filesSame())
	require.False(t, (&view{}).filesSame())
}

// TestStampIsSettled is Git's rule: a file that was changed in the moment in which it was read may
// change again, and keep its time.
func TestStampIsSettled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	at := time.Date(2026, 1, 2, 3, 4, 5, 500e6, time.UTC)
	for age, want := range map[time.Duration]bool{0: false, 10 * time.Millisecond: false, 30 * time.Millisecond: true,
		-time.Hour: false, 500 * time.Millisecond: false, 3500 * time.Millisecond: true} {
		require.NoError(t, os.Chtimes(path, at.Add(-age), at.Add(-age)))
		s, err := stampOf(path)
		require.NoError(t, err)
		require.Equal(t, want, s.isSettled(at), age) // with no fraction of a second the clock may be a coarse one
	}
	s, err := stampOf(path + "x")
	require.NoError(t, err)
	require.True(t, s.isSettled(at))
}

func TestIsEveryone(t *testing.T) {
	for _, sddl := range []string{everyone, "D:(A;;FA;;;WD)", "D:(A;;0x1f01ff;;;S-1-1-0)", "D:(A;;2032127;;;WD)",
		" D:(A;;0x001f01ff;;;WD)\n", "D:(A;;CCDCLCSWRPWPDTLOCRSDRCWDWO;;;WD)"} {
		// the last one lacks SYNCHRONIZE
		require.Equal(t, sddl != "D:(A;;CCDCLCSWRPWPDTLOCRSDRCWDWO;;;WD)", isEveryone(sddl), sddl)
	}
	for _, sddl := range []string{
		"", "D:", "D:(D;;FA;;;WD)", "D:(A;;FR;;;WD)", "D:(A;;FA;;;BA)", "D:(A;;FA;;;WD)(A;;FA;;;WD)", "D:P(A;;FA;;;WD)", "D:(A;CI;FA;;;WD)",
		"O:BAD:(A;;FA;;;WD)", "D:(A;;FA;;;WD)S:", "D:(A;;GA;;;WD)", "D:(A;;;;;WD)", "x", "D:(A;;FA;;WD)", "D:(A;;FA;x;;WD)", "D:(A;;FA;;;WD", "D:(A;;FA;;;WD))",
	} {
		require.Equal(t, sddl == "D:(A;;FA;;;WD", isEveryone(sddl), sddl)
	}
}

func TestDecodeSDDL(t *testing.T) {
	a, err := decodeSDDL("O:BAG:BUD:P(D;;0x001f01ff;;;AN)(A;OICI;FRFX;;;S-1-5-21-1-2-3-1000)S:AI(AU;SA;FA;;;WD)")
	require.NoError(t, err)
	require.Equal(t, []string{"O:S-1-5-32-544", "G:S-1-5-32-545", "D:P", "D;;0x1f01ff;;;S-1-5-7",
		"A;OICI;0x1200a9;;;S-1-5-21-1-2-3-1000", "S:AI", "AU;SA;0x1f01ff;;;S-1-1-0"}, a)
	b, err := decodeSDDL("O:S-1-5-32-544G:S-1-5-32-545D:P(D;;FA;;;S-1-5-7)(A;OICI;0x1200a9;;;s-1-5-21-1-2-3-1000)S:AI(AU;SA;FA;;;WD)")
	require.NoError(t, err)
	require.Equal(t, a, b)
}

func FuzzDecodeSDDL(f *testing.F) {
	f.Add(everyone)
	f.Add("O:BAG:BUD:P(D;;FA;;;AN)S:AI(AU;SA;FA;;;WD)")
	f.Fuzz(func(t *testing.T, sddl string) {
		if isEveryone(sddl) && !strings.Contains(strings.ToUpper(sddl), "WD") &&
			!strings.Contains(strings.ToUpper(sddl), "S-1-1-0") {
			t.Fatalf("%q is taken for everyone's", sddl)
		}
	})
}

func TestServerNames(t *testing.T) {
	for text, want := range map[string]backend.ServerNames{
		"": {Machine: "FILESERVER-OF-AC"},
		"\tnetbios name = NAS\n\trealm = EXAMPLE.COM\n\tnetbios aliases = Files, ARCHIVE\n\tadditional dns hostnames = www.other.org  x.example.com\n": {
			Machine: "NAS", Aliases: []string{"Files", "ARCHIVE", "nas.example.com", "files.example.com",
				"archive.example.com", "www.other.org", "x.example.com"},
		},
		"\tnetbios name = %h\n\tdns hostname = real.example.com\n": {Machine: "FILESERVER-OF-AC", Aliases: []string{"real.example.com"}},
	} {
		c, err := parseConf("[global]\n" + text)
		require.NoError(t, err)
		got := c.serverNames("fileserver-of-acme.example.com")
		want.Machine = want.Machine[:min(15, len(want.Machine))]
		require.Equal(t, want, got)
	}
	f, _ := newFake(t, Config{})
	names, err := f.ServerNames(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, names.Machine)
}

// TestToolsAskSeldom has the real programs asked again when something has changed, and only then.
func TestToolsAskSeldom(t *testing.T) { inBothModes(t, testToolsAskSeldom) }

func testToolsAskSeldom(t *testing.T, with mode) {
	base, copied := t.TempDir(), t.TempDir()
	o := newOffline(t, with, "\tregistry shares = yes", "[data]\n\tpath = "+base+"\n")
	old := time.Now().Add(-time.Hour)
	o.run("sharesec", "data", "--viewsddl") // which makes the database
	for _, f := range []string{o.conf, filepath.Join(o.dir, "state-directory", "share_info.tdb")} {
		require.NoError(t, os.Chtimes(f, old, old))
	}
	count := &logCounter{}
	o.Shares = with.new(t, Config{SmbConf: o.conf, CommandTimeout: time.Minute, Logger: count.logger()})
	asked := func(testparm, sharesec int, do func()) {
		t.Helper()
		o.seen.Load().at = time.Time{} // so that age lets nothing pass
		count.reset()
		do()
		require.Equal(t, testparm, count.of("testparm"), "testparm")
		require.Equal(t, sharesec, count.of("sharesec"), "sharesec")
	}
	lookup := func() {
		share, err := o.Lookup(t.Context(), "data")
		require.NoError(t, err)
		require.Equal(t, base, share.Path)
	}
	own := 1 // what the own changes of the registry cost
	if with == byHelper {
		own = 0
	}
	asked(0, 0, lookup)
	asked(0, 0, lookup)
	share, err := o.Lookup(t.Context(), "data")
	require.NoError(t, err)
	e := exposureOf(share, copied)
	asked(0, 1, func() { require.NoError(t, o.Expose(t.Context(), e)) })
	asked(own, 0, lookup)
	asked(0, 0, func() { // nothing has changed since
		require.NoError(t, o.Unexpose(t.Context(), backend.Owner{}, e.Name))
	})
	asked(own, 0, lookup)
	e = exposureOf(share, copied)
	asked(0, 0, func() { require.NoError(t, o.Expose(t.Context(), e)) })
	asked(own, 0, func() { require.NoError(t, o.Unexpose(t.Context(), backend.Owner{}, e.Name)) })

	// Others change the registry: a share of their own, which concerns the helper not; [data]
	// itself; and the descriptor.
	o.run("net", "conf", "addshare", "other", base)
	asked(own, 0, lookup)
	other := t.TempDir()
	o.run("net", "conf", "addshare", "reg", base)
	_, err = o.Lookup(t.Context(), "reg")
	require.NoError(t, err)
	asked(0, 0, func() { _, err = o.Lookup(t.Context(), "reg") })
	o.run("net", "conf", "setparm", "reg", "path", other)
	asked(1, 0, func() {
		share, err := o.Lookup(t.Context(), "reg")
		require.NoError(t, err)
		require.Equal(t, other, share.Path)
	})
	o.run("net", "conf", "delshare", "reg")
	o.seen.Load().at = time.Time{}
	_, err = o.Lookup(t.Context(), "reg")
	require.ErrorIs(t, err, fsrvp.ErrObjectNotFound)
	o.run("sharesec", "data", "--setsddl="+strict)
	e = exposureOf(share, copied)
	require.NoError(t, o.Expose(t.Context(), e))
	require.Contains(t, o.run("sharesec", e.Name, "--viewsddl"), "S-1-5-21-1-2-3-1000")
	require.NoError(t, o.Unexpose(t.Context(), backend.Owner{}, e.Name))
	require.Nil(t, o.record(e.Name))

	// smb.conf, and a file that it includes.
	inc := filepath.Join(o.dir, "included")
	text, err := os.ReadFile(o.conf)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(o.conf, append(text, "\tinclude = "+inc+"\n"...), 0o600))
	require.NoError(t, os.WriteFile(inc, []byte("\tcomment = x\n"), 0o600))
	asked(1, 0, lookup)
	asked(1, 0, lookup) // the files are too new
	for _, f := range []string{o.conf, inc} {
		require.NoError(t, os.Chtimes(f, old, old))
	}
	asked(1, 0, lookup)
	asked(0, 0, lookup)
	require.NoError(t, os.WriteFile(inc, []byte("\tpath = "+other+"\n"), 0o600))
	o.seen.Load().at = time.Time{}
	share, err = o.Lookup(t.Context(), "data")
	require.NoError(t, err)
	require.Equal(t, other, share.Path)
	require.NoError(t, os.WriteFile(o.conf, append(text, "\tinclude = "+o.dir+"/%m\n"...), 0o600))
	require.NoError(t, os.Chtimes(o.conf, old, old))
	asked(1, 0, lookup)
	asked(1, 0, lookup) // each client may have another file
}

// TestToolsManyShares has more shares than testparm is asked for: programs ask for those that
// matter alone.
func TestToolsManyShares(t *testing.T) {
	base, copied, other := t.TempDir(), t.TempDir(), t.TempDir()
	var text strings.Builder
	for i := range manyShares {
		fmt.Fprintf(&text, "[share%d]\n\tpath = %s\n", i, base)
	}
	o := newOffline(t, byPrograms, "\tregistry shares = yes", text.String())
	o.run("net", "conf", "addshare", "data", base, "writeable=y")
	o.run("sharesec", "data", "--viewsddl")
	old := time.Now().Add(-time.Hour)
	for _, f := range []string{o.conf, filepath.Join(o.dir, "state-directory", "share_info.tdb")} {
		require.NoError(t, os.Chtimes(f, old, old))
	}
	count := &logCounter{}
	o.Shares = byPrograms.new(t, Config{SmbConf: o.conf, CommandTimeout: time.Minute, Logger: count.logger()})
	asked := func(testparm int, do func()) {
		t.Helper()
		o.seen.Load().at = time.Time{} // so that age lets nothing pass
		count.reset()
		do()
		require.Equal(t, testparm, count.of("testparm"))
	}
	lookup := func(path string) func() {
		return func() {
			share, err := o.Lookup(t.Context(), "DATA")
			require.NoError(t, err)
			require.Equal(t, path, share.Path)
		}
	}
	share := backend.Share{Name: "data", Path: base}
	list := writable(share, 3)
	asked(0, lookup(base))
	asked(0, func() { require.NoError(t, o.ExposeShares(t.Context(), list)) })
	asked(0, lookup(base))
	e := exposureOf(share, copied)
	asked(0, func() { require.NoError(t, o.Expose(t.Context(), e)) })
	asked(0, func() { require.NoError(t, o.Expose(t.Context(), e), "the same") })
	require.Equal(t, copied, o.shown(e.Name)["path"])
	e.Path = other
	asked(0, func() { require.NoError(t, o.Expose(t.Context(), e), "something else") })
	require.Equal(t, other, o.shown(e.Name)["path"])
	foreign := backend.NewOwner("elsewhere")
	o.run("net", "conf", "setparm", e.Name, ownerParam, foreign.String())
	asked(0, func() {
		require.ErrorIs(t, o.Unexpose(t.Context(), backend.NewOwner("here"), e.Name), backend.ErrForeign)
	})
	asked(0, func() { require.NoError(t, o.Unexpose(t.Context(), foreign, e.Name)) })
	asked(0, func() { require.NoError(t, o.Unexpose(t.Context(), foreign, e.Name)) })
	asked(0, func() { require.NoError(t, o.UnexposeShares(t.Context(), backend.Owner{}, namesOf(list))) })
	require.Equal(t, "data\n", o.run("net", "conf", "listshares"))
	// The base share is changed, removed, and comes back.
	o.run("net", "conf", "setparm", "data", "path", other)
	o.run("net", "conf", "setparm", "data", "valid users", "alice")
	asked(1, func() { require.NoError(t, o.Expose(t.Context(), e)) })
	require.Equal(t, "alice", o.shown(e.Name)["valid users"])
	asked(0, lookup(other))
	o.run("net", "conf", "setparm", "global", "admin users", "bob")
	asked(1, lookup(other))
	o.run("net", "conf", "delshare", "data")
	asked(1, func() {
		_, err := o.Lookup(t.Context(), "data")
		require.ErrorIs(t, err, fsrvp.ErrObjectNotFound)
	})
	o.run("net", "conf", "addshare", "data", base)
	asked(1, lookup(base))
	o.run("net", "conf", "setincludes", "data", filepath.Join(o.dir, "inc"))
	asked(1, lookup(base))
	asked(1, lookup(base)) // it includes a file
}

func TestParseRaw(t *testing.T) {
	got := parseRaw("[global]\n\tx = y\n\n[a]b]\n\tpath = /a = b \n\tempty = \n\tcomment = one\ntwo\n\n")
	require.Equal(t, []*section{
		{name: "global", params: []param{{"x", "y"}}},
		{name: "a]b", params: []param{{"path", "/a = b "}, {"empty", ""}, {"comment", "one"}, {"", "two"}}},
	}, got)
	require.Empty(t, parseRaw("nothing\n"))
}
