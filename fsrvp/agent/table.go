package agent

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/fileid"
)

// SetStatus is the status of a shadow copy set (MS-FSRVP 3.1.1.2).
type SetStatus string

// The statuses, in the order in which a set has them.
const (
	Started            SetStatus = "Started"
	Added              SetStatus = "Added"
	CreationInProgress SetStatus = "CreationInProgress"
	Committed          SetStatus = "Committed"
	Exposed            SetStatus = "Exposed"
	Recovered          SetStatus = "Recovered"

	// Removing is not a status of the standard. In events it is the status of a set that is being
	// deleted.
	Removing SetStatus = "Removing"
)

// hasSnapshots reports whether snapshots exist in this status, or may.
func (s SetStatus) hasSnapshots() bool {
	return s == CreationInProgress || s == Committed || s == Exposed || s == Recovered
}

// hasShares reports whether exposed shares exist in this status, or may.
func (s SetStatus) hasShares() bool { return s == Committed || s == Exposed || s == Recovered }

func (s SetStatus) valid() bool { return s == Started || s == Added || s.hasSnapshots() }

// A Set is a shadow copy set in the table, GlobalShadowCopySetTable (MS-FSRVP 3.1.1.2). The store
// holds it in its JSON form.
type Set struct {
	ID      fsrvp.SetID        `json:"id"`
	Client  fsrvp.SetID        `json:"client"` // the id that the client gave
	Status  SetStatus          `json:"status"`
	Context fsrvp.ContextValue `json:"context"`
	Copies  []Copy             `json:"copies,omitempty"`
	// Exposing sets are Committed, and an ExposeShadowCopySet has begun. That this is stored before
	// the first share is exposed lets New distinguish a crash from a store that is older than the
	// shares.
	Exposing bool `json:"exposing,omitempty"`
	// Kept means that the set was exposed under Config.KeepExposed, so its creation has ended.
	Kept bool `json:"kept,omitempty"`
	// Removing means that the set is being deleted: only AbortShadowCopySet still finds it.
	Removing bool `json:"removing,omitempty"`
	// Work says which node of a cluster is working for the set. It is zero if none is, and for an
	// agent alone.
	Work Work `json:"work,omitzero"`
}

// A Work says that a node of a cluster is working for a set. No other node touches the set's copies
// meanwhile.
type Work struct {
	Stay uint64 `json:"stay"` // of the node, see Node
	Step Step   `json:"step"` // what the work is for
}

// A Copy is one shadow copy: the snapshot of one volume (MS-FSRVP 3.1.1.3).
type Copy struct {
	ID      fsrvp.CopyID `json:"id"`
	Volume  Volume       `json:"volume"`
	Path    string       `json:"path,omitempty"`   // the snapshot's root, from Committed on
	Created time.Time    `json:"created,omitzero"` // CreationTimeStamp, from Committed on
	Home    Home         `json:"home,omitzero"`    // where Path is, from Committed on
	Shares  []Mapping    `json:"shares,omitempty"`
}

// A Home is the file system that a snapshot's path is on. It is zero where that is not known.
type Home struct {
	Root string `json:"root"` // of its mount, a path
	ID   string `json:"id"`   // of that directory
}

// homeOf returns the home of a snapshot that was just taken.
func homeOf(path string) (h Home) {
	h.Root, h.ID = fileid.Root(filepath.Dir(path))
	if h.ID == "" {
		return Home{}
	}
	return h
}

// missing reports whether another directory is now where the home was: its file system is not
// mounted, so that nothing is known of what is on it.
func (h Home) missing() bool { return h != Home{} && fileid.Of(h.Root) != h.ID }

// A Mapping is one share of a shadow copy: MappedShare (MS-FSRVP 3.1.1.4).
type Mapping struct {
	UNC     string `json:"unc"`     // ShareName, as the client named it
	Share   Share  `json:"share"`   // that share
	Dir     string `json:"dir"`     // its directory, below the volume's root
	Name    string `json:"name"`    // ShadowCopyShareName, the bare name
	Exposed bool   `json:"exposed"` // IsExposed
	// Removing means that the mapping is being deleted: only DeleteShareMapping still finds it.
	Removing bool `json:"removing,omitempty"`
}

// clone returns a copy that shares nothing with s. Sets in the table are never changed in place: a
// changed clone replaces a set once the clone is stored.
func (s *Set) clone() *Set {
	c := *s
	c.Copies = slices.Clone(s.Copies)
	for i := range c.Copies {
		c.Copies[i].Shares = slices.Clone(c.Copies[i].Shares)
	}
	return &c
}

// with returns a clone with another status.
func (s *Set) with(status SetStatus) *Set {
	c := s.clone()
	c.Status, c.Exposing = status, false
	return c
}

// shown is the set's status in events.
func (s *Set) shown() SetStatus {
	if s.Removing {
		return Removing
	}
	return s.Status
}

// autoRelease reports whether the set's copies are deleted when the agent, which holds the last
// reference to them, ends (MS-FSRVP 2.2.2.1).
func (s *Set) autoRelease() bool { return !s.Context.Persistent() && !s.Context.NoAutoRelease() }

// shares counts the set's mappings.
func (s *Set) shares() int {
	n := 0
	for i := range s.Copies {
		n += len(s.Copies[i].Shares)
	}
	return n
}

// spec returns the SnapshotSpec of a copy.
func (s *Set) spec(c *Copy, mark Mark) SnapshotSpec {
	return SnapshotSpec{ID: c.ID, Mark: mark, Volume: c.Volume, Writable: s.Context.AutoRecovery()}
}

func (s *Set) specs(mark Mark) []SnapshotSpec {
	specs := make([]SnapshotSpec, len(s.Copies))
	for i := range s.Copies {
		specs[i] = s.spec(&s.Copies[i], mark)
	}
	return specs
}

// exposure returns the Exposure of a mapping.
func (s *Set) exposure(c *Copy, m *Mapping, mark Mark) Exposure {
	return Exposure{
		Name:     m.Name,
		Mark:     mark,
		Base:     m.Share,
		Snapshot: Snapshot{SnapshotSpec: s.spec(c, mark), Path: c.Path, Created: c.Created},
		Path:     filepath.Join(c.Path, m.Dir),
		Writable: s.Context.AutoRecovery() && s.Status != Recovered,
	}
}

// copy finds a copy by its id; nil if there is none.
func (s *Set) copy(id fsrvp.CopyID) *Copy {
	for i := range s.Copies {
		if s.Copies[i].ID == id {
			return &s.Copies[i]
		}
	}
	return nil
}

// copyOf finds the copy of a volume; nil if there is none.
func (s *Set) copyOf(volume string) *Copy {
	for i := range s.Copies {
		if s.Copies[i].Volume.ID == volume {
			return &s.Copies[i]
		}
	}
	return nil
}

// mapping finds a mapping by the bare name of its share; nil if there is none.
func (c *Copy) mapping(share string) *Mapping {
	for i := range c.Shares {
		if strings.EqualFold(c.Shares[i].Share.Name, share) {
			return &c.Shares[i]
		}
	}
	return nil
}

// removing reports whether all of the copy is being deleted.
func (c *Copy) removing() bool {
	return !slices.ContainsFunc(c.Shares, func(m Mapping) bool { return !m.Removing })
}

// without returns the set without one mapping, and without the mapping's copy if that was its last
// mapping.
func (s *Set) without(id fsrvp.CopyID, share string) *Set {
	next := s.clone()
	next.Copies = slices.DeleteFunc(next.Copies, func(c Copy) bool {
		return c.ID == id && len(c.Shares) == 1 && strings.EqualFold(c.Shares[0].Share.Name, share)
	})
	if c := next.copy(id); c != nil {
		c.Shares = slices.DeleteFunc(c.Shares, func(m Mapping) bool { return strings.EqualFold(m.Share.Name, share) })
	}
	return next
}

// creation is the agent's global state (MS-FSRVP 3.1.1.1): the creation that is in progress.
type creation struct {
	ContextSet bool               `json:"contextSet"`
	Context    fsrvp.ContextValue `json:"context"` // CurrentContext
	Address    string             `json:"address"` // ShadowCopyClientAddress
	Retries    int                `json:"retries"` // ShadowCopyClientRetryCount
	// Stay is the stay of the cluster node whose Message Sequence Timer watches the creation: the
	// node that the client has called last. It is zero for an agent alone.
	Stay uint64 `json:"stay,omitempty"`
	// Moved means that this node has taken the creation over, and the client has not called it yet.
	Moved bool `json:"moved,omitempty"`
}
