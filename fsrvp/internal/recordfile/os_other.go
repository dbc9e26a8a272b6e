//go:build !unix

package recordfile

import "os"

const noFollow, noWait = 0, 0

func explain(_ string, err error) error { return err }

// checkLinked has nothing to do: an open file cannot be removed.
func checkLinked(*os.File) error { return nil }
