package program

import (
	"os/exec"
	"syscall"
)

// group makes the program the leader of a group of processes, that dies with the thread that starts
// it.
func group(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
