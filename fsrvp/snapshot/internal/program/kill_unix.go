//go:build unix

package program

import (
	"os"
	"os/exec"
	"syscall"
)

// kill ends all processes of the group.
func kill(cmd *exec.Cmd) error {
	err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if err == syscall.ESRCH {
		return os.ErrProcessDone
	}
	return err
}
