//go:build !unix

package samba

import "os/exec"

// ownGroup leaves cmd as it is. There is no Samba here.
func ownGroup(*exec.Cmd) {}

// killGroup leaves cmd as it is: the end of its context kills the process alone.
func killGroup(*exec.Cmd) {}

// killProcessGroup kills the process alone.
func killProcessGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() } // it may be gone
