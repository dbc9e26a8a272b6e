// Package mount reads the table of mounts, as far as the operating system has one.
package mount

import (
	"path/filepath"
	"strings"
)

// A Mount is one entry of the table of mounts.
type Mount struct {
	Point string // where it is mounted, absolute
	Type  string // of the file system: "btrfs", "xfs", "nfs4", "fuse.sshfs"
	// Source is the mounted thing, as the file system calls it: a device, a ZFS dataset.
	Source string
	Root   string // the directory of the file system that is mounted; "/" is all of it
}

// Remote reports whether accessing the mount may wait for another machine or for a user's process.
func (m Mount) Remote() bool {
	switch m.Type {
	case "nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "9p", "afs", "autofs", "ncpfs", "coda", "gfs2", "lustre":
		return true
	}
	return strings.HasPrefix(m.Type, "fuse")
}

// Below returns the points of the table at which something is mounted below dir, which is absolute
// and clean. The table also has hidden mounts, so there may be more than a walk would meet, but
// never fewer.
func Below(dir string) ([]string, error) {
	all, err := All()
	if err != nil {
		return nil, err
	}
	var points []string
	for _, m := range all {
		if m.Point != dir && Within(m.Point, dir) {
			points = append(points, m.Point)
		}
	}
	return points, nil
}

// Within reports whether path is dir or below it. Both are absolute and clean.
func Within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}
