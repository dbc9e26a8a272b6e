package sharefs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"strings"
	"sync"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
)

// A File is an open file or directory of a share.
type File struct {
	fsys    *FS
	name    string
	options *smb2.OpenOptions

	opened sync.Mutex
	f      handle
	of     share // the share in which f was open at its last use
	closed bool

	mu     sync.Mutex
	off    int64
	ahead  reader // for Read; nil before the first, and after a Seek
	piece  []byte // from ahead, not yet read
	rest   []smb2.DirEntry
	listed bool // the listing has begun
	ended  bool // the listing has ended
	empty  int  // pieces of the listing without an entry
}

var (
	_ fs.ReadDirFile = (*File)(nil)
	_ io.ReaderAt    = (*File)(nil)
	_ io.Seeker      = (*File)(nil)
	_ io.WriterTo    = (*File)(nil)
)

// fault returns the error of an operation on the file: fs.ErrClosed after its Close.
func (f *File) fault(op string, err error) error {
	if _, of := f.current(); errors.Is(err, net.ErrClosed) && of.alive() {
		err = errors.Join(err, fs.ErrClosed)
	}
	return fault(op, f.name, err)
}

// SMB returns the underlying file of package smb2, or nil if the system has opened the share.
func (f *File) SMB() *smb2.File {
	if own, ok := f.handle().(smbFile); ok {
		return own.File
	}
	return nil
}

// Close closes the file. It does not wait for the server.
func (f *File) Close() error {
	f.mu.Lock()
	f.drop()
	f.mu.Unlock()
	f.opened.Lock()
	f.closed = true
	h := f.f
	f.opened.Unlock()
	return f.fault("close", h.CloseLater())
}

// drop discards data read ahead. The caller holds mu.
func (f *File) drop() {
	if f.ahead != nil {
		f.ahead.Stop()
	}
	f.ahead, f.piece = nil, nil
}

// Stat asks the server for current information.
func (f *File) Stat() (fs.FileInfo, error) {
	i, err := f.status()
	if err != nil {
		return nil, f.fault("stat", err)
	}
	return newInfo(f.name, i, 0, 0, true), nil
}

func (f *File) status() (i smb2.FileInfo, err error) {
	err = f.run(func(h handle) (err error) {
		i, err = h.Stat(f.fsys.ctx)
		return err
	})
	return i, err
}

// ReadAt reads with several concurrent requests if b is longer than one can read.
func (f *File) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: fs.ErrInvalid}
	}
	n := 0
	err := f.run(func(h handle) error {
		m, err := h.ReadAt(f.fsys.ctx, b[n:], off+int64(n))
		n += m
		return err
	})
	return n, f.fault("read", err)
}

// Read reads from the current position, and reads ahead.
func (f *File) Read(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(b) == 0 {
		return 0, nil
	}
	if len(f.piece) == 0 {
		err := f.run(func(h handle) (err error) {
			if f.ahead == nil {
				f.ahead = h.reader(f.off, -1, f.fsys.cfg.Chunk, f.fsys.cfg.Window)
			}
			if f.piece, err = f.ahead.Next(f.fsys.ctx); err != nil {
				f.ahead = nil
			}
			return err
		})
		if err != nil {
			return 0, f.fault("read", err)
		}
	}
	n := copy(b, f.piece)
	f.piece = f.piece[n:]
	f.off += int64(n)
	return n, nil
}

// WriteTo copies the file from its position to its end, reading ahead. From a sparse file it reads
// only the data, and writes zeros for the holes; see also [File.DataTo].
func (f *File) WriteTo(w io.Writer) (total int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop()
	info := f.handle().Info()
	if end := int64(info.EndOfFile & (1<<63 - 1)); info.Attributes&smb2.AttributeSparse != 0 && end > f.off {
		if total, err = f.writeSparse(w, end); err != nil {
			return total, err
		}
	}
	n, err := f.copyTo(w, -1) // also reads what a sparse file has grown by
	return total + n, err
}

// copyTo copies length bytes, or all if that is negative, from the position on.
func (f *File) copyTo(w io.Writer, length int64) (total int64, err error) {
	total, err = f.pieces(f.off, length, func(p []byte, _ int64) (int, error) { return w.Write(p) })
	f.off += total
	return total, err
}

// pieces passes length bytes from off on, or all if that is negative, to write, in order, with the
// offset of each piece. It returns the number of bytes written.
func (f *File) pieces(off, length int64, write func(p []byte, at int64) (int, error)) (total int64, err error) {
	var written error // an error of write, unrelated to the connection
	err = f.run(func(h handle) error {
		left := length
		if left >= 0 {
			left -= total
		}
		r := h.reader(off+total, left, f.fsys.cfg.Chunk, f.fsys.cfg.Window)
		defer r.Stop()
		for {
			p, err := r.Next(f.fsys.ctx)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			var n int
			n, written = write(p, off+total)
			if total += int64(n); written != nil {
				return nil
			}
		}
	})
	if written != nil {
		return total, written
	}
	return total, f.fault("read", err)
}

// zeros are the contents of holes.
var zeros [1 << 20]byte

// writeSparse copies up to end. If the server does not support ranges, it reads everything.
func (f *File) writeSparse(w io.Writer, end int64) (total int64, err error) {
	ranges, err := f.ranges(f.off, end-f.off)
	if err != nil {
		return 0, nil
	}
	for _, r := range append(ranges, smb2.Range{Offset: end}) {
		for f.off < r.Offset {
			n, err := w.Write(zeros[:min(int64(len(zeros)), r.Offset-f.off)])
			total += int64(n)
			f.off += int64(n)
			if err != nil {
				return total, err
			}
		}
		if r.Length == 0 {
			break
		}
		n, err := f.copyTo(w, r.Length)
		total += n
		if err != nil {
			return total, err
		}
		if n < r.Length {
			return total, nil // the file was truncated meanwhile
		}
	}
	return total, nil
}

func (f *File) ranges(off, length int64) (ranges []smb2.Range, err error) {
	err = f.run(func(h handle) (err error) {
		ranges, err = h.AllocatedRanges(f.fsys.ctx, off, length)
		return err
	})
	return ranges, err
}

// Ranges returns the parts of the file that hold data, in order; the rest reads as zeros. If the
// server does not support this, the result is the whole file.
func (f *File) Ranges() ([]smb2.Range, error) {
	i, err := f.status()
	if err != nil {
		return nil, f.fault("ranges", err)
	}
	size := int64(i.EndOfFile & (1<<63 - 1))
	if size == 0 {
		return nil, nil
	}
	ranges, err := f.ranges(0, size)
	switch smb2.StatusOf(err) {
	case smb2.StatusInvalidDeviceRequest, smb2.StatusNotSupported, smb2.StatusNotImplemented,
		smb2.StatusInvalidParameter:
		return []smb2.Range{{Offset: 0, Length: size}}, nil
	}
	return ranges, f.fault("ranges", err)
}

// DataTo copies the parts of the file that hold data to the same places of w, and returns their
// number of bytes. It does not use or change the position.
func (f *File) DataTo(w io.WriterAt) (total int64, err error) {
	ranges, err := f.Ranges()
	if err != nil {
		return 0, err
	}
	for _, part := range ranges {
		n, err := f.pieces(part.Offset, part.Length, w.WriteAt)
		if total += n; err != nil {
			return total, err
		}
	}
	return total, nil
}

// Seek moves the position.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += f.off
	case io.SeekEnd:
		i, err := f.Stat()
		if err != nil {
			return 0, err
		}
		offset += i.Size()
	default:
		return 0, &fs.PathError{Op: "seek", Path: f.name, Err: fs.ErrInvalid}
	}
	if offset < 0 {
		return 0, &fs.PathError{Op: "seek", Path: f.name, Err: fs.ErrInvalid}
	}
	if offset != f.off {
		f.drop()
		f.off = offset
	}
	return offset, nil
}

// ReadDir lists a directory, in the server's order. With n > 0 it keeps only one piece of the
// listing in memory.
func (f *File) ReadDir(n int) ([]fs.DirEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	limit := f.fsys.cfg.MaxDirEntries
	if limit == 0 {
		limit = 1 << 20
	}
	var out []fs.DirEntry
	for n <= 0 || len(out) < n {
		if len(f.rest) == 0 {
			if err := f.list(); err == io.EOF {
				break
			} else if err != nil {
				return out, err
			}
		}
		take := len(f.rest)
		if n > 0 {
			take = min(take, n-len(out))
		} else if len(out)+take > limit {
			return out, f.fault("readdir", tooMany(limit))
		}
		for _, e := range f.rest[:take] {
			out = append(out, newInfo(e.Name, e.Info, e.ReparseTag, e.ID, false))
		}
		f.rest = f.rest[take:]
	}
	if n > 0 && len(out) == 0 {
		return nil, io.EOF
	}
	return out, nil
}

// maxEmpty is the number of pieces of a listing that may have no entries; a piece with only "." and
// ".." counts as empty.
const maxEmpty = 8

var errEndless = errors.New("the server's listing has no end")

// list gets the next piece of the listing. The caller holds mu.
func (f *File) list() error {
	if f.ended {
		return io.EOF
	}
	piece, err := f.handle().List(f.fsys.ctx, !f.listed)
	f.listed = true
	if err == io.EOF {
		f.ended = true
		return io.EOF
	}
	if err != nil {
		return f.fault("readdir", err)
	}
	if f.rest = piece; len(piece) == 0 {
		if f.empty++; f.empty > maxEmpty {
			return f.fault("readdir", errEndless)
		}
	}
	return nil
}

// Descriptor returns parts of the security descriptor, such as
// [smb2.SecurityOwner]|[smb2.SecurityGroup]|[smb2.SecurityDACL], in its self-relative form. The
// SACL needs a file that was opened with [smb2.AccessSystemSecurity].
func (f *File) Descriptor(parts uint32) ([]byte, error) {
	var d []byte
	err := f.run(func(h handle) (err error) {
		d, err = h.Descriptor(f.fsys.ctx, parts)
		return err
	})
	return d, f.fault("descriptor", err)
}

// Streams returns the alternate data streams, without the unnamed one.
func (f *File) Streams() ([]smb2.Stream, error) {
	var all []smb2.Stream
	err := f.run(func(h handle) (err error) {
		all, err = h.Streams(f.fsys.ctx)
		return err
	})
	if err != nil {
		return nil, f.fault("streams", err)
	}
	var list []smb2.Stream
	for _, s := range all {
		if s.Name != "" {
			list = append(list, s)
		}
	}
	return list, nil
}

// OpenStream opens an alternate stream of the file by its name, "Zone.Identifier".
func (f *File) OpenStream(name string) (*File, error) {
	if name == "" || strings.ContainsAny(name, "/\\:\x00") {
		return nil, &fs.PathError{Op: "open", Path: f.name + ":" + name, Err: fs.ErrInvalid}
	}
	o := f.fsys.options(0)
	smb, called := f.handle().Name()+":"+name, f.name+":"+name
	stream, err := f.fsys.open(smb, called, o)
	if e := (*smb2.Error)(nil); errors.As(err, &e) && e.Status == smb2.StatusNotSupported && !o.NoBackupIntent {
		// Samba 4.22 fails to open streams with backup intent for users with the backup privilege.
		// Without it the file's ACL decides.
		o.NoBackupIntent = true
		stream, err = f.fsys.open(smb, called, o)
	}
	return stream, err
}

// ReparsePoint returns the data of a reparse point, tag included, that was opened with
// [smb2.OptionReparsePoint] (MS-FSCC 2.1.2).
func (f *File) ReparsePoint() ([]byte, error) {
	var b []byte
	err := f.run(func(h handle) (err error) {
		b, err = h.ReparsePoint(f.fsys.ctx)
		return err
	})
	return bytes.Clone(b), f.fault("readlink", err)
}
