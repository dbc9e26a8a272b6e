//go:build unix

package samba

import (
	"os/exec"
	"syscall"
)

// killGroup makes the end of cmd's context that of all processes that it has started.
func killGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
