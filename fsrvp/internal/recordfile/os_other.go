//go:build !unix

package recordfile

import "os"

const noFollow = 0

func explain(_ string, err error) error { return err }

// Access to files is not a matter of their mode here.
func checkFile(*os.File) error { return nil }

func checkDir(dir string) error {
	_, err := os.Stat(dir)
	return err
}

// ignoreUnsupported forgives systems that cannot sync a directory.
func ignoreUnsupported(error) error { return nil }
