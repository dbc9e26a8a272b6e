//go:build unix

package samba

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// TestMain makes the test binary a program of Samba's where it is started by such a name; see
// fake_test.go.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "python3" {
		syscall.Exit(fakeHelper())
	}
	if fake, ok := fakes[filepath.Base(os.Args[0])]; ok {
		syscall.Exit(fake()) // not os.Exit, which takes a second with -race
	}
	goleak.VerifyTestMain(m)
}
