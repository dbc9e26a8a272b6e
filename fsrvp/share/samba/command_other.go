//go:build !unix

package samba

import "os/exec"

// killGroup leaves cmd as it is: the end of its context kills the process alone. There is no Samba here.
func killGroup(*exec.Cmd) {}
