package tree

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// copy copies the first size bytes of src to dst, an empty open file.
func (d *dataCopier) copy(ctx context.Context, dst, src int, size int64) error {
	if !d.clone {
		return d.read(ctx, dst, src, size)
	}
	if err := cloneFile(dst, src); err != nil {
		return err
	}
	d.count(0, size)
	return nil
}

// cloneFile shares the contents of src at a single moment.
func cloneFile(dst, src int) error {
	err := ignoreEINTR(func() error { return unix.IoctlFileClone(dst, src) })
	if errors.Is(err, unix.EINVAL) {
		// btrfs does not clone between files with and without copy on write (chattr +C, which disk
		// images often have).
		if err := setNoCOW(dst, src); err != nil {
			return fmt.Errorf("clone: %w", unix.EINVAL)
		}
		err = ignoreEINTR(func() error { return unix.IoctlFileClone(dst, src) })
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENOTTY):
		return fmt.Errorf("clone: %w: %w", err, fsrvp.ErrNotSupported)
	}
	return fmt.Errorf("clone: %w", err)
}

const noCOWFlag = 0x00800000 // FS_NOCOW_FL of linux/fs.h

// setNoCOW gives an empty file the flag for no copy on write if src has it.
func setNoCOW(dst, src int) error {
	flags, err := unix.IoctlGetUint32(src, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	if flags&noCOWFlag == 0 {
		return unix.EINVAL
	}
	return unix.IoctlSetPointerInt(dst, unix.FS_IOC_SETFLAGS, noCOWFlag)
}

// read copies data, and keeps the holes of src.
func (d *dataCopier) read(ctx context.Context, dst, src int, size int64) error {
	for off := int64(0); off < size; {
		start, err := unix.Seek(src, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole to the end
		}
		end := size
		if err != nil { // the file system does not support holes
			start = off
		} else if hole, err := unix.Seek(src, start, unix.SEEK_HOLE); err == nil {
			end = min(hole, size)
		}
		if err := d.readRange(ctx, dst, src, start, end); err != nil {
			return err
		}
		off = max(end, start)
	}
	if err := ignoreEINTR(func() error { return unix.Ftruncate(dst, size) }); err != nil {
		return fmt.Errorf("truncate: %w", err)
	}
	return nil
}

// readRange copies a range that has data. It ends early if src does.
func (d *dataCopier) readRange(ctx context.Context, dst, src int, off, end int64) error {
	byKernel := true
	var buf []byte
	for off < end {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		want := int(min(end-off, chunk))
		n := 0
		if byKernel {
			var err error
			in, out := off, off
			n, err = unix.CopyFileRange(src, &in, dst, &out, want, 0)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EXDEV), errors.Is(err, unix.EOPNOTSUPP),
				errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPERM), errors.Is(err, unix.EIO), err == nil && n == 0:
				// The kernel cannot copy between these two; some file systems report that by
				// copying nothing. Or one of them failed: reading and writing shows which.
				byKernel = false
				continue
			case err != nil:
				return fmt.Errorf("copy_file_range: %w", err)
			}
		} else {
			if buf == nil {
				buf = make([]byte, min(want, 256<<10))
			}
			var err error
			n, err = copyOnce(dst, src, buf[:min(want, len(buf))], off)
			if err != nil || n == 0 {
				return err
			}
		}
		off += int64(n)
		d.count(0, int64(n))
	}
	return nil
}

// copyOnce copies at most len(buf) bytes. It returns 0 at the end of src.
func copyOnce(dst, src int, buf []byte, off int64) (n int, err error) {
	if err := ignoreEINTR(func() error { n, err = unix.Pread(src, buf, off); return err }); err != nil {
		return 0, inSource("read", err)
	}
	for done := 0; done < n; {
		var w int
		err := ignoreEINTR(func() (err error) { w, err = unix.Pwrite(dst, buf[done:n], off+int64(done)); return err })
		if err != nil {
			return 0, fmt.Errorf("write: %w", err)
		}
		done += w
	}
	return n, nil
}

func ignoreEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
