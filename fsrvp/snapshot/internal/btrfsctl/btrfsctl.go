// Package btrfsctl makes the ioctls of btrfs (linux/btrfs.h). It supports Linux on machines with
// the common numbering of ioctls: not mips, mipsle, mips64, ppc64 and the like, which number them
// differently. There, and on other systems, its functions fail with errors.ErrUnsupported. A
// program for 386 needs a 64-bit kernel: a 32-bit one uses 12 bytes, not 16, for each time of a
// subvolume, and so has another number for the ioctl.
package btrfsctl

import "time"

// A UUID is one of btrfs: of a file system, or of a subvolume.
type UUID [16]byte

// A Subvolume describes a subvolume.
type Subvolume struct {
	ID      uint64 // its number in the file system
	UUID    UUID   // zero for the top of a file system that an old mkfs.btrfs made
	Parent  UUID   // of the subvolume that it is a snapshot of, zero for none
	Created time.Time
}
