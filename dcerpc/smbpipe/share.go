package smbpipe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
)

// OpenShare connects to a share, `\\server\share`, for reading. The file system implements fs.ReadDirFS, fs.ReadFileFS and fs.StatFS; its files
// implement io.ReaderAt and io.Seeker, and directories fs.ReadDirFile. All of it may be used by several goroutines at once, whose
// reads then run at once; a file's own position is for one of them.
//
// Symbolic links are followed where a file is opened. A directory that is one, or another reparse point, has the type
// fs.ModeIrregular in listings, so that who walks the tree stays in it. Permissions are those that the read-only attribute tells.
//
// The context bounds the connecting alone. The Closer ends everything that is open, with errors that match net.ErrClosed;
// so does the Dialer's Close. Other errors are *fs.PathErrors around an *Error.
func (d *Dialer) OpenShare(ctx context.Context, unc string) (fs.FS, io.Closer, error) {
	server, share, err := splitUNC(unc)
	if err != nil {
		return nil, nil, err
	}
	s, err := d.connect(ctx, server, share)
	if err != nil {
		return nil, nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		s.close()
		return nil, nil, errDialerClosed
	}
	if d.shares == nil {
		d.shares = make(map[*session]struct{})
	}
	d.shares[s] = struct{}{}
	fsys := &shareFS{s: s, unc: `\\` + server + `\` + share}
	return fsys, &shareCloser{d: d, s: s}, nil
}

// splitUNC takes `\\server\share` apart; slashes do as well.
func splitUNC(unc string) (server, share string, err error) {
	s, ok := strings.CutPrefix(strings.ReplaceAll(unc, "/", `\`), `\\`)
	server, share, _ = strings.Cut(s, `\`)
	share = strings.TrimSuffix(share, `\`)
	if !ok || server == "" || share == "" || strings.ContainsAny(share, "\\\x00") {
		return "", "", fmt.Errorf(`smbpipe: %q is not a share's name, as \\server\share is`, unc)
	}
	return server, share, nil
}

// A shareCloser ends a share's session.
type shareCloser struct {
	d    *Dialer
	s    *session
	once sync.Once
}

func (c *shareCloser) Close() error {
	c.once.Do(func() {
		c.d.mu.Lock()
		delete(c.d.shares, c.s)
		c.d.mu.Unlock()
		c.s.close()
	})
	return nil
}

// A shareFS is a share as an fs.FS.
type shareFS struct {
	s   *session
	unc string
}

var (
	_ fs.ReadDirFS  = (*shareFS)(nil)
	_ fs.ReadFileFS = (*shareFS)(nil)
	_ fs.StatFS     = (*shareFS)(nil)
)

// call runs one operation of go-smb2.
func (f *shareFS) call(op, name string, do func() error) error {
	err := safely(do)
	if errors.Is(err, errBadFrame) {
		f.s.g.fail(err)
	}
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &fs.PathError{Op: op, Path: name, Err: f.s.fault(op, f.unc+`\`+strings.ReplaceAll(name, "/", `\`), err)}
}

// smbName turns a name of package fs into one of SMB, which "." has none.
func smbName(op, name string) (string, error) {
	if !fs.ValidPath(name) || strings.ContainsAny(name, "\\:*?\"<>|\x00") {
		return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	if name == "." {
		return "", nil
	}
	return strings.ReplaceAll(name, "/", `\`), nil
}

// Open opens a file or a directory. What it gives implements io.WriterTo as well, in transfers of 1 MiB.
func (f *shareFS) Open(name string) (fs.File, error) {
	opened, err := f.open(name)
	if err != nil {
		return nil, err // not a nil *file
	}
	return opened, nil
}

func (f *shareFS) open(name string) (*file, error) {
	smb, err := smbName("open", name)
	if err != nil {
		return nil, err
	}
	out := &file{fsys: f, name: name}
	err = f.call("open", name, func() (err error) {
		out.f, err = f.s.tree.Open(smb)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (f *shareFS) Stat(name string) (fs.FileInfo, error) {
	smb, err := smbName("stat", name)
	if err != nil {
		return nil, err
	}
	var fi fs.FileInfo
	err = f.call("stat", name, func() (err error) {
		fi, err = f.s.tree.Stat(smb)
		return err
	})
	if err != nil {
		return nil, err
	}
	return newInfo(name, fi, true), nil
}

func (f *shareFS) ReadDir(name string) ([]fs.DirEntry, error) {
	dir, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	all, err := dir.ReadDir(-1)
	slices.SortFunc(all, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return all, err
}

func (f *shareFS) ReadFile(name string) ([]byte, error) {
	opened, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	var b bytes.Buffer
	_, err = opened.WriteTo(&b)
	return b.Bytes(), err
}
