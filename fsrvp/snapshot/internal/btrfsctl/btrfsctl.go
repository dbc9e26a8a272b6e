// Package btrfsctl asks and tells btrfs what needs an ioctl (linux/btrfs.h). It is for Linux on machines with
// 64-bit words and the common numbering of ioctls; elsewhere its functions fail with errors.ErrUnsupported.
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
