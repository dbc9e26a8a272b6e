package agent

import (
	"fmt"
	"path/filepath"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// The interfaces and values of backends are those of package backend.
type (
	Volume                = backend.Volume
	SnapshotSpec          = backend.SnapshotSpec
	Snapshot              = backend.Snapshot
	Snapshots             = backend.Snapshots
	DeleteSyncer          = backend.DeleteSyncer
	Sealer                = backend.Sealer
	Preparer              = backend.Preparer
	SnapshotPreparer      = backend.SnapshotPreparer
	PathChecker           = backend.PathChecker
	CompatibilityReporter = backend.CompatibilityReporter
	SnapshotLister        = backend.SnapshotLister
	Owner                 = backend.Owner
	Mark                  = backend.Mark
	Share                 = backend.Share
	Exposure              = backend.Exposure
	Shares                = backend.Shares
	ShareNamer            = backend.ShareNamer
	ShareSealer           = backend.ShareSealer
	ShareLister           = backend.ShareLister
	ShareBatcher          = backend.ShareBatcher
	ServerNamer           = backend.ServerNamer
	ExposedShare          = backend.ExposedShare
)

// within returns the path of the share's directory below the root of v, the volume on which the
// share was found.
func within(s Share, v Volume) (string, error) {
	rel, err := filepath.Rel(v.Path, s.Path)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("agent: share %q at %s is not within volume %s", s.Name, s.Path, v.Path)
	}
	return rel, nil
}
