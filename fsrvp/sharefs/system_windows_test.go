package sharefs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
)

// The tests run where FSRVP_WINDOWS_UNC is a share, `\\server\share`, to which files may be
// written. In CI it is one of Wine's.
func systemShareOf(t *testing.T) (*FS, string) {
	unc := os.Getenv("FSRVP_WINDOWS_UNC")
	if unc == "" {
		t.Skip("FSRVP_WINDOWS_UNC names no share")
	}
	f, err := OpenSystem(t.Context(), unc, nil)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f, unc
}

func TestSystemShare(t *testing.T) {
	f, unc := systemShareOf(t)
	dir, err := os.MkdirTemp(unc+`\`, "test")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	base := path.Base(strings.ReplaceAll(dir, `\`, "/"))
	big := make([]byte, 5<<20+77)
	for i := range big {
		big[i] = byte(i ^ i>>8 ^ i>>16)
	}
	deep := strings.Repeat("a directory with a long name/", 12) // some 350 characters
	files := map[string][]byte{"small": []byte("hello"), "empty": nil, "ü 💾.txt": []byte("names"),
		deep + "file": []byte("deep")}
	for name, data := range files {
		full := dir + `\` + strings.ReplaceAll(name, "/", `\`)
		require.NoError(t, os.MkdirAll(full[:strings.LastIndex(full, `\`)], 0o777))
		require.NoError(t, os.WriteFile(full, data, 0o666))
	}
	files["../big"] = big // fstest reads every byte by itself
	require.NoError(t, os.WriteFile(unc+`\big`, big, 0o666))
	many, err := os.MkdirTemp(unc+`\`, "many") // more than fits into one piece of a listing
	require.NoError(t, err)
	defer os.RemoveAll(many)
	for i := range 1000 {
		require.NoError(t, os.WriteFile(fmt.Sprintf(`%s\file%04d`, many, i), nil, 0o666))
	}

	for name, data := range files {
		got, err := f.ReadFile(path.Join(base, name))
		require.NoError(t, err)
		require.Equal(t, len(data), len(got))
		file, err := f.Open(path.Join(base, name))
		require.NoError(t, err)
		var b strings.Builder
		n, err := io.Copy(&b, file)
		require.NoError(t, err)
		require.EqualValues(t, len(data), n)
		require.Equal(t, string(data), b.String(), name)
		fi, err := file.Stat()
		require.NoError(t, err)
		require.EqualValues(t, len(data), fi.Size())
		require.False(t, fi.ModTime().IsZero())
		_, err = file.(*File).Seek(0, io.SeekStart)
		require.NoError(t, err)
		b.Reset()
		_, err = io.CopyBuffer(struct{ io.Writer }{&b}, struct{ io.Reader }{file}, make([]byte, 70001)) // by Read
		require.NoError(t, err)
		require.Equal(t, string(data), b.String(), name)
		if len(data) > 3 {
			p := make([]byte, 3)
			_, err = file.(*File).ReadAt(p, int64(len(data)-3))
			require.NoError(t, err)
			require.Equal(t, data[len(data)-3:], p)
			n, err := file.(*File).ReadAt(p, int64(len(data)-2))
			require.Equal(t, 2, n)
			require.ErrorIs(t, err, io.EOF)
		}
		sd, err := file.(*File).Descriptor(smb2.SecurityOwner | smb2.SecurityGroup | smb2.SecurityDACL)
		require.NoError(t, err)
		require.Greater(t, len(sd), 20)
		require.EqualValues(t, 1, sd[0], "the revision of a self-relative descriptor")
		ranges, err := file.(*File).Ranges()
		require.NoError(t, err)
		t.Logf("%.20s: descriptor of %d bytes, ranges %v", name, len(sd), ranges)
		streams, err := file.(*File).Streams()
		require.NoError(t, err)
		require.Empty(t, streams)
		require.NoError(t, file.Close())
		_, err = file.Read(make([]byte, 1))
		require.ErrorIs(t, err, fs.ErrClosed)
		require.Nil(t, file.(*File).SMB())
	}
	entries, err := f.ReadDir(path.Base(strings.ReplaceAll(many, `\`, "/")))
	require.NoError(t, err)
	require.Len(t, entries, 1000)
	_, err = f.Open(path.Join(base, "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	t.Log(err)
	require.Equal(t, smb2.StatusObjectNameNotFound, smb2.StatusOf(err))
	_, err = f.ReadFile(base)
	require.Error(t, err)
	fi, err := f.Lstat(base)
	require.NoError(t, err)
	require.True(t, fi.IsDir())
	sub, err := fs.Sub(f, base)
	require.NoError(t, err)
	require.NoError(t, fstest.TestFS(sub, "small", "empty", "ü 💾.txt", deep+"file"))

	ctx, cancel := context.WithCancel(t.Context())
	file, err := f.WithContext(ctx).OpenFile("big", nil)
	require.NoError(t, err)
	cancel()
	_, err = file.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, f.Close())
	_, err = file.Stat()
	require.True(t, errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled), err)
	_, err = f.Open(base)
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestSystemShareUnknown(t *testing.T) {
	_, unc := systemShareOf(t)
	_, err := OpenSystem(t.Context(), unc+"-none", nil)
	t.Log(err)
	require.Error(t, err)
	require.NotZero(t, smb2.StatusOf(err))
	_, err = OpenSystem(t.Context(), `C:\Windows`, nil)
	require.ErrorContains(t, err, "not a share's name")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = OpenSystem(ctx, unc, nil)
	require.ErrorIs(t, err, context.Canceled)
}
