package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// archive writes the copies of a set into one tar stream.
func archive(ctx context.Context, w io.Writer, src source, set *provider.Set, rep *report) (err error) {
	tw := tar.NewWriter(w)
	for _, c := range set.Copies {
		if err := archiveCopy(ctx, tw, src, c, rep); err != nil {
			return fmt.Errorf("reading %s, the copy of %s: %w", c.Path, c.Share, err)
		}
	}
	return tw.Close()
}

func archiveCopy(ctx context.Context, tw *tar.Writer, src source, c provider.Copy, rep *report) (err error) {
	fsys, closer, err := src.open(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	if fsys, err = c.Sub(fsys); err != nil {
		return err
	}
	rep.begin(c)
	buf := make([]byte, 1<<20)
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if name == "." {
			return nil
		}
		return archiveEntry(tw, fsys, path.Join(src.prefix(c.Share), name), name, d, buf, rep)
	})
	rep.end()
	return err
}

// archiveEntry writes one file, directory or link. Sockets are left out: tar has no place for them.
func archiveEntry(tw *tar.Writer, fsys fs.FS, as, name string, d fs.DirEntry, buf []byte, rep *report) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	if info.Mode().Type()&(fs.ModeSocket|fs.ModeIrregular) != 0 {
		rep.skipped(name, info.Mode())
		return nil
	}
	link := ""
	if info.Mode().Type() == fs.ModeSymlink {
		if link, err = fs.ReadLink(fsys, name); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h.Name = as
	if info.IsDir() {
		h.Name += "/"
	}
	h.Format = tar.FormatPAX // whole times, any length of name
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	f, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{tw}, struct{ io.Reader }{rep.reader(f)}, buf)
	if err != nil {
		return err
	}
	rep.file(n)
	return nil
}
