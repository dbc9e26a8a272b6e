package snapdir

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

func TestCheckOutside(t *testing.T) {
	require.NoError(t, CheckOutside("/srv/.fsrvp", "/srv/vms"))
	require.ErrorIs(t, CheckOutside("/srv/.fsrvp", "/srv"), fsrvp.ErrNotSupported)
	require.ErrorIs(t, CheckOutside("/srv", "/srv"), fsrvp.ErrNotSupported)
}

func TestMake(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "snaps")
	require.NoError(t, Make(dir))
	require.NoError(t, Make(dir), "again")
	fi, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(Mode), fi.Mode().Perm())

	require.ErrorIs(t, Make(filepath.Join(base, "no", "parent")), os.ErrNotExist)

	link := filepath.Join(base, "link")
	require.NoError(t, os.Symlink(dir, link))
	require.Error(t, Make(link), "a symbolic link")

	require.NoError(t, os.Chmod(dir, 0o777))
	require.Error(t, Make(dir), "others may write")
	require.NoError(t, os.Chmod(dir, 0o711))
	require.NoError(t, os.Chmod(base, 0o777))
	require.Error(t, Make(dir), "others may replace it")
	require.NoError(t, os.Chmod(base, 0o777|os.ModeSticky))
	require.NoError(t, Make(dir), "a sticky parent, such as /tmp")
}

func TestListAndFind(t *testing.T) {
	dir := t.TempDir()
	d := &Dirs{Kind: "reflink", Paths: []string{dir, dir, filepath.Join(dir, "missing")}}
	a, b := fsrvp.NewCopyID(), fsrvp.NewCopyID()
	for _, name := range []string{
		d.Path(dir, a), d.Temp(dir, a), d.Temp(dir, b),
		filepath.Join(dir, "reflink-nothing"), filepath.Join(dir, "copy-"+a.String()),
		filepath.Join(dir, "reflink-{"+a.String()+"}"),
	} {
		require.NoError(t, os.Mkdir(name, 0o700))
	}
	all, err := d.List()
	require.NoError(t, err)
	require.ElementsMatch(t, []Entry{{a, d.Path(dir, a), false}, {a, d.Temp(dir, a), true}, {b, d.Temp(dir, b), true}}, all)

	found, err := d.Find(a)
	require.NoError(t, err)
	require.ElementsMatch(t, []Entry{{a, d.Path(dir, a), false}, {a, d.Temp(dir, a), true}}, found)
	found, err = d.Find(fsrvp.NewCopyID())
	require.NoError(t, err)
	require.Empty(t, found)
}

func TestCheckPaths(t *testing.T) {
	require.NoError(t, CheckPaths(t.TempDir()))
	require.Error(t, CheckPaths(t.TempDir(), "relative"))
	require.Error(t, CheckPaths(t.TempDir()+"/../x"))
}
