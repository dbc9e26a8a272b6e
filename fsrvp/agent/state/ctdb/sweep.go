//go:build linux

package ctdb

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// sweep removes what members have left half made, or half removed, whose processes are gone: an
// earlier one of this member, whose lock this one has, and those whose locks nobody holds. What it
// cannot remove stays for the next sweep. The caller holds s.mu, or has not returned from Open:
// this member is making nothing.
func (s *Store) sweep() {
	dirs := []string{s.cfg.Dir}
	if gens, err := s.log.generations(); err == nil {
		for _, gen := range gens {
			dirs = append(dirs, s.log.genDir(gen))
		}
	}
	left := map[string][]string{} // by member
	for _, dir := range dirs {
		list, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range list {
			path := filepath.Join(dir, e.Name())
			if member, ok := madeBy(e.Name(), tmpPrefix); ok {
				left[member] = append(left[member], path)
			} else if _, ok := madeBy(e.Name(), oldPrefix); ok && dir == s.cfg.Dir {
				_ = os.RemoveAll(path) // no one needs it, whoever is removing it too
			}
		}
	}
	for member, paths := range left {
		s.sweepMember(member, paths)
	}
}

// madeBy returns the member whose name is in that of a file or directory which it made for a time.
func madeBy(name, prefix string) (member string, ok bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	i := strings.LastIndexByte(rest, '-')
	if !ok || i < 0 || !memberName.MatchString(rest[:i]) {
		return "", false
	}
	return rest[:i], true
}

// sweepMember removes what a member has left, with its lock, so that it is not there and does not
// come meanwhile.
func (s *Store) sweepMember(member string, paths []string) {
	if member != s.cfg.Member {
		f, err := os.OpenFile(s.cfg.lockPath(member), os.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		defer f.Close()
		if err := lockCall(f, unix.F_OFD_SETLK, unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
			return
		}
	}
	for _, path := range paths {
		_ = os.RemoveAll(path)
	}
}
