//go:build unix

package writer

import (
	"os"
	"os/exec"
	"syscall"
)

// ignoredSignals end the program, or all of its terminal or service, and may come before the pipe
// breaks. A SIGPIPE would end a guard that logs to the program which has just died.
var ignoredSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE}

// detach gives a command a session of its own: no terminal's signals arrive.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
}

// grouped has the end of the command's context kill what the command has started, too.
func grouped(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
