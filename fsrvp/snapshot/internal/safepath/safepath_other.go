//go:build !linux

package safepath

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// open checks each step before and the whole path after it opens the directory: whoever swaps a
// step meanwhile has the directory be another one than its Pin says.
func open(path string) (*Dir, error) {
	if err := checkSteps(filepath.VolumeName(path)+string(filepath.Separator),
		path[len(filepath.VolumeName(path)):]); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, stepError(path, err, false)
	}
	opened, err := f.Stat()
	if err == nil {
		var now fs.FileInfo
		if now, err = os.Lstat(path); err == nil && !os.SameFile(opened, now) {
			err = fmt.Errorf("%s is being replaced", path)
		}
	}
	if err == nil && !opened.IsDir() {
		err = fmt.Errorf("%s is no directory: %w", path, fsrvp.ErrNotSupported)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Dir{File: f, Above: above(path)}, nil
}

func checkSteps(root, rel string) error {
	at := root
	for _, name := range steps(rel) {
		at = filepath.Join(at, name)
		fi, err := os.Lstat(at)
		if err != nil {
			return stepError(at, err, false)
		}
		if !fi.IsDir() {
			return stepError(at, nil, true)
		}
	}
	return nil
}

func checkBeneath(root, rel string) error { return checkSteps(root, rel) }
