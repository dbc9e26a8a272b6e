//go:build unix && !linux

package program

import (
	"os/exec"
	"syscall"
)

// group makes the program the leader of a group of processes.
func group(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
