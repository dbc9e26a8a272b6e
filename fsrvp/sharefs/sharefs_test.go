package sharefs

import (
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
)

func TestNames(t *testing.T) {
	for in, want := range map[string]string{
		".": "", "a": "a", "a/b": `a\b`, "ü/💾": `ü\💾`, "half \xed\xa0\xbd": "half \xed\xa0\xbd", "..a/...": `..a\...`,
	} {
		got, err := smbName("open", in)
		require.NoError(t, err, "%q", in)
		require.Equal(t, want, got)
	}
	for _, in := range []string{"", "/", "/a", "a/", "a//b", "..", "a/../b", "a/.", "./a", `a\b`, "a:b", "a\x00", "a*",
		"\xff", "a\xed\xa0"} {
		_, err := smbName("open", in)
		require.ErrorIs(t, err, fs.ErrInvalid, "%q", in)
	}
}

func TestInfo(t *testing.T) {
	const point, dir = smb2.AttributeReparsePoint, smb2.AttributeDirectory
	for _, tt := range []struct {
		name       string
		attributes uint32
		tag        uint32
		followed   bool
		mode       fs.FileMode
	}{
		{"file", smb2.AttributeArchive, 0, false, 0o666},
		{"read-only file", smb2.AttributeReadOnly, 0, false, 0o444},
		{"directory", dir, 0, false, fs.ModeDir | 0o777},
		{"symbolic link", point, smb2.ReparseSymlink, false, fs.ModeSymlink | 0o666},
		{"symbolic link to a directory", point | dir, smb2.ReparseSymlink, false, fs.ModeSymlink | 0o666},
		{"junction", point | dir, smb2.ReparseMountPoint, false, fs.ModeIrregular | 0o666},
		{"link of DFS", point | dir, smb2.ReparseDFS, false, fs.ModeIrregular | 0o666},
		{"deduplicated file", point, smb2.ReparseDedup, false, 0o666},
		{"file in a cloud", point, smb2.ReparseCloud | 0x3000, false, 0o666},
		{"directory in a cloud", point | dir, smb2.ReparseCloud, false, fs.ModeDir | 0o777},
		{"what is unknown", point, 0x80001234, false, fs.ModeIrregular | 0o666},
		{"what the server does not name", point | dir, 0, false, fs.ModeIrregular | 0o666},
		{"a directory that a link led to", point | dir, 0, true, fs.ModeDir | 0o777},
	} {
		i := newInfo("a/"+tt.name, smb2.FileInfo{Attributes: tt.attributes, EndOfFile: 9, Written: 132223104000000000},
			tt.tag, 7, tt.followed)
		require.Equal(t, tt.mode, i.Mode(), tt.name)
		require.Equal(t, tt.name, i.Name())
		require.Equal(t, tt.mode.Type(), i.Type())
		require.Equal(t, i.Mode().IsDir(), i.Size() == 0, tt.name)
		require.True(t, i.ModTime().Equal(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)))
		a := i.Sys().(*Attributes)
		require.Equal(t, tt.attributes, a.FileAttributes)
		require.Equal(t, smb2.KindOfReparse(tt.tag), a.Reparse())
		require.EqualValues(t, 7, a.ID)
	}
}
