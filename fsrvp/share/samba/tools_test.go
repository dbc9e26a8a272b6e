//go:build unix

package samba

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// missing ends a test that needs what this machine has not: it is skipped, or fails with
// FSRVP_PEERS=require.
func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("FSRVP_PEERS") == "require" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// An offlineSamba is Samba's programs on a configuration and a registry of the test's own. No smbd
// runs.
type offlineSamba struct {
	t    testing.TB
	with mode
	dir  string
	conf string
	*Shares
}

// newOffline has a smb.conf of those parameters of [global], and those shares.
func newOffline(t testing.TB, with mode, global, shares string) *offlineSamba {
	t.Helper()
	for _, name := range []string{"net", "testparm", "sharesec", "smbcontrol", "smbstatus"} {
		if _, err := exec.LookPath(name); err != nil {
			missing(t, "needs Samba: "+err.Error())
		}
	}
	if os.Geteuid() != 0 {
		missing(t, "Samba's programs need root")
	}
	o := &offlineSamba{t: t, with: with, dir: quickDir(t)}
	o.conf = filepath.Join(o.dir, "smb.conf")
	var b strings.Builder
	fmt.Fprintf(&b, "[global]\n\tserver role = standalone server\n\tload printers = no\n\tdisable spoolss = yes\n")
	for _, d := range []string{"state directory", "lock directory", "private dir", "cache directory", "pid directory",
		"ncalrpc dir"} {
		path := filepath.Join(o.dir, strings.ReplaceAll(d, " ", "-"))
		require.NoError(t, os.Mkdir(path, 0o700))
		fmt.Fprintf(&b, "\t%s = %s\n", d, path)
	}
	fmt.Fprintf(&b, "\tlog file = %s\n%s\n%s", filepath.Join(o.dir, "log"), global, shares)
	require.NoError(t, os.WriteFile(o.conf, []byte(b.String()), 0o600))
	return o
}

func (o *offlineSamba) start() *offlineSamba {
	o.t.Helper()
	o.Shares = o.with.new(o.t, Config{SmbConf: o.conf, CommandTimeout: time.Minute})
	return o
}

// run runs one of the programs without the code that is tested.
func (o *offlineSamba) run(program string, args ...string) string {
	o.t.Helper()
	cmd := exec.Command(program, append([]string{"--configfile=" + o.conf}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(o.t, err, "%s %q: %s", program, args, &stderr)
	return string(out)
}

// shown is a registry share as "net conf showshare" has it, by its parameters.
func (o *offlineSamba) shown(name string) map[string]string {
	o.t.Helper()
	params := map[string]string{}
	for line := range strings.Lines(o.run("net", "conf", "showshare", name)) {
		if key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " = "); ok {
			params[strings.TrimPrefix(key, "\t")] = value
		}
	}
	return params
}

// record returns a share's record of share_info.tdb, or nil: [MS-DTYP] 2.4.6 and what Samba has
// around it.
func (o *offlineSamba) record(name string) []byte {
	o.t.Helper()
	db, err := os.ReadFile(filepath.Join(o.dir, "state-directory", "share_info.tdb"))
	require.NoError(o.t, err)
	// A header of 168 bytes, with the number of hash chains in it; the free list; the chains. A
	// record: the next one's place, its size, the key's, the data's, a hash, a mark; then the key,
	// and the data.
	word := func(at int) int { return int(binary.NativeEndian.Uint32(db[at:])) }
	key := "SECDESC/" + strings.ToLower(name) + "\x00"
	for chain := range word(36) {
		for at := word(168 + 4*(chain+1)); at != 0; at = word(at) {
			k, d := word(at+8), word(at+12)
			if string(db[at+24:][:k]) == key {
				return db[at+24+k:][:d]
			}
		}
	}
	return nil
}

// exposureOf is a copy of a share, in a directory.
func exposureOf(share backend.Share, dir string) backend.Exposure {
	id := fsrvp.NewCopyID()
	return backend.Exposure{
		Name: fsrvp.ExposedName(share.Name, id), Base: share, Path: dir,
		Snapshot: backend.Snapshot{SnapshotSpec: backend.SnapshotSpec{ID: id}, Path: dir,
			Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
	}
}

// TestToolsRoundTrip exposes copies of shares with all sorts of names.
func TestToolsRoundTrip(t *testing.T) { inBothModes(t, testToolsRoundTrip) }

func testToolsRoundTrip(t *testing.T, with mode) {
	base, copied := t.TempDir(), t.TempDir()
	o := newOffline(t, with, "\tregistry shares = yes", "").start()
	names := []string{
		"plain", "hidden$", "#R&D [x it's", "~^`()!@{x} .$", strings.Repeat("n", 216), strings.Repeat("ü", 107) + "$",
	}
	sds := []string{
		"D:(A;;0x001200a9;;;S-1-5-21-1-2-3-1000)(A;;0x001f01ff;;;BA)",
		"O:BAG:BUD:(D;;0x001f01ff;;;AN)(A;;0x001f01ff;;;WD)",
		"D:(A;;0x001301bf;;;S-1-22-1-1000)(A;;0x001200a9;;;AU)(A;;0x00000001;;;WD)",
		everyone, "",
	}
	for i, name := range names {
		t.Run(name[:min(len(name), 12)], func(t *testing.T) {
			o.t = t
			o.run("net", "conf", "addshare", name, base, "writeable=y", "guest_ok=n", "it is \"so\"; # all of it")
			sd := sds[i%len(sds)]
			if sd != "" {
				o.run("sharesec", name, "--setsddl="+sd)
			}
			share, err := o.Lookup(t.Context(), strings.ToUpper(name))
			require.NoError(t, err)
			require.Equal(t, backend.Share{Name: name, Path: base}, share)
			e := exposureOf(share, copied)
			require.NoError(t, o.CheckName(e.Name))
			require.NoError(t, o.Expose(t.Context(), e))
			got := o.shown(e.Name)
			require.Equal(t, copied, got["path"])
			require.Equal(t, "Yes", got["read only"])
			require.Equal(t, e.Snapshot.ID.String(), got[marker])
			require.NotContains(t, got, "write list")
			if sd == "" || sd == everyone {
				require.Nil(t, o.record(e.Name))
				// The second is how 4.22 prints it.
				require.Contains(t, []string{everyone + "\n", "D:(A;;FA;;;WD)\n"}, o.run("sharesec", e.Name, "--viewsddl"))
			} else {
				require.NotEmpty(t, o.record(name))
				require.Equal(t, o.record(name), o.record(e.Name))
			}
			require.NoError(t, o.Expose(t.Context(), e), "exposing the same again is no error")
			require.Equal(t, got, o.shown(e.Name))
			list, _, err := o.List(t.Context(), backend.Owner{})
			require.NoError(t, err)
			require.Equal(t, []backend.ExposedShare{{Name: e.Name}}, list)
			_, err = o.Lookup(t.Context(), e.Name)
			require.ErrorIs(t, err, fsrvp.ErrObjectNotFound)

			o.run("net", "conf", "delshare", name) // what is exposed outlives it
			require.NoError(t, o.Expose(t.Context(), e))
			require.NoError(t, o.Unexpose(t.Context(), backend.Owner{}, strings.ToUpper(e.Name)))
			require.Empty(t, o.run("net", "conf", "listshares"))
			require.Nil(t, o.record(e.Name))
			require.NoError(t, o.Unexpose(t.Context(), backend.Owner{}, e.Name), "nor is removing what is not there")
			list, _, err = o.List(t.Context(), backend.Owner{})
			require.NoError(t, err)
			require.Empty(t, list)
			require.ErrorIs(t, o.Expose(t.Context(), e), fsrvp.ErrObjectNotFound)
			require.Empty(t, o.run("net", "conf", "listshares"))
		})
	}
}

// TestToolsRefusedNames shows that Samba's programs are not even asked, and why: some of these would break the registry, or
// succeed and make nothing.
func TestToolsRefusedNames(t *testing.T) { inBothModes(t, testToolsRefusedNames) }

func testToolsRefusedNames(t *testing.T, with mode) {
	base := t.TempDir()
	o := newOffline(t, with, "\tregistry shares = yes", "[-dash]\n\tpath = "+base+"\n").start()
	for _, name := range []string{strings.Repeat("n", 217), strings.Repeat("n", 215) + "$", "-dash", "a]b", "a  b", " a", "a\nb", "a\tb", "a%Sb"} {
		e := exposureOf(backend.Share{Name: name, Path: base}, base)
		require.ErrorIs(t, o.CheckName(e.Name), fsrvp.ErrNotSupported, name)
		require.Error(t, o.Expose(t.Context(), e), name)
		require.NoError(t, o.Unexpose(t.Context(), backend.Owner{}, e.Name), name)
		require.Empty(t, o.run("net", "conf", "listshares"))
	}
}

// TestToolsParameters clones shares of smb.conf and of the registry.
func TestToolsParameters(t *testing.T) { inBothModes(t, testToolsParameters) }

func testToolsParameters(t *testing.T, with mode) {
	base, copied := t.TempDir(), t.TempDir()
	o := newOffline(t, with, `	registry shares = yes
	vfs objects = shadow_copy2 acl_xattr
	write list = @adm
	admin users = root
	read only = no
	shadow:snapdir = .snapshots`, fmt.Sprintf(`
[inherits]
	path = %[1]s
[text]
	path = %[1]s
	comment = never mind
	valid users = @"domain users", %%S
	write list = alice, "bob smith"
	admin users = carol
	read only = yes
	vfs objects = catia fruit streams_xattr shadow_copy2 btrfs acl_xattr
	fruit:metadata = stream
	shadow : snapdir = .snap
	btrfs: manipulate snapshots = yes
	store dos attributes = \
		no
	preexec = /bin/echo "a; b" # c
[of template]
	copy = text
	path = %[1]s
`, base)).start()
	o.run("net", "conf", "addshare", "registry", base)
	for _, p := range [][2]string{{"vfs objects", "acl_xattr streams_xattr"}, {"write list", ""}, {"comment", "x"}, {"dfree command", `/bin/df  -P  \`}, {"odd:param", "a;  b"}} {
		o.run("net", "conf", "setparm", "--", "registry", p[0], p[1])
	}
	made := func(name string, writable bool) map[string]string {
		t.Helper()
		share, err := o.Lookup(t.Context(), name)
		require.NoError(t, err)
		e := exposureOf(share, copied)
		e.Writable = writable
		require.NoError(t, o.Expose(t.Context(), e))
		got := o.shown(e.Name)
		require.Equal(t, e.Snapshot.ID.String(), got[marker])
		require.Equal(t, copied, got["path"])
		require.Equal(t, "Shadow copy of "+name+", taken 2026-01-02 03:04:05 UTC", got["comment"])
		require.Equal(t, "Yes", got["available"])
		for _, key := range []string{marker, "path", "comment", "available"} {
			delete(got, key)
		}
		require.NoError(t, o.Unexpose(t.Context(), backend.Owner{}, e.Name))
		return got
	}
	require.Equal(t, map[string]string{"read only": "Yes", "write list": "", "admin users": "", "vfs objects": "acl_xattr"}, made("inherits", false))
	require.Equal(t, map[string]string{"read only": "No", "admin users": "", "vfs objects": "acl_xattr"}, made("inherits", true))
	text := map[string]string{
		"read only": "Yes", "write list": "", "admin users": "", "valid users": `"@domain users" text`,
		"vfs objects": "catia fruit streams_xattr acl_xattr", "fruit:metadata": "stream", "store dos attributes": "No",
		"preexec": `/bin/echo "a; b" # c`,
	}
	got := made("text", false)
	require.Contains(t, []string{`"@domain users" text`, `@"domain users" text`, `@"domain users", text`}, got["valid users"])
	text["valid users"] = got["valid users"]
	require.Equal(t, text, got)
	text["write list"] = `alice "bob smith"`
	require.Equal(t, text, made("text", true))
	text["write list"], text["valid users"] = "", strings.ReplaceAll(text["valid users"], " text", " of template")
	require.Equal(t, text, made("of template", false))
	require.Equal(t, map[string]string{
		"read only": "Yes", "write list": "", "admin users": "", "vfs objects": "acl_xattr streams_xattr",
		"dfree command": `/bin/df  -P  \`, "odd:param": "a;  b",
	}, made("registry", false))
}

// TestToolsLookup tells shares of files from others.
func TestToolsLookup(t *testing.T) { inBothModes(t, testToolsLookup) }

func testToolsLookup(t *testing.T, with mode) {
	dir := t.TempDir()
	real := filepath.Join(dir, "real")
	require.NoError(t, os.MkdirAll(filepath.Join(real, "by_name_"), 0o755))
	require.NoError(t, os.Symlink(real, filepath.Join(dir, "link")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	o := newOffline(t, with, "\tregistry shares = yes", fmt.Sprintf(`
[homes]
	read only = no
[printers]
	path = %[1]s
	printable = yes
[print$]
	path = %[1]s
[laser]
	path = %[1]s
	printable = yes
[off]
	path = %[1]s
	available = no
[nowhere]
	comment = x
[Real]
	path = %[1]s/real
[Bücher$]
	path = %[1]s/link/../link/
[quoted]
	path = "%[1]s/real"
[by name$]
	path = %[1]s/real/%%S
[by_name$]
	path = %[1]s/real/%%S
[peruser]
	path = %[1]s/%%U
[gone]
	path = %[1]s/gone
[file]
	path = %[1]s/file
[dfs]
	path = %[1]s/real
	msdfs root = yes
	msdfs proxy = \other\share
[gluster]
	path = %[1]s/real
	vfs objects = acl_xattr glusterfs
[temporary@{11111111-2222-3333-4444-555555555555}]
	path = %[1]s/real
`, dir)).start()
	for name, want := range map[string]backend.Share{
		"REAL":     {Name: "Real", Path: real},
		"bÜCHER$":  {Name: "Bücher$", Path: real},
		"quoted":   {Name: "quoted", Path: real},
		"By_Name$": {Name: "by_name$", Path: filepath.Join(real, "by_name_")},
	} {
		share, err := o.Lookup(t.Context(), name)
		require.NoError(t, err, name)
		require.Equal(t, want, share)
	}
	for _, name := range []string{
		"homes", "printers", "print$", "laser", "off", "nowhere", "ipc$", "global", "nosuch", "", "-h", "a\nb",
		"temporary@{11111111-2222-3333-4444-555555555555}",
	} {
		_, err := o.Lookup(t.Context(), name)
		require.ErrorIs(t, err, fsrvp.ErrObjectNotFound, name)
	}
	for _, name := range []string{"peruser", "file", "dfs", "gluster"} {
		_, err := o.Lookup(t.Context(), name)
		require.ErrorIs(t, err, fsrvp.ErrNotSupported, name)
	}
	for _, name := range []string{"gone", "by name$"} {
		_, err := o.Lookup(t.Context(), name)
		require.ErrorIs(t, err, os.ErrNotExist, name)
	}
	require.NotContains(t, o.run("net", "conf", "listshares"), "temporary") // which is an administrator's
	list, _, err := o.List(t.Context(), backend.Owner{})
	require.NoError(t, err)
	require.Empty(t, list)
}

// TestToolsSeal makes a writable share read-only.
func TestToolsSeal(t *testing.T) { inBothModes(t, testToolsSeal) }

func testToolsSeal(t *testing.T, with mode) {
	base, copied := t.TempDir(), t.TempDir()
	o := newOffline(t, with, "\tregistry shares = yes", "[data]\n\tpath = "+base+"\n\tread only = no\n\twrite list = alice\n").start()
	o.run("sharesec", "data", "--setsddl=D:(A;;0x001200a9;;;S-1-5-21-1-2-3-1000)")
	share, err := o.Lookup(t.Context(), "data")
	require.NoError(t, err)
	e := exposureOf(share, copied)
	e.Writable = true
	require.Error(t, o.SealShare(t.Context(), e), "it is not exposed")
	require.NoError(t, o.Expose(t.Context(), e))
	got, sd := o.shown(e.Name), o.record(e.Name)
	require.Equal(t, "No", got["read only"])
	require.Equal(t, "alice", got["write list"])
	require.NotEmpty(t, sd)
	got["read only"], got["write list"] = "Yes", ""
	for range 2 {
		require.NoError(t, o.SealShare(t.Context(), e))
		require.Equal(t, got, o.shown(e.Name))
		require.Equal(t, sd, o.record(e.Name))
	}
	// A share that does not show what is asked for is replaced.
	require.NoError(t, o.Expose(t.Context(), e))
	require.Equal(t, "No", o.shown(e.Name)["read only"])
	e.Path = base
	require.NoError(t, o.Expose(t.Context(), e))
	require.Equal(t, base, o.shown(e.Name)["path"])
	// And one that a crash has left half-made.
	o.run("net", "conf", "setparm", e.Name, "available", "no")
	require.NoError(t, o.Expose(t.Context(), e))
	require.Equal(t, "Yes", o.shown(e.Name)["available"])
	o.run("net", "conf", "setparm", e.Name, "available", "no")
	list, _, err := o.List(t.Context(), backend.Owner{})
	require.NoError(t, err)
	require.Equal(t, []backend.ExposedShare{{Name: e.Name, Partial: true}}, list)
	require.NoError(t, o.Unexpose(t.Context(), backend.Owner{}, e.Name))
	require.Empty(t, o.run("net", "conf", "listshares"))
}

// TestToolsOwners has two agents with one Samba, and a share of the time before there were marks.
func TestToolsOwners(t *testing.T) { inBothModes(t, testToolsOwners) }

func testToolsOwners(t *testing.T, with mode) {
	base := t.TempDir()
	o := newOffline(t, with, "\tregistry shares = yes", "[data]\n\tpath = "+base+"\n").start()
	share := backend.Share{Name: "data", Path: base}
	mine, theirs, old := exposureOf(share, base), exposureOf(share, base), exposureOf(share, base)
	mine.Mark = backend.Mark{Owner: backend.NewOwner("here"), Sequence: 1 << 40}
	theirs.Mark = backend.Mark{Owner: backend.NewOwner("there")}
	for _, e := range []backend.Exposure{mine, theirs, old} {
		require.NoError(t, o.Expose(t.Context(), e))
	}
	own, foreign, err := o.List(t.Context(), mine.Mark.Owner)
	require.NoError(t, err)
	require.Equal(t, []backend.ExposedShare{{Name: mine.Name, Mark: mine.Mark}}, own)
	require.ElementsMatch(t, []backend.ExposedShare{{Name: theirs.Name, Mark: theirs.Mark}, {Name: old.Name}}, foreign)

	before := o.run("net", "conf", "showshare", theirs.Name)
	stolen := theirs
	stolen.Mark, stolen.Path = mine.Mark, t.TempDir()
	require.ErrorIs(t, o.Expose(t.Context(), stolen), backend.ErrForeign)
	require.ErrorIs(t, o.SealShare(t.Context(), stolen), backend.ErrForeign)
	require.ErrorIs(t, o.Unexpose(t.Context(), mine.Mark.Owner, theirs.Name), backend.ErrForeign)
	require.Equal(t, before, o.run("net", "conf", "showshare", theirs.Name))
	o.run("net", "conf", "setparm", theirs.Name, ownerParam, "no mark")
	require.Error(t, o.Unexpose(t.Context(), theirs.Mark.Owner, theirs.Name))
	_, foreign, err = o.List(t.Context(), mine.Mark.Owner)
	require.NoError(t, err)
	require.Len(t, foreign, 1)

	require.NoError(t, o.Unexpose(t.Context(), mine.Mark.Owner, mine.Name))
	require.NoError(t, o.Unexpose(t.Context(), mine.Mark.Owner, old.Name), "its table knows it")
}

// TestToolsOthersShares leaves alone what looks like an exposed share and is not.
func TestToolsOthersShares(t *testing.T) { inBothModes(t, testToolsOthersShares) }

func testToolsOthersShares(t *testing.T, with mode) {
	base := t.TempDir()
	o := newOffline(t, with, "\tregistry shares = yes", "[data]\n\tpath = "+base+"\n").start()
	e := exposureOf(backend.Share{Name: "data", Path: base}, base)
	o.run("net", "conf", "addshare", e.Name, base)
	check := func() {
		t.Helper()
		before := o.run("net", "conf", "showshare", e.Name)
		require.Error(t, o.Expose(t.Context(), e))
		require.Error(t, o.Unexpose(t.Context(), backend.Owner{}, e.Name))
		require.Error(t, o.SealShare(t.Context(), e))
		list, _, err := o.List(t.Context(), backend.Owner{})
		require.NoError(t, err)
		require.Empty(t, list)
		require.Equal(t, before, o.run("net", "conf", "showshare", e.Name))
	}
	check()
	o.run("net", "conf", "setparm", e.Name, marker, fsrvp.NewCopyID().String())
	check()
}

// TestToolsNew finds what a configuration lacks.
func TestToolsNew(t *testing.T) { inBothModes(t, testToolsNew) }

func testToolsNew(t *testing.T, with mode) {
	base := t.TempDir()
	o := newOffline(t, with, "", "")
	_, err := New(t.Context(), &Config{SmbConf: o.conf})
	require.ErrorContains(t, err, "registry shares = yes")

	o = newOffline(t, with, "\tinclude = registry", "").start()
	o.run("net", "conf", "addshare", "data", base)
	share, err := o.Lookup(t.Context(), "data")
	require.NoError(t, err)
	require.NoError(t, o.Expose(t.Context(), exposureOf(share, base)))

	_, err = New(t.Context(), &Config{SmbConf: filepath.Join(base, "gone")})
	require.ErrorContains(t, err, "testparm")
	_, err = New(t.Context(), &Config{SmbConf: "a\nb"})
	require.ErrorContains(t, err, "control character")
	registry := filepath.Join(o.dir, "state-directory", "registry.tdb")
	require.NoError(t, os.Remove(registry))
	require.NoError(t, os.Mkdir(registry, 0o700))
	_, err = New(t.Context(), &Config{SmbConf: o.conf})
	require.Error(t, err)
}

// TestToolsUnsafePaths refuses paths that Samba would read as other ones, and takes those that look as if it would.
func TestToolsUnsafePaths(t *testing.T) { inBothModes(t, testToolsUnsafePaths) }

func testToolsUnsafePaths(t *testing.T, with mode) {
	dir := t.TempDir()
	o := newOffline(t, with, "\tregistry shares = yes", "[data]\n\tpath = "+dir+"\n").start()
	share, err := o.Lookup(t.Context(), "data")
	require.NoError(t, err)
	for name, ok := range map[string]bool{
		"two  spaces": true, "100% sure": true, "50%": true, `a"b`: true, "# x": true, "; x = y": true, "[x]": true, `back\`: true, "tab\tx": true,
		"%U": false, "a%$(HOME)": false, "a\nb": false, `"a"`: false, "\xff": false, " lead": true, "trail ": false,
	} {
		t.Run(name, func(t *testing.T) {
			o.t = t
			path := filepath.Join(dir, name)
			require.NoError(t, os.Mkdir(path, 0o755))
			e := exposureOf(share, path)
			err := o.Expose(t.Context(), e)
			if !ok {
				require.Error(t, err)
				require.Empty(t, o.run("net", "conf", "listshares"))
				return
			}
			require.NoError(t, err)
			require.Equal(t, path, o.shown(e.Name)["path"])
			require.Equal(t, "Yes", o.shown(e.Name)["read only"])
			require.NoError(t, o.Unexpose(t.Context(), backend.Owner{}, e.Name))
		})
	}
	for _, path := range []string{"relative", dir + "/", dir + "/x/../y", dir + "/gone", "/etc/passwd", ""} {
		require.Error(t, o.Expose(t.Context(), exposureOf(share, path)), path)
	}
}
