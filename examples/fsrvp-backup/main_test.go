package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/writer"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == guardArg {
		if err := writer.GuardMain(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(programEnv) != "" {
		os.Unsetenv(programEnv)
		main()
	}
	os.Exit(m.Run())
}

// contents is what a directory or an archive holds: for files their data, for links "-> target",
// for directories "/".
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	have := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch d.Type() {
		case fs.ModeDir:
			have[filepath.ToSlash(name)] = "/"
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			have[filepath.ToSlash(name)] = "-> " + target
			return err
		default:
			data, err := os.ReadFile(path)
			have[filepath.ToSlash(name)] = string(data)
			return err
		}
		return nil
	}))
	return have
}

func archived(t testing.TB, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	have := map[string]string{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return have
		}
		require.NoError(t, err)
		name := strings.TrimSuffix(h.Name, "/")
		switch h.Typeflag {
		case tar.TypeDir:
			have[name] = "/"
		case tar.TypeSymlink:
			have[name] = "-> " + h.Linkname
		default:
			data, err := io.ReadAll(r)
			require.NoError(t, err)
			have[name] = string(data)
		}
	}
}

// TestLocal backs a directory up that an application keeps changing. The archive must be what the
// application left when it was frozen.
func TestLocal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vm images")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub", "empty"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "big"), bytes.Repeat([]byte("0123456789abcdef"), 1<<16), 0o644))
	require.NoError(t, os.Symlink("big", filepath.Join(dir, "link")))

	var mu sync.Mutex // held by a change, and between freeze and thaw
	stop := make(chan struct{})
	var app sync.WaitGroup
	app.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			mu.Lock()
			name := filepath.Join(dir, "sub", fmt.Sprintf("f%d", rand.N(20)))
			var err error
			switch rand.N(3) {
			case 0:
				err = os.WriteFile(name, fmt.Appendf(nil, "version %d", i), 0o644)
			case 1:
				err = os.RemoveAll(name)
			case 2:
				if err = os.Rename(name, name+"x"); errors.Is(err, fs.ErrNotExist) {
					err = nil
				}
			}
			if err != nil {
				t.Error(err)
			}
			mu.Unlock()
		}
	})
	defer app.Wait()
	defer close(stop)

	var frozen map[string]string
	out := filepath.Join(t.TempDir(), "out.tar")
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), []string{"-local", dir, "-out", out, "-json"}, &stdout, &stderr, []provider.Writer{{
		Name:   "the test",
		Freeze: func(context.Context) error { mu.Lock(); frozen = contents(t, dir); return nil },
		Thaw:   func(context.Context) error { mu.Unlock(); return nil },
	}})
	require.NoError(t, err, stderr.String())
	require.Equal(t, frozen, archived(t, out))

	var sum summary
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &sum))
	require.Equal(t, out, sum.Out)
	require.Len(t, sum.Shares, 1)
	require.Equal(t, dir, sum.Shares[0].Share)
	require.NotContains(t, stderr.String()+stdout.String(), "localhost", "a name that the user has not given")
	require.Equal(t, sum.Files, sum.Shares[0].Files)
	require.GreaterOrEqual(t, sum.Bytes, int64(1<<20))
	require.Len(t, sum.Phases, 11)
	require.Positive(t, sum.FreezeSeconds)
	require.Contains(t, stderr.String(), "wrote     "+out)
	left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), ".fsrvp*"))
	require.NoError(t, err)
	require.Empty(t, left, "something is left beside the directory")
}

func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	src := filepath.Join(dir, "src")
	require.NoError(t, os.Mkdir(src, 0o700))
	out := filepath.Join(dir, "out.tar")
	for _, c := range []struct {
		name string
		args string
		want string
	}{
		{"nothing to back up", "-out " + out, "-local DIR or -share"},
		{"no out", "-local " + dir, "-out is missing"},
		{"both", "-local " + src + ` -share \\a\b -out ` + out, "-local DIR or -share"},
		{"stray word", "-local " + src + " -out " + out + " more", `"more" is no flag`},
		{"two things on standard output", "-local " + src + " -out - -json", "both want standard output"},
		{"missing directory", "-local " + dir + "/missing -out " + out, "missing"},
		{"a file", "-local " + empty + " -out " + out, "is not a directory"},
		{"credentials with local", "-local " + src + " -out " + out + " -user u", "go with -share"},
		{"no credentials", `-share \\a\b -out ` + out, "say how to log in: -keytab, -ccache, -password-file"},
		{"no user", `-share \\a\b -keytab k -out ` + out, "-user is missing"},
		{"missing keytab", `-share \\a\b -user u@R -keytab ` + dir + "/no.keytab -out " + out, "no.keytab"},
		{"empty password", `-share \\a\b -user u@R -password-file ` + empty + " -out " + out, "first line of " + empty + " is empty"},
		{"missing krb5.conf", `-share \\a\b -user u@R -password-file ` + os.Args[0] + " -krb5-conf " + dir + "/no.conf -out " + out, "no.conf"},
		{"bad level", `-share \\a\b -user u -mechanism ntlm -level none -password-file ` + os.Args[0] + " -out " + out, `-level is "none"`},
		{"no SMB", `-share \\a\b -user u -mechanism ntlm -transport tcp:1 -password-file ` + os.Args[0] + " -out " + out, "-transport must be smb"},
		{"out in no directory", "-local " + src + " -out " + dir + "/no/out.tar", "-out: "},
		{"recover without journal", "-recover", "-recover takes -journal"},
		{"missing program", "-local " + src + " -out " + out + " -freeze " + dir + "/no-program", "-freeze " + dir + "/no-program"},
		{"failing program", "-local " + src + " -out " + out + " -freeze /bin/false", "the freeze program /bin/false: exit status 1"},
		{"writer without kind", "-local " + src + " -out " + out + " -writer /run/s", "is not KIND:ARGUMENT"},
		{"unknown kind", "-local " + src + " -out " + out + " -writer oracle:x", `there is no kind "oracle"`},
		{"bad group", "-local " + src + " -out " + out + " -writer qga@x:/run/s", `the group is "x"`},
		{"bad connection", "-local " + src + " -out " + out + " -writer mysql:u:secret@nowhere", "-writer mysql:...: "},
		{"missing connection file", "-local " + src + " -out " + out + " -writer postgres:@" + dir + "/no.conn", "no.conn"},
		{"freeze of what is copied", "-local " + src + " -out " + out + " -writer fsfreeze:" + dir, "is written to the same file system"},
		{"out is a directory", "-local " + src + " -out " + dir, "is a directory; name a file in it"},
		{"out is to be a directory", "-local " + src + " -out " + dir + "/new/", "is the name of a directory; name a file in it"},
		{"share of a shell", `-share \a\b -user u -keytab k -out ` + out, "put it in single quotes"},
		{"share of a URL", `-share smb://a/b -user u -keytab k -out ` + out, `it is a URL; write \\host\share`},
		{"out in the source", "-local " + src + " -out " + src + "/x.tar", "the archive would be part of itself"},
		{"out below the source", "-local " + dir + " -out " + src + "/x.tar", "the archive would be part of itself"},
		{"restore without to", "-restore " + out, "-restore FILE.tar and -to DIR go together"},
		{"to without restore", "-to " + dir + " -local " + src + " -out " + out, "-restore FILE.tar and -to DIR go together"},
		{"verify and backup", "-verify " + out + " -local " + src, "stand alone"},
		{"verify of nothing", "-verify " + out, "no such file"},
		{"verify of another file", "-verify " + empty, "the archive ends here"},
		{"restore over files", "-restore " + empty + " -to " + dir, "is not empty"},
		{"no limit", "-local " + src + " -out " + out + " -freeze-limit 0s", "-freeze-limit is 0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			err := run(t.Context(), strings.Fields(c.args), &stdout, &stderr, nil)
			require.ErrorContains(t, err, c.want)
			require.NoFileExists(t, out)
			left, err := filepath.Glob(filepath.Join(dir, ".out.tar*"))
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func TestShareOf(t *testing.T) {
	for given, want := range map[string]string{
		`\\fs1\vms`: `\\fs1\vms`, "//fs1/vms/a b": `\\fs1\vms\a b`, `\\?\unc\fs1\vms\x`: `\\fs1\vms\x`, "//?/UNC/fs1/vms": `\\fs1\vms`,
		`\\?\C:\x`: `\\?\C:\x`, "/a/b": "/a/b", "": "", `\\fs1\a/b`: `\\fs1\a/b`, `//fs1\vms`: `\\fs1\vms`,
	} {
		require.Equal(t, want, shareOf(given), given)
	}
}

func TestShareName(t *testing.T) {
	for dir, want := range map[string]string{
		"/data/vms": "vms", "/": "_", "/a b": "a b", "/x:y*z": "x_y_z", "/...": "local", "/" + strings.Repeat("ü", 60): strings.Repeat("ü", 40),
	} {
		require.Equal(t, want, shareName(dir), dir)
	}
}
