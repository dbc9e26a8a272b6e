package samba

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

func exposure() backend.Exposure {
	id := fsrvp.CopyID(uuid.MustParse(anID))
	return backend.Exposure{
		Name: "base@{" + anID + "}", Base: backend.Share{Name: "base", Path: "/srv"}, Path: "/snapshots/1",
		Snapshot: backend.Snapshot{SnapshotSpec: backend.SnapshotSpec{ID: id},
			Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
	}
}

func TestClone(t *testing.T) {
	c, err := parseConf(`[global]
	admin users = root
	write list = carol

[base]
	path = /srv
	comment = mine
	available = Yes
	copy = other
	-valid = No
	usershare = Yes
	read only = No
	admin users = bob
	write list = alice
	valid users = @%S, %U
	vfs objects = shadow_copy2:daily /usr/lib/samba/vfs/Btrfs.so, snapper catia
	shadow:snapdir = .s
	Shadow : sort = desc
	shadow_copy2:x = y
	snapper:y = z
	shadowy:x = kept
	catia:mappings = 0x22:0xa8
	fsrvp : copy = x

[plain]
	path = /srv
`)
	require.NoError(t, err)
	e := exposure()
	own := []param{
		{"available", "Yes"}, {"path", "/snapshots/1"}, {"comment", "Shadow copy of base, taken 2026-01-02 03:04:05 UTC"}, {marker, anID},
	}
	require.Equal(t, definition{e.Name, slices.Concat(own, []param{
		{"valid users", "@base, %U"}, {"shadowy:x", "kept"}, {"catia:mappings", "0x22:0xa8"}, {"vfs objects", "catia"}, {"admin users", ""},
		{"read only", "Yes"}, {"write list", ""},
	})}, c.clone(c.share("base"), e))
	e.Writable = true
	require.Equal(t, definition{e.Name, slices.Concat(own, []param{
		{"write list", "alice"}, {"valid users", "@base, %U"}, {"shadowy:x", "kept"}, {"catia:mappings", "0x22:0xa8"}, {"vfs objects", "catia"},
		{"admin users", ""}, {"read only", "No"},
	})}, c.clone(c.share("base"), e))
	require.Equal(t, definition{e.Name, slices.Concat(own, []param{{"admin users", ""}, {"read only", "Yes"}})},
		c.clone(c.share("plain"), e),
		"writable is what the base share is: read-only but for carol")
}

func TestSubstituteS(t *testing.T) {
	require.Equal(t, "/srv/vms/vms/%U/%", substituteS("/srv/%S/%S/%U/%", "vms"))
	require.Equal(t, "rm -r a__b_c_'x'", substituteS("rm -r %S'x'", "a$`b;c\""))
}

func TestHasMacro(t *testing.T) {
	for path, want := range map[string]bool{
		"": false, "/srv": false, "/50%": false, "/50% off": false, "/%1": false, "/%%": false, "/%é": false,
		"/%U": true, "/%u": true, "/%%S": true, "/%$(HOME)": true, "/100%sure": true,
	} {
		require.Equal(t, want, hasMacro(path), path)
	}
}

func TestFileRefuses(t *testing.T) {
	for _, p := range []param{
		{"comment", "a\nadmin users = bob"}, {"comment", "a\rb"}, {"comment", "a\x00"}, {"comment", "\xff"}, {"comment", "a\x0bb"},
		{"a\nb", "x"}, {"#a", "x"}, {";a", "x"}, {"[a]", "x"}, {"a=b", "x"}, {`a\`, "x"},
	} {
		_, _, err := (&definition{"x", []param{p}}).file()
		require.Error(t, err, "%q", p)
	}
}

// readFile reads a file as "net conf import" does: lines that end in a backslash go on, white space in a row is one character, comments
// are lines. It returns what it finds of one section.
func readFile(t *testing.T, text string) (name string, params []param) {
	t.Helper()
	for text != "" {
		var line []byte
		skipped := false
		text = strings.TrimLeft(text, " \t\n\v\f\r")
		for text != "" {
			c := text[0]
			text = text[1:]
			if len(line) == 0 && (c == '#' || c == ';') {
				skipped = true
			}
			if c == '\n' {
				if line = []byte(strings.TrimRight(string(line), " \t\v\f\r")); skipped || !strings.HasSuffix(string(line), `\`) {
					break
				}
				line = line[:len(line)-1]
				continue
			}
			if isSpace(c) && len(line) > 0 && isSpace(line[len(line)-1]) {
				continue
			}
			line = append(line, c)
		}
		switch key, value, ok := strings.Cut(string(line), "="); {
		case skipped || len(line) == 0:
		case line[0] == '[':
			require.Empty(t, name, "a second section")
			name, _, _ = strings.Cut(string(line[1:]), "]")
		default:
			require.True(t, ok)
			params = append(params, param{strings.Trim(key, " \t\v\f\r"), strings.Trim(value, " \t\v\f\r")})
		}
	}
	return name, params
}

func isSpace(c byte) bool { return strings.IndexByte(" \t\v\f\r", c) >= 0 }

// FuzzClone takes anything for what testparm prints. Whatever base shares look like, what is imported is one section with exactly the
// parameters that are meant, and read-only.
func FuzzClone(f *testing.F) {
	f.Add(printed)
	f.Add("[global]\n[b]\n\tcomment = a\\\n\tpath = /x\n\tx  y:z = a  b\n\t= x\n")
	f.Add("[global]\n\twrite list = x\n[b]\n\tread only = No\n\tReadOnly = No\n\tvfs objects = shadow_copy2\n\ta\\ = b\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseConf(text)
		if err != nil {
			return
		}
		e := exposure()
		for i := range c.shares {
			d := c.clone(&c.shares[i], e)
			text, others, err := d.file()
			if err != nil {
				continue
			}
			name, params := readFile(t, text)
			require.Equal(t, e.Name, name)
			made := &section{params: append(params, others...)}
			require.Len(t, made.params, len(d.params))
			for _, p := range d.params {
				require.True(t, slices.ContainsFunc(made.params, func(q param) bool { return sameKey(p.key, q.key) && p.value == q.value }), "%q in %q", p, made.params)
			}
			for _, want := range []param{{"path", e.Path}, {"read only", "Yes"}, {"available", "Yes"}, {marker, anID}} {
				require.Equal(t, 1, count(made, want.key))
				value, _ := made.get(want.key)
				require.Equal(t, want.value, value)
			}
			require.True(t, c.isReadOnly(made))
			require.Zero(t, count(made, "copy"))
			require.False(t, slices.ContainsFunc(modules(c.value(made, "vfs objects")), isSnapshotter))
			require.Empty(t, c.value(made, "admin users"))
		}
	})
}

func count(s *section, key string) int {
	n := 0
	for _, p := range s.params {
		if sameKey(p.key, key) {
			n++
		}
	}
	return n
}
