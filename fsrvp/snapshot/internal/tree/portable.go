package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// newPortable is newRunner based on the standard library, for systems without something better.
func newPortable(dst string, src *os.File, cfg *Config) (runner, error) {
	if cfg.Clone {
		return nil, fmt.Errorf("clone: %w", errors.ErrUnsupported)
	}
	from, err := openPortable(src.Name())
	if err != nil {
		return nil, err
	}
	to, err := makePortable(dst, from, src)
	if err != nil {
		from.Close()
		return nil, err
	}
	to.noSync = cfg.NoSync
	return newCopier(from, to, skipped(src.Name(), cfg.Skip), cfg), nil
}

// makePortable makes the root of a copy if the source's path still leads to the open directory.
func makePortable(dst string, from *portableDir, src *os.File) (*portableDir, error) {
	opened, err := src.Stat()
	if err != nil {
		return nil, err
	}
	if again, err := from.root.Stat("."); err != nil {
		return nil, err
	} else if !os.SameFile(opened, again) {
		return nil, fmt.Errorf("%s is being replaced", src.Name())
	}
	if err := os.Mkdir(dst, 0o700); err != nil {
		return nil, err
	}
	return openPortable(dst)
}

// A portableDir is a directory opened with os.Root, from which no symbolic link leads out.
type portableDir struct {
	top    *os.Root // of the tree
	dev    uint64   // of the tree
	noSync bool     // of the copy
	path   string   // from top
	root   *os.Root
	list   *os.File // for names
}

func openPortable(path string) (*portableDir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	fi, err := root.Stat(".")
	if err != nil {
		root.Close()
		return nil, err
	}
	return &portableDir{top: root, dev: identify(fi).id.dev, path: ".", root: root}, nil
}

func (d *portableDir) Close() error {
	if d.list != nil {
		d.list.Close()
	}
	return d.root.Close()
}

func (d *portableDir) open(path string) (*portableDir, error) {
	root, err := d.root.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &portableDir{top: d.top, dev: d.dev, noSync: d.noSync, path: filepath.Join(d.path, path), root: root}, nil
}

func (d *portableDir) names() ([]string, error) {
	if d.list == nil {
		f, err := d.root.Open(".")
		if err != nil {
			return nil, err
		}
		d.list = f
	}
	names, err := d.list.Readdirnames(512)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}

func (d *portableDir) self() (info, error)                { return d.look(d.root.Stat(".")) }
func (d *portableDir) stat(name string) (info, error)     { return d.look(d.root.Lstat(name)) }
func (d *portableDir) mkdir(name string) error            { return d.root.Mkdir(name, 0o700) }
func (d *portableDir) unlock(name string) error           { return d.root.Chmod(name, 0o700) }
func (d *portableDir) loosen() error                      { return nil }
func (d *portableDir) sync() error                        { return nil } // each file and directory has been synced
func (d *portableDir) name(name string) string            { return filepath.Join(d.path, name) }
func (d *portableDir) unmake(name string)                 { d.root.Remove(name) }
func (d *portableDir) modeOf(in *info) (mode fs.FileMode) { return fs.FileMode(in.mode) & settable }

func (d *portableDir) remove(ctx context.Context, name string) error {
	return removeEntry(ctx, d.root, name, false)
}

// settable has the bits of a mode that can be set.
const settable = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

func (d *portableDir) look(fi fs.FileInfo, err error) (info, error) {
	if err != nil {
		return info{}, err
	}
	in := identify(fi)
	in.size, in.mode, in.mtime = fi.Size(), uint32(fi.Mode()), fi.ModTime()
	switch {
	case fi.Mode().IsRegular():
		in.kind = regular
	case fi.IsDir():
		in.kind = directory
	case fi.Mode()&fs.ModeSymlink != 0:
		in.kind = symlink
	}
	// A mounted volume is an irregular file on Windows, a directory of another device elsewhere.
	if fi.Mode()&fs.ModeIrregular != 0 || in.kind == directory && in.id.dev != d.dev {
		return in, fmt.Errorf("another file system is mounted there: %w", fsrvp.ErrNotSupported)
	}
	return in, nil
}

func (d *portableDir) file(ctx context.Context, from *portableDir, name string, in *info, data *dataCopier) (did copied,
	err error) {
	src, err := from.root.Open(name)
	if isGone(err) {
		return did, errReplaced
	}
	if err != nil {
		return did, inSource("open", err)
	}
	defer src.Close()
	opened, err := src.Stat()
	if err != nil {
		return did, err
	}
	if now, err := from.root.Lstat(name); err != nil || !os.SameFile(now, opened) || !opened.Mode().IsRegular() {
		return did, errReplaced
	}
	before, err := from.look(opened, nil)
	if err != nil {
		return did, err
	}
	dst, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return did, err
	}
	defer func() {
		if e := dst.Close(); err == nil {
			err = e
		}
		if err != nil {
			d.unmake(name)
		}
	}()
	if err := data.portable(ctx, dst, src, before.size); err != nil {
		return did, err
	}
	after, err := from.look(src.Stat())
	if err != nil {
		return did, err
	}
	if !d.noSync {
		if err := dst.Sync(); err != nil {
			return did, err
		}
	}
	did = copied{info: before, torn: before.stamp() != after.stamp()}
	return did, d.setMetadata(name, &after)
}

// portable copies the first size bytes of src, or fewer if src is shorter.
func (c *dataCopier) portable(ctx context.Context, dst, src *os.File, size int64) error {
	if err := dst.Truncate(0); err != nil {
		return err
	}
	for off := int64(0); off < size; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		part := io.NewSectionReader(src, off, min(size-off, chunk))
		n, err := io.Copy(io.NewOffsetWriter(dst, off), part)
		if err != nil || n == 0 {
			return err
		}
		off += n
		c.count(0, n)
	}
	return nil
}

func (d *portableDir) symlink(from *portableDir, name string, in *info) error {
	to, err := from.root.Readlink(name)
	if isGone(err) {
		return errReplaced
	}
	if err != nil {
		return inSource("readlink", err)
	}
	if err := d.root.Symlink(to, name); err != nil {
		return err
	}
	if err := chown(d.root, name, in); err != nil {
		d.unmake(name)
		return err
	}
	return nil
}

func (d *portableDir) special(*portableDir, string, *info) error { return errLeftOut }

func (d *portableDir) link(old *portableDir, oldName, name string) error {
	return d.top.Link(old.name(oldName), d.name(name))
}

func (d *portableDir) finish(in *info) error {
	if runtime.GOOS != "windows" && !d.noSync { // which cannot sync directories
		f, err := d.root.Open(".")
		if err != nil {
			return err
		}
		err = f.Sync()
		f.Close()
		if err != nil {
			return err
		}
	}
	return d.setMetadata(".", in)
}

func (d *portableDir) setMetadata(name string, in *info) error {
	if err := chown(d.root, name, in); err != nil {
		return err
	}
	if err := d.root.Chtimes(name, in.mtime, in.mtime); err != nil {
		return err
	}
	return d.root.Chmod(name, d.modeOf(in)) // last: it may make the file read-only
}
