package snapdir

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
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
	me := backend.Mark{Owner: backend.NewOwner("here"), Sequence: 17}
	other := backend.Mark{Owner: backend.NewOwner("there")}
	old := backend.Mark{} // as agents made them that knew no marks
	a, b, c := fsrvp.NewCopyID(), fsrvp.NewCopyID(), fsrvp.NewCopyID()
	for _, name := range []string{
		d.Path(dir, a, me), d.Temp(dir, a, me), d.Temp(dir, b, old), d.Path(dir, c, other),
		filepath.Join(dir, "reflink-nothing"), filepath.Join(dir, "copy-"+a.String()),
		filepath.Join(dir, "reflink-{"+a.String()+"}"), d.Path(dir, a, old) + "@", d.Path(dir, a, me) + "x",
	} {
		require.NoError(t, os.Mkdir(name, 0o700))
	}
	require.Equal(t, "reflink-"+a.String()+"@"+me.Owner.String()+".17", filepath.Base(d.Path(dir, a, me)))
	require.Equal(t, "reflink-"+a.String(), filepath.Base(d.Path(dir, a, old)))
	all, err := d.List()
	require.NoError(t, err)
	ofA := []Entry{{ID: a, Mark: me, Dir: dir, Path: d.Path(dir, a, me)},
		{ID: a, Mark: me, Dir: dir, Path: d.Temp(dir, a, me), Temp: true}}
	ofB := []Entry{{ID: b, Mark: old, Dir: dir, Path: d.Temp(dir, b, old), Temp: true}}
	require.ElementsMatch(t, append([]Entry{{ID: c, Mark: other, Dir: dir, Path: d.Path(dir, c, other)}},
		append(ofA, ofB...)...), all)

	found, err := d.Find(a, me.Owner)
	require.NoError(t, err)
	require.ElementsMatch(t, ofA, found)
	found, err = d.Find(b, me.Owner)
	require.NoError(t, err)
	require.Equal(t, ofB, found, "without a mark it is anybody's whose table knows it")
	for owner, id := range map[backend.Owner]fsrvp.CopyID{me.Owner: c, other.Owner: a, {}: a} {
		_, err = d.Find(id, owner)
		require.ErrorIs(t, err, backend.ErrForeign)
	}
	found, err = d.Find(fsrvp.NewCopyID(), me.Owner)
	require.NoError(t, err)
	require.Empty(t, found)
	require.ErrorIs(t, d.CheckFree(c), fsrvp.ErrObjectAlreadyExists)
	require.NoError(t, d.CheckFree(fsrvp.NewCopyID()))
}

func TestCheckPaths(t *testing.T) {
	require.NoError(t, CheckPaths(t.TempDir()))
	require.Error(t, CheckPaths(t.TempDir(), "relative"))
	require.Error(t, CheckPaths(t.TempDir()+"/../x"))
}
