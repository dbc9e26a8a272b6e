//go:build unix

package writer

import (
	"os"
	"os/exec"
	"syscall"
)

// ignoredSignals end the program, or all processes of its terminal or service, and may come before
// the pipe breaks. A SIGPIPE would end a guard that logs to a program that has just died.
var ignoredSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE}

// detach starts a command in a new session, so that no terminal signals reach it.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
}

// grouped makes the end of the command's context also kill the command's children.
func grouped(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
