//go:build linux

package peers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startLimit is how long the network may take until it is up, on a loaded machine.
const startLimit = 10 * time.Minute

// join makes this process a user of the network until it ends, starts the network's
// supervisor, network.sh, unless it runs, and waits until the network is up.
func join(scripts, state string) error {
	if err := lockUse(state); err != nil {
		return err
	}
	if err := registerRun(state); err != nil {
		return err
	}
	// One that is not needed ends by itself.
	cmd := exec.Command("setsid", "--fork", filepath.Join(scripts, "network.sh"), state)
	cmd.Env = append(rootSettings(), "PATH="+os.Getenv("PATH"), "HOME=/")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("network.sh: %w: %s", err, out)
	}
	for end := time.Now().Add(startLimit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		switch readStatus(state) {
		case "up":
			return nil
		case "failed":
			return fmt.Errorf("did not come up:\n%s", logOf(state))
		}
	}
	return fmt.Errorf("is not up after %v:\n%s", startLimit, logOf(state))
}

// lockUse takes the shared lock that keeps the network up, until the process ends: the descriptor
// is not closed. While a network is taken down it waits.
func lockUse(state string) error {
	path := filepath.Join(state, "use.lock")
	for {
		if err := os.Mkdir(state, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CREAT|syscall.O_CLOEXEC, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the directory has gone in between
		}
		if err != nil {
			return &os.PathError{Op: "open", Path: path, Err: err}
		}
		var mine, now syscall.Stat_t
		if err := errors.Join(flock(fd, syscall.LOCK_SH), syscall.Fstat(fd, &mine)); err != nil {
			syscall.Close(fd)
			return err
		}
		if syscall.Stat(path, &now) == nil && mine.Dev == now.Dev && mine.Ino == now.Ino {
			return nil
		}
		syscall.Close(fd) // locked what the end of another network has unlinked
	}
}

// flock waits for a lock.
func flock(fd, how int) error {
	for {
		err := syscall.Flock(fd, how)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// registerRun keeps the network up for the packages that the go command has still to test.
func registerRun(state string) error {
	ppid := os.Getppid()
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", ppid))
	if err != nil || string(comm) != "go\n" {
		return nil
	}
	start, err := startTime(ppid)
	if err != nil {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(state, "runs"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "%d %s\n", ppid, start)
	return err
}

// startTime is when a process began, in the kernel's ticks: with its id it names a process for
// good.
func startTime(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:]) // from field 3 on
	if len(f) < 20 {
		return "", fmt.Errorf("/proc/%d/stat: %q", pid, s)
	}
	return f[19], nil
}

// readStatus is what the supervisor that runs says: "up", "failed", or nothing yet.
func readStatus(state string) string {
	b, err := os.ReadFile(filepath.Join(state, "status"))
	if err != nil {
		return ""
	}
	word, id, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	if pid, err := strconv.Atoi(id); err != nil || syscall.Kill(pid, 0) != nil {
		return "" // of one that was killed; the next one removes it
	}
	return word
}

// logOf is the end of the network's log.
func logOf(state string) string {
	b, err := os.ReadFile(filepath.Join(state, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

// ownedByRoot refuses a directory that another user may have put there.
func ownedByRoot(dir string) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); !fi.IsDir() || !ok || st.Uid != 0 || fi.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is not a directory that root alone can write to", dir)
	}
	return nil
}
