//go:build !unix

package snapdir

import (
	"path/filepath"
	"strings"
)

// SameFS reports whether two paths are on one volume.
func SameFS(a, b string) (bool, error) {
	return strings.EqualFold(filepath.VolumeName(a), filepath.VolumeName(b)), nil
}
