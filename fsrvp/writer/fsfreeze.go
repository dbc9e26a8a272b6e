package writer

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// DefaultLimit is the upper limit of a freeze where a writer has none of its own.
const DefaultLimit = 60 * time.Second

// FSFreeze is file systems that are mounted on this host: FIFREEZE writes all that is cached to the
// device and has every later write wait until FITHAW. It needs Linux and CAP_SYS_ADMIN.
//
// It is for copies that are taken below the file system: of a file that is an image of it, or of a
// device on a server. A copy that is taken by the file system, such as a btrfs snapshot, writes to
// it, and would wait for the thaw.
type FSFreeze struct {
	// Mounts are mount points, or any other directories in the file systems. They freeze in this
	// order: a file system whose image is a file in another one comes before that.
	Mounts []string
	// Limit is the longest time from freeze to thaw. Zero means DefaultLimit.
	Limit time.Duration
	// Guard thaws when this program cannot.
	Guard Guard
}

type fsFreezeSpec struct {
	Mounts []string `json:"mounts"`
}

// Writer returns the writer, which serves one run at a time.
func (f FSFreeze) Writer() (provider.Writer, error) {
	if len(f.Mounts) == 0 {
		return provider.Writer{}, errors.New("writer: FSFreeze has no Mounts")
	}
	if err := f.Guard.check("FSFreeze"); err != nil {
		return provider.Writer{}, err
	}
	s := &fsFreezeSpec{}
	for _, m := range f.Mounts {
		abs, err := filepath.Abs(m)
		if err != nil {
			return provider.Writer{}, fmt.Errorf("writer: FSFreeze: %w", err)
		}
		s.Mounts = append(s.Mounts, abs)
	}
	name := "file systems " + strings.Join(s.Mounts, ", ")
	return newKeeper(spec{Name: name, Limit: f.Limit, FSFreeze: s}, f.Guard).writer(), nil
}
