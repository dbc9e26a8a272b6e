//go:build !unix

package writer

import (
	"os"
	"os/exec"
)

var ignoredSignals = []os.Signal{os.Interrupt}

func detach(*exec.Cmd) {}

func grouped(*exec.Cmd) {}
