//go:build linux && (386 || amd64 || arm || arm64 || loong64 || riscv64 || s390x)

package btrfsctl

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Supported reports whether the package supports this system.
const Supported = true

// The arguments of the ioctls, as linux/btrfs.h lays them out.
type (
	volArgs struct { // struct btrfs_ioctl_vol_args
		_    int64 // fd
		name [4088]byte
	}
	volArgsV2 struct { // struct btrfs_ioctl_vol_args_v2
		fd    int64
		_     uint64 // transid
		flags uint64
		_     [4]uint64
		name  [4040]byte
	}
	fsInfoArgs struct { // struct btrfs_ioctl_fs_info_args
		_    [2]uint64 // max_id, num_devices
		fsid UUID
		_    [992]byte
	}
	subvolInfoArgs struct { // struct btrfs_ioctl_get_subvol_info_args
		treeID           uint64
		_                [256]byte // name
		_                [4]uint64 // parent_id, dirid, generation, flags
		uuid, parentUUID UUID
		_                UUID      // received_uuid
		_                [4]uint64 // ctransid, otransid, stransid, rtransid
		_                timeArgs  // ctime
		otime            timeArgs
		_                [2]timeArgs // stime, rtime
		_                [8]uint64
	}
	timeArgs struct { // struct btrfs_ioctl_timespec
		sec  uint64
		nsec uint32
		_    uint32
	}
	rootRefArgs struct { // struct btrfs_ioctl_get_subvol_rootref_args
		minTreeID uint64
		refs      [255]struct{ treeID, dirID uint64 }
		count     uint8
		_         [7]byte
	}
	lookupArgs struct { // struct btrfs_ioctl_ino_lookup_user_args
		dirID, treeID uint64
		name          [256]byte
		path          [3824]byte
	}
)

// request is _IOC of asm-generic/ioctl.h for the type of btrfs.
func request(direction uintptr, number, size uintptr) uintptr {
	return direction<<30 | size<<16 | 0x94<<8 | number
}

const (
	write = 1
	read  = 2

	rdonly        = 1 << 1 // BTRFS_SUBVOL_RDONLY
	subvolumeRoot = 256    // BTRFS_FIRST_FREE_OBJECTID, the inode at the root of every subvolume
)

// control calls an ioctl. The argument must not hold pointers.
func control[T any](fd uintptr, direction, number uintptr, arg *T) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, request(direction, number, unsafe.Sizeof(*arg)),
			uintptr(unsafe.Pointer(arg)))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// on calls an ioctl on an open file and says what failed.
func on[T any](f *os.File, name string, direction, number uintptr, arg *T) error {
	err := control(f.Fd(), direction, number, arg)
	runtime.KeepAlive(f)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", f.Name(), name, err)
	}
	return nil
}

// Is reports whether the open file is on btrfs.
func Is(f *os.File) (bool, error) {
	var st unix.Statfs_t
	err := unix.Fstatfs(int(f.Fd()), &st)
	return err == nil && uint32(st.Type) == unix.BTRFS_SUPER_MAGIC, err
}

// IsRoot reports whether the open directory, which is on btrfs, is the root of a subvolume.
func IsRoot(f *os.File) (bool, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	return err == nil && st.Ino == subvolumeRoot, err
}

// FileSystem returns the file system's UUID.
func FileSystem(f *os.File) (UUID, error) {
	var a fsInfoArgs
	err := on(f, "BTRFS_IOC_FS_INFO", read, 31, &a)
	return a.fsid, err
}

// Info describes the subvolume that holds f.
func Info(f *os.File) (Subvolume, error) {
	var a subvolInfoArgs
	if err := on(f, "BTRFS_IOC_GET_SUBVOL_INFO", read, 60, &a); err != nil {
		if runtime.GOARCH == "386" && errors.Is(err, unix.ENOTTY) {
			err = fmt.Errorf("%w: a kernel of 32 bits has another layout here; run this program on one of 64 bits: %w",
				err, errors.ErrUnsupported)
		}
		return Subvolume{}, err
	}
	return Subvolume{
		ID: a.treeID, UUID: a.uuid, Parent: a.parentUUID,
		Created: time.Unix(int64(a.otime.sec), int64(a.otime.nsec)).UTC(),
	}, nil
}

// Nested returns the paths, from the directory, of the subvolumes below it, but not those nested in
// them.
func Nested(dir *os.File) ([]string, error) {
	var paths []string
	refs := new(rootRefArgs)
	for {
		err := control(dir.Fd(), read|write, 61, refs)
		more := errors.Is(err, unix.EOVERFLOW)
		if err != nil && !more {
			return nil, fmt.Errorf("%s: BTRFS_IOC_GET_SUBVOL_ROOTREF: %w", dir.Name(), err)
		}
		for _, ref := range refs.refs[:refs.count] {
			a := &lookupArgs{dirID: ref.dirID, treeID: ref.treeID}
			err := on(dir, "BTRFS_IOC_INO_LOOKUP_USER", read|write, 62, a)
			if errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOENT) {
				continue // it is elsewhere in the subvolume, or was deleted meanwhile
			}
			if err != nil {
				return nil, err
			}
			paths = append(paths, text(a.path[:])+text(a.name[:])) // the path ends in a slash
		}
		if !more {
			return paths, nil
		}
		*refs = rootRefArgs{minTreeID: refs.minTreeID} // the kernel has set where to continue
	}
}

func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// Snapshot makes in dir a snapshot of the subvolume whose root is source. It is on stable storage
// when Snapshot returns, with what was written to source before.
func Snapshot(dir, source *os.File, name string, readOnly bool) error {
	a := &volArgsV2{fd: int64(source.Fd())}
	if len(name) >= 256 {
		return unix.ENAMETOOLONG
	}
	copy(a.name[:], name)
	if readOnly {
		a.flags = rdonly
	}
	err := on(dir, "BTRFS_IOC_SNAP_CREATE_V2", write, 23, a)
	runtime.KeepAlive(source)
	return err
}

// Destroy deletes the subvolume with the name in dir. That is on stable storage after Sync.
func Destroy(dir *os.File, name string) error {
	a := new(volArgs)
	if len(name) >= 256 {
		return unix.ENAMETOOLONG
	}
	copy(a.name[:], name)
	return on(dir, "BTRFS_IOC_SNAP_DESTROY", write, 15, a)
}

// ReadOnly reports whether the subvolume whose root is f is read-only.
func ReadOnly(f *os.File) (bool, error) {
	var flags uint64
	err := on(f, "BTRFS_IOC_SUBVOL_GETFLAGS", read, 25, &flags)
	return flags&rdonly != 0, err
}

// SetReadOnly makes the subvolume whose root is f read-only.
func SetReadOnly(f *os.File) error {
	flags := uint64(rdonly)
	return on(f, "BTRFS_IOC_SUBVOL_SETFLAGS", write, 26, &flags)
}

// Flush writes all data back and waits until it is on stable storage.
func Flush(f *os.File) error {
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: f.Name(), Err: err}
	}
	return nil
}

// Sync waits until operations on the file system that holds f are on stable storage. It does less
// than Flush: it does not wait for data that has not been written back.
func Sync(f *os.File) error {
	var transid uint64
	if err := on(f, "BTRFS_IOC_START_SYNC", read, 24, &transid); err != nil {
		return err
	}
	return on(f, "BTRFS_IOC_WAIT_SYNC", write, 22, &transid)
}
