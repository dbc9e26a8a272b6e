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

// copyPortable is Copy with what the standard library offers, on systems that have nothing better.
func copyPortable(ctx context.Context, dst, src string, cfg *Config) error {
	if cfg.Clone {
		return fmt.Errorf("clone: %w", errors.ErrUnsupported)
	}
	skip := make(map[string]bool)
	for _, path := range cfg.Skip {
		if rel, err := filepath.Rel(src, path); err == nil {
			skip[rel] = true
		}
	}
	from, err := openPortable(src)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := os.Mkdir(dst, 0o700); err != nil {
		return err
	}
	to, err := openPortable(dst)
	if err != nil {
		return err
	}
	defer to.Close()
	w := &walk[*portableDir]{
		cfg: cfg, src: from, dst: to, skip: skip, tasks: newQueue[task](),
		data: &dataCopier{progress: cfg.Progress},
	}
	return w.copy(ctx)
}

// A portableDir is a directory by os.Root, which no symbolic link leads out of.
type portableDir struct {
	top  *os.Root // of the tree
	dev  uint64   // of the tree
	path string   // from top
	root *os.Root
	list *os.File // for names
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
	return &portableDir{top: d.top, dev: d.dev, path: filepath.Join(d.path, path), root: root}, nil
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
func (d *portableDir) mkdir(path string) error            { return d.root.Mkdir(path, 0o700) }
func (d *portableDir) sync() error                        { return nil } // files and directories were, each
func (d *portableDir) name(name string) string            { return filepath.Join(d.path, name) }
func (d *portableDir) unmake(name string)                 { d.root.Remove(name) }
func (d *portableDir) modeOf(in *info) (mode fs.FileMode) { return fs.FileMode(in.mode) & settable }

// settable are the bits of a mode that can be set.
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

func (d *portableDir) file(ctx context.Context, from *portableDir, name string, in *info, data *dataCopier) (changed bool, err error) {
	src, err := from.root.Open(name)
	if isGone(err) {
		return false, errReplaced
	}
	if err != nil {
		return false, err
	}
	defer src.Close()
	before, err := src.Stat()
	if err != nil {
		return false, err
	}
	if now, err := from.root.Lstat(name); err != nil || !os.SameFile(now, before) || !before.Mode().IsRegular() {
		return false, errReplaced
	}
	dst, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false, err
	}
	defer func() {
		if e := dst.Close(); err == nil {
			err = e
		}
		if err != nil {
			d.unmake(name)
		}
	}()
	for try := 0; ; try++ {
		if err := data.portable(ctx, dst, src, before.Size()); err != nil {
			return false, err
		}
		after, err := src.Stat()
		if err != nil {
			return false, err
		}
		changed = before.Size() != after.Size() || !before.ModTime().Equal(after.ModTime())
		before = after
		if !changed || try == rereads {
			break
		}
	}
	if err := dst.Sync(); err != nil {
		return false, err
	}
	last, err := from.look(before, nil)
	if err != nil {
		return false, err
	}
	return changed, d.setMetadata(name, &last)
}

// portable copies the first size bytes of src, or what there is.
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
		return err
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
	if runtime.GOOS != "windows" { // which has no sync of directories
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

// rereads is how often a file that changed while it was read is read again.
const rereads = 2
