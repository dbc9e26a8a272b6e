package mount

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// All returns the table of mounts of this process.
func All() ([]Mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parse(f)
}

// parse reads the table as proc_pid_mountinfo(5) describes it:
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
func parse(r io.Reader) ([]Mount, error) {
	var all []Mount
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			m, ok := parseLine(strings.TrimSuffix(line, "\n"))
			if !ok {
				return nil, fmt.Errorf("mountinfo: cannot read %q", line)
			}
			all = append(all, m)
		}
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func parseLine(line string) (Mount, bool) {
	head, tail, ok := strings.Cut(line, " - ")
	if !ok {
		return Mount{}, false
	}
	fields := strings.Split(head, " ")
	if len(fields) < 6 {
		return Mount{}, false
	}
	fsType, tail, _ := strings.Cut(tail, " ")
	source, _, _ := strings.Cut(tail, " ")
	return Mount{Point: unescape(fields[4]), Type: unescape(fsType), Source: unescape(source),
		Root: unescape(fields[3])}, true
}

// unescape undoes the octal escapes of blanks, newlines and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
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

// Of returns the mount that holds path, which is absolute, clean and without symbolic links.
func Of(path string) (Mount, error) {
	id, err := mountID(path)
	if err != nil {
		return Mount{}, err
	}
	point := path
	for point != "/" {
		parent := filepath.Dir(point)
		parentID, err := mountID(parent)
		if err != nil {
			return Mount{}, err
		}
		if parentID != id {
			break
		}
		point = parent
	}
	all, err := All()
	if err != nil {
		return Mount{}, err
	}
	m := Mount{Point: point}
	for _, a := range all { // a later mount covers an earlier one; in a chroot there may be none
		if a.Point == point {
			m.Type, m.Source, m.Root = a.Type, a.Source, a.Root
		}
	}
	return m, nil
}

// mountID asks by fdinfo, which kernels have had since 3.15.
func mountID(path string) (uint64, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(line, []byte("mnt_id:")); ok {
			return strconv.ParseUint(string(bytes.TrimSpace(v)), 10, 64)
		}
	}
	return 0, errors.New("fdinfo names no mount")
}
