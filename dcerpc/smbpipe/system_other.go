//go:build !windows

package smbpipe

func endOfPipe(error) bool { return false }
