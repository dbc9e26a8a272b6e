package writer

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// DefaultLimit is the longest time of a freeze if a writer sets no limit.
const DefaultLimit = 60 * time.Second

// FSFreeze freezes file systems that are mounted on this host: FIFREEZE writes all cached data to
// the device and makes every later write wait until FITHAW. It needs Linux and CAP_SYS_ADMIN.
//
// It is for copies taken below the file system: of an image file that contains it, or of a device
// on a server. A copy taken by the file system itself, such as a btrfs snapshot, writes to it, and
// would wait for the thaw.
type FSFreeze struct {
	// Mounts are mount points, or any other directories in the file systems. They are frozen in
	// this order: a file system whose image is a file in another one must come before the other
	// one.
	Mounts []string
	// Limit is the longest time from freeze to thaw. Zero means [DefaultLimit].
	Limit time.Duration
	// Guard thaws if this program cannot.
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
