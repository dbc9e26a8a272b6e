package redirector

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
)

const (
	// outputSize is the size of the buffer for listings and queries, in bytes.
	outputSize = 64 << 10
	// maxOutput bounds the outputs that may be longer.
	maxOutput = 16 << 20
	// maxRead is the largest single read, in bytes.
	maxRead = 8 << 20
	// maxRanges bounds the allocated ranges of a file.
	maxRanges = 4 << 20
	// cancelInterval is the time after which a call is cancelled again, since it may not have begun
	// when it was first cancelled.
	cancelInterval = 10 * time.Millisecond
)

// A File is an open file or directory. It is safe for concurrent use.
type File struct {
	s    *Share
	h    *handle
	name string
	info smb2.FileInfo
}

func newFile(s *Share, n native, name string) *File {
	f := &File{s: s, h: &handle{n: n}, name: name}
	runtime.AddCleanup(f, func(h *handle) { h.close() }, f.h)
	return f
}

// A handle is closed as soon as close was called and nothing uses it.
type handle struct {
	n native

	mu     sync.Mutex
	users  int
	closed bool
}

func (h *handle) use() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.users++
	}
	return !h.closed
}

func (h *handle) unuse() {
	h.mu.Lock()
	h.users--
	last := h.closed && h.users == 0
	h.mu.Unlock()
	if last {
		h.n.close()
	}
}

// close closes the handle, or cancels the calls that use it, the last of which then closes it. It
// reports whether the handle was open.
func (h *handle) close() bool {
	h.mu.Lock()
	was, users := h.closed, h.users
	h.closed = true
	if !was && users > 0 {
		h.n.cancel()
	}
	h.mu.Unlock()
	if !was && users == 0 {
		h.n.close()
	}
	return !was
}

func (h *handle) isClosed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}

// do makes a system call, and cancels it when the context ends.
func (h *handle) do(ctx context.Context, call func() smb2.Status) (smb2.Status, error) {
	if !h.use() {
		return 0, net.ErrClosed
	}
	defer h.unuse()
	for {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		ended := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			for {
				h.n.cancel()
				select {
				case <-ended:
					return
				case <-time.After(cancelInterval):
				}
			}
		})
		status := call()
		close(ended)
		stop()
		switch {
		case h.isClosed() && status.IsError():
			return 0, net.ErrClosed
		case status == smb2.StatusCancelled && ctx.Err() == nil:
			continue // the cancellation was meant for another call
		case status == smb2.StatusCancelled:
			return 0, context.Cause(ctx)
		}
		return status, nil
	}
}

// call is do with the file's errors. Statuses in ok are not errors.
func (f *File) call(ctx context.Context, op string, call func() smb2.Status, ok ...smb2.Status) (smb2.Status, error) {
	status, err := f.h.do(ctx, call)
	if err != nil {
		return 0, f.s.failure(op, f.name, err, 0)
	}
	for _, s := range ok {
		if status == s {
			return status, nil
		}
	}
	if status != smb2.StatusSuccess {
		return status, f.s.failure(op, f.name, nil, status)
	}
	return status, nil
}

// malformed returns the error for a malformed answer.
func (f *File) malformed(err error) error { return f.s.failure(smb2.OpQuery, f.name, err, 0) }

// Name returns the name that the file was opened by.
func (f *File) Name() string { return f.name }

// Info returns the information about the file when it was opened.
func (f *File) Info() smb2.FileInfo { return f.info }

// Close closes the file.
func (f *File) Close() error {
	if !f.h.close() {
		return f.s.failure(smb2.OpClose, f.name, net.ErrClosed, 0)
	}
	f.s.forget(f)
	return nil
}

// CloseLater is Close.
func (f *File) CloseLater() error { return f.Close() }

// query asks for information of a class. It reads up to 64 KiB, or more if the class is a list.
func (f *File) query(ctx context.Context, class uint32, size int) ([]byte, error) {
	for {
		out, n := make([]byte, size), 0
		status, err := f.call(ctx, smb2.OpQuery, func() (s smb2.Status) {
			n, s = f.h.n.queryInformation(class, out)
			return s
		}, smb2.StatusBufferOverflow)
		if err != nil {
			return nil, err
		}
		if status == smb2.StatusBufferOverflow && class == classStream && size < maxOutput {
			size *= 4
			continue
		}
		if n > len(out) {
			return nil, f.malformed(fmt.Errorf("%w: %d bytes in %d", smb2.ErrMessage, n, len(out)))
		}
		return out[:n], nil
	}
}

// lacks reports whether err means that the system does not support a query.
func lacks(err error) bool {
	switch smb2.StatusOf(err) {
	case smb2.StatusNotImplemented, smb2.StatusInvalidInfoClass, smb2.StatusNotSupported,
		smb2.StatusInvalidDeviceRequest,
		smb2.StatusInvalidParameter:
		return true
	}
	return false
}

// Stat returns the current information about the file.
func (f *File) Stat(ctx context.Context) (smb2.FileInfo, error) {
	out, err := f.query(ctx, classNetworkOpen, 56)
	if lacks(err) { // Wine
		return f.statParts(ctx)
	}
	if err != nil {
		return smb2.FileInfo{}, err
	}
	info, err := smb2.ParseFileInfo(out)
	if err != nil {
		return info, f.malformed(err)
	}
	return info, nil
}

// statParts asks for the parts of FileNetworkOpenInformation: FileBasicInformation has times and
// attributes, FileStandardInformation sizes.
func (f *File) statParts(ctx context.Context) (smb2.FileInfo, error) {
	basic, err := f.query(ctx, classBasic, 40)
	if err != nil {
		return smb2.FileInfo{}, err
	}
	standard, err := f.query(ctx, classStandard, 24)
	if err != nil {
		return smb2.FileInfo{}, err
	}
	if len(basic) < 36 || len(standard) < 16 {
		return smb2.FileInfo{}, f.malformed(fmt.Errorf("%w: file information of %d and %d bytes", smb2.ErrMessage,
			len(basic), len(standard)))
	}
	le := binary.LittleEndian
	return smb2.FileInfo{
		Created: le.Uint64(basic), Accessed: le.Uint64(basic[8:]), Written: le.Uint64(basic[16:]), Changed: le.Uint64(basic[24:]),
		AllocationSize: le.Uint64(standard), EndOfFile: le.Uint64(standard[8:]), Attributes: le.Uint32(basic[32:]),
	}, nil
}

// ReparseTag returns the tag of a reparse point that was opened with [smb2.OptionReparsePoint]; zero
// if it is not one.
func (f *File) ReparseTag(ctx context.Context) (uint32, error) {
	out, err := f.query(ctx, classAttributeTag, 8)
	if err != nil {
		return 0, err
	}
	if len(out) < 8 {
		return 0, f.malformed(fmt.Errorf("%w: FileAttributeTagInformation of %d bytes", smb2.ErrMessage, len(out)))
	}
	if binary.LittleEndian.Uint32(out)&smb2.AttributeReparsePoint == 0 {
		return 0, nil
	}
	return binary.LittleEndian.Uint32(out[4:]), nil
}

// Streams returns the data streams of the file, the unnamed one included; nil if the system or the
// server has no streams.
func (f *File) Streams(ctx context.Context) ([]smb2.Stream, error) {
	out, err := f.query(ctx, classStream, outputSize)
	if lacks(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := smb2.ParseStreams(out)
	if err != nil {
		return nil, f.malformed(err)
	}
	return list, nil
}

// List returns the next piece of a directory's listing, in the server's order; with restart it
// begins again. It returns [io.EOF] at the end.
func (f *File) List(ctx context.Context, restart bool) ([]smb2.DirEntry, error) {
	out, n := make([]byte, outputSize), 0
	status, err := f.call(ctx, smb2.OpList, func() (s smb2.Status) {
		n, s = f.h.n.queryDirectory(restart, out)
		return s
	}, smb2.StatusNoMoreFiles, smb2.StatusNoSuchFile)
	if err != nil {
		return nil, err
	}
	if status != smb2.StatusSuccess {
		return nil, io.EOF
	}
	list, err := smb2.ParseDirEntries(out[:min(n, len(out))], nil)
	if err != nil {
		return nil, f.malformed(err)
	}
	return list, nil
}

// Descriptor returns parts of the security descriptor, such as [smb2.SecurityOwner], in its
// self-relative form.
func (f *File) Descriptor(ctx context.Context, parts uint32) ([]byte, error) {
	for size := 4 << 10; ; {
		out, n := make([]byte, size), 0
		status, err := f.call(ctx, smb2.OpQuery, func() (s smb2.Status) {
			n, s = f.h.n.querySecurity(parts, out)
			return s
		}, smb2.StatusBufferTooSmall)
		switch {
		case err != nil:
			return nil, err
		case status == smb2.StatusSuccess && n <= len(out):
			return out[:n], nil
		case n <= size || n > maxOutput:
			return nil, f.malformed(fmt.Errorf("%w: a descriptor of %d bytes", smb2.ErrMessage, n))
		}
		size = n
	}
}

// control runs a control code. StatusBufferOverflow means that not all of the output fitted.
func (f *File) control(ctx context.Context, code uint32, in, out []byte) ([]byte, smb2.Status, error) {
	n := 0
	status, err := f.call(ctx, smb2.OpQuery, func() (s smb2.Status) {
		n, s = f.h.n.control(code, in, out)
		return s
	}, smb2.StatusBufferOverflow)
	return out[:min(n, len(out))], status, err
}

// ReparsePoint returns the data of a reparse point that was opened with [smb2.OptionReparsePoint]
// (MS-FSCC 2.1.2).
func (f *File) ReparsePoint(ctx context.Context) ([]byte, error) {
	out, _, err := f.control(ctx, smb2.FSCTLGetReparsePoint, nil, make([]byte, outputSize)) // 16 KiB at most
	return out, err
}

// AllocatedRanges returns the parts of the file between offset and offset+length that hold data, in
// order; the rest reads as zeros. A system that does not support this returns
// StatusInvalidDeviceRequest, StatusNotSupported or the like.
func (f *File) AllocatedRanges(ctx context.Context, offset, length int64) ([]smb2.Range, error) {
	var all []smb2.Range
	end := offset + length
	for round := 0; offset < end; round++ {
		in := binary.LittleEndian.AppendUint64(nil, uint64(offset))
		in = binary.LittleEndian.AppendUint64(in, uint64(end-offset))
		out, status, err := f.control(ctx, smb2.FSCTLQueryAllocatedRanges, in, make([]byte, outputSize))
		if err != nil {
			return nil, err
		}
		list, err := smb2.ParseRanges(out, offset)
		if err != nil {
			return nil, f.malformed(err)
		}
		before := offset
		for _, r := range list {
			from, to := max(r.Offset, offset), min(r.Offset+r.Length, end)
			if from < to {
				all = append(all, smb2.Range{Offset: from, Length: to - from})
				offset = to
			}
		}
		if len(all) > maxRanges {
			return nil, f.malformed(fmt.Errorf("the file has more than %d allocated ranges", maxRanges))
		}
		if status != smb2.StatusBufferOverflow {
			break
		}
		if offset == before || round > maxRanges/1024 {
			return nil, f.malformed(fmt.Errorf("%w: allocated ranges without an end", smb2.ErrMessage))
		}
	}
	return all, nil
}

// ReadAt reads into b from off on. As [io.ReaderAt] requires, it returns fewer than len(b) bytes
// only with an error, which is [io.EOF] at the end of the file.
func (f *File) ReadAt(ctx context.Context, b []byte, off int64) (int, error) {
	for done := 0; ; {
		if done == len(b) {
			return done, nil
		}
		piece, n := b[done:min(len(b), done+maxRead)], 0
		status, err := f.call(ctx, smb2.OpRead, func() (s smb2.Status) {
			n, s = f.h.n.read(off+int64(done), piece)
			return s
		}, smb2.StatusEndOfFile)
		if err != nil {
			return done, err
		}
		if status == smb2.StatusEndOfFile || n == 0 {
			return done, io.EOF
		}
		done += min(n, len(piece))
	}
}

// readAll reads the whole file, whose length may have changed.
func (f *File) readAll(ctx context.Context, limit int64) ([]byte, error) {
	size := int64(f.info.EndOfFile &^ (1 << 63))
	if limit >= 0 && size > limit {
		return nil, f.s.failure(smb2.OpRead, f.name, errTooLong(limit), 0)
	}
	r := f.NewReader(0, -1, 0, 0)
	defer r.Stop()
	b := make([]byte, 0, min(size, maxRead))
	for {
		p, err := r.Next(ctx)
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		if b = append(b, p...); limit >= 0 && int64(len(b)) > limit {
			return nil, f.s.failure(smb2.OpRead, f.name, errTooLong(limit), 0)
		}
	}
}
