package smbpipe

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"sync"
	"time"

	"github.com/oiweiwei/go-smb2.fork"
)

const (
	// transferSize is how much WriteTo reads at once.
	transferSize = 1 << 20
	// aheadSize is how much Read reads at once where it is asked for less.
	aheadSize = 64 << 10
)

// A file is an open file or directory of a share.
type file struct {
	fsys *shareFS
	name string

	// using is held for reading while f is used, and for writing while it is closed.
	using  sync.RWMutex
	f      *smb2.File
	closed bool

	mu     sync.Mutex
	off    int64
	ahead  []byte        // of the file, at off
	rest   []fs.DirEntry // of a directory, once listed is set
	listed bool
}

var (
	_ fs.ReadDirFile = (*file)(nil)
	_ io.ReaderAt    = (*file)(nil)
	_ io.Seeker      = (*file)(nil)
	_ io.WriterTo    = (*file)(nil)
)

// call runs an operation on the open file.
func (f *file) call(op string, do func() error) error {
	f.using.RLock()
	defer f.using.RUnlock()
	if f.closed {
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
	}
	return f.fsys.call(op, f.name, do)
}

// Close waits for reads that are underway.
func (f *file) Close() error {
	f.using.Lock()
	defer f.using.Unlock()
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.name, Err: fs.ErrClosed}
	}
	f.closed = true
	return f.fsys.call("close", f.name, f.f.Close)
}

func (f *file) Stat() (fs.FileInfo, error) {
	var fi fs.FileInfo
	err := f.call("stat", func() (err error) {
		fi, err = f.f.Stat()
		return err
	})
	if err != nil {
		return nil, err
	}
	return newInfo(f.name, fi, true), nil
}

// readAt reads once.
func (f *file) readAt(b []byte, off int64) (n int, err error) {
	err = f.call("read", func() (err error) {
		n, err = f.f.ReadAt(b, off)
		return err
	})
	n = max(0, n)
	if n == 0 && err == nil && len(b) > 0 {
		err = io.EOF
	}
	return n, err
}

func (f *file) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: fs.ErrInvalid}
	}
	for n := 0; ; {
		m, err := f.readAt(b[n:], off+int64(n))
		if n += m; n == len(b) || err != nil {
			return n, err
		}
	}
}

func (f *file) Read(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(b) >= aheadSize && len(f.ahead) == 0 {
		n, err := f.readAt(b, f.off)
		f.off += int64(n)
		return n, err
	}
	if len(f.ahead) == 0 && len(b) > 0 {
		buf := make([]byte, aheadSize)
		n, err := f.readAt(buf, f.off)
		if n == 0 {
			return 0, err
		}
		f.ahead = buf[:n]
	}
	n := copy(b, f.ahead)
	f.ahead = f.ahead[n:]
	f.off += int64(n)
	return n, nil
}

// WriteTo copies the file from its position on.
func (f *file) WriteTo(w io.Writer) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ahead = nil
	b := make([]byte, transferSize)
	for total := int64(0); ; {
		n, err := f.readAt(b, f.off)
		f.off += int64(n)
		if n > 0 {
			m, werr := w.Write(b[:n])
			if total += int64(m); werr != nil {
				return total, werr
			}
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

func (f *file) Seek(offset int64, whence int) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += f.off
	case io.SeekEnd:
		fi, err := f.Stat()
		if err != nil {
			return 0, err
		}
		offset += fi.Size()
	default:
		return 0, &fs.PathError{Op: "seek", Path: f.name, Err: fs.ErrInvalid}
	}
	if offset < 0 {
		return 0, &fs.PathError{Op: "seek", Path: f.name, Err: fs.ErrInvalid}
	}
	f.off, f.ahead = offset, nil
	return offset, nil
}

// ReadDir lists a directory, in the server's order. The first call reads all of it.
func (f *file) ReadDir(n int) ([]fs.DirEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.listed {
		var all []fs.FileInfo
		err := f.call("readdir", func() (err error) {
			all, err = f.f.Readdir(-1)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, fi := range all {
			f.rest = append(f.rest, fs.FileInfoToDirEntry(newInfo(fi.Name(), fi, false)))
		}
		f.listed = true
	}
	if n <= 0 {
		all := f.rest
		f.rest = nil
		return all, nil
	}
	if len(f.rest) == 0 {
		return nil, io.EOF
	}
	some := f.rest[:min(n, len(f.rest))]
	f.rest = f.rest[len(some):]
	return some, nil
}

// Attributes are what a server tells of a file beyond fs.FileInfo, whose Sys returns an *Attributes.
type Attributes struct {
	FileAttributes uint32 // MS-FSCC 2.6
	AllocationSize int64  // in bytes
	Created        time.Time
	Accessed       time.Time
	Changed        time.Time // attributes or contents, where ModTime is that of the contents
}

// File attributes (MS-FSCC 2.6).
const (
	attributeReadOnly     = 0x1
	attributeDirectory    = 0x10
	attributeReparsePoint = 0x400
)

// An info is an fs.FileInfo.
type info struct {
	name     string
	size     int64
	mode     fs.FileMode
	modified time.Time
	sys      *Attributes
}

// newInfo takes over what go-smb2 has read. Followed tells that a reparse point was followed to get there.
func newInfo(name string, fi fs.FileInfo, followed bool) *info {
	i := &info{name: path.Base(name), size: fi.Size(), mode: 0o666, modified: fi.ModTime(), sys: new(Attributes)}
	if s, ok := fi.Sys().(*smb2.FileStat); ok {
		i.sys = &Attributes{
			FileAttributes: s.FileAttributes, AllocationSize: s.AllocationSize,
			Created: s.CreationTime, Accessed: s.LastAccessTime, Changed: s.ChangeTime,
		}
	}
	a := i.sys.FileAttributes
	if a&attributeReadOnly != 0 {
		i.mode = 0o444
	}
	switch {
	case a&attributeDirectory == 0:
	// A junction or link: who walks the tree would leave it, or never come to an end.
	case a&attributeReparsePoint != 0 && !followed:
		i.mode |= fs.ModeIrregular
	default:
		i.mode |= fs.ModeDir | 0o111
		i.size = 0
	}
	return i
}

func (i *info) Name() string       { return i.name }
func (i *info) Size() int64        { return i.size }
func (i *info) Mode() fs.FileMode  { return i.mode }
func (i *info) ModTime() time.Time { return i.modified }
func (i *info) IsDir() bool        { return i.mode.IsDir() }
func (i *info) Sys() any           { return i.sys }
