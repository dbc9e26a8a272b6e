// Package btrfsctl asks and tells btrfs what needs an ioctl (linux/btrfs.h). It is for Linux on
// machines with the common numbering of ioctls: not mips, mipsle, mips64, ppc64 and their like,
// which number them in another way. There, and on other systems, its functions fail with
// errors.ErrUnsupported. A program for 386 needs a 64-bit kernel: one of 32 bits lays the times of
// a subvolume out in 12 bytes each, not 16, and does not know the ioctl by its number here.
package btrfsctl

import "time"

// A UUID is one of btrfs: of a file system, or of a subvolume.
type UUID [16]byte

// A Subvolume tells what btrfs knows of one.
type Subvolume struct {
	ID      uint64 // its number in the file system
	UUID    UUID   // zero for the top of a file system that an old mkfs.btrfs made
	Parent  UUID   // of the subvolume that it is a snapshot of, zero for none
	Created time.Time
}
