//go:build !linux

package fileid

import "os"

func ofPath(string) (id string, isRoot bool) { return "", false }

func ofFile(*os.File) string { return "" }
