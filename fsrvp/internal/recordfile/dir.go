package recordfile

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/trusted"
)

func dirOf(path string) string { return filepath.Dir(filepath.Clean(path)) }

// lock opens a file, which it makes if there is none, and locks it. Closing the file releases the
// lock.
func lock(path string, wait time.Duration) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|noFollow, 0o600)
	if err != nil {
		return nil, explain(path, err)
	}
	if err := trusted.File(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	const again = 10 * time.Millisecond
	for begun := time.Now(); ; time.Sleep(again) {
		err := tryLock(f)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, ErrInUse) || time.Since(begun)+again > wait {
			return nil, errors.Join(err, f.Close())
		}
	}
}
