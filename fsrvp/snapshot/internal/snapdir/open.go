package snapdir

import (
	"fmt"
	"slices"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/safepath"
)

// CheckNoMoreOpen refuses a snapshot, at a path not chosen by this package, if users who cannot
// reach its volume could reach the snapshot.
func CheckNoMoreOpen(made, volume string) error {
	v, err := safepath.Open(volume)
	if err != nil {
		return err
	}
	defer v.Close()
	m, err := safepath.Open(made)
	if err != nil {
		return err
	}
	defer m.Close()
	for _, a := range v.Above {
		if !restricts(a) || slices.ContainsFunc(m.Above, func(b safepath.Ancestor) bool { return asStrict(b, a) }) {
			continue
		}
		return fmt.Errorf("snapshot %s would be open to users who cannot pass through %s: put snapshots below a directory that has its owner, group and mode",
			made, a.Path)
	}
	return nil
}

// asStrict reports whether everybody who can pass through b can also pass through a.
func asStrict(b, a safepath.Ancestor) bool {
	if b.Path == a.Path || b.ACL == nil && b.UID == 0 && b.Mode&0o011 == 0 {
		return true
	}
	return b.UID == a.UID && b.GID == a.GID && b.Mode&0o111 == a.Mode&0o111 && string(b.ACL) == string(a.ACL)
}
