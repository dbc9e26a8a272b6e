package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// replaceable returns why a rename cannot replace a file, or put one into its directory.
func replaceable(target string) error {
	attributes := func(name string) uint64 {
		var st unix.Statx_t
		if unix.Statx(unix.AT_FDCWD, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_MODE, &st) != nil {
			return 0
		}
		return st.Attributes & st.Attributes_mask
	}
	if attributes(filepath.Dir(target))&(unix.STATX_ATTR_APPEND|unix.STATX_ATTR_IMMUTABLE) != 0 {
		return errors.New("nothing can be renamed in its directory, which has an attribute of chattr, +a or +i")
	}
	switch a := attributes(target); {
	case a&unix.STATX_ATTR_MOUNT_ROOT != 0:
		return errors.New("something is mounted there, which a new file cannot replace; mount its directory instead")
	case a&(unix.STATX_ATTR_APPEND|unix.STATX_ATTR_IMMUTABLE) != 0:
		return errors.New("a file with an attribute of chattr, +a or +i, is there, which a new one cannot replace")
	}
	return nil
}

// A place is a directory by its device and its path in the file system, wherever that is mounted.
type place struct{ device, path string }

// withinPlace reports whether dir is source or in it by another mount of the same file system.
func withinPlace(dir, source string) bool {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return false // it is a help, where there is one
	}
	defer f.Close()
	mounts := parseMounts(f)
	in, okIn := mounts.of(dir)
	of, okOf := mounts.of(source)
	return okIn && okOf && in.device == of.device && below(in.path, of.path)
}

// A mount is a line of mountinfo.
type mount struct {
	place
	point string
}

type mounts []mount

// parseMounts reads mountinfo (proc_pid_mountinfo(5)):
//
//	36 35 98:0 /root/of/it /mount/point rw,noatime shared:1 - ext4 /dev/sda1 rw
func parseMounts(r io.Reader) mounts {
	var all mounts
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) > 4 {
			all = append(all, mount{place{f[2], unescapeMount(f[3])}, unescapeMount(f[4])})
		}
	}
	return all
}

// unescapeMount takes blanks and the like, which are in octal.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// of returns the place of a directory, which is absolute and without links.
func (m mounts) of(dir string) (place, bool) {
	found := -1
	for i := range m {
		if below(dir, m[i].point) && (found < 0 || len(m[i].point) >= len(m[found].point)) { // a later one hides the others
			found = i
		}
	}
	if found < 0 {
		return place{}, false
	}
	rel, err := filepath.Rel(m[found].point, dir)
	return place{m[found].device, filepath.Join(m[found].path, rel)}, err == nil
}
