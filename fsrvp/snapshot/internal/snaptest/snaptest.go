// Package snaptest is what the tests of the snapshot backends have in common: real file systems to
// take snapshots of, trees with everything that a file system has, and a way to tell two trees
// apart.
package snaptest

import (
	"os"
	"testing"
)

// Missing ends a test that needs what this machine has not: the test is skipped, or fails where the
// environment has FSRVP_PEERS=require.
func Missing(tb testing.TB, format string, args ...any) {
	tb.Helper()
	if os.Getenv("FSRVP_PEERS") == "require" {
		tb.Fatalf(format, args...)
	}
	tb.Skipf(format, args...)
}
