package state

import (
	"context"
	"errors"
	"fmt"
)

// A Shared is a Store that the agents on several nodes of a cluster have open at the same time,
// with one table for all of them. Each agent has its own Shared, which is a member.
//
// A member sees the table as of its last Load or Refresh, and of its own Writes since. Write is a
// transaction that is conditional on this view: if two members write concurrently, one succeeds,
// and the other fails with [ErrConflict]. This is all that the agents need to agree, since they
// keep in the records who holds which work, and who has been declared lost. A node that was paused
// for an hour has an old view, so its Write fails, and its next Refresh shows it what it has lost.
// A store needs no lock for this, and must not make a member wait for another that has stopped.
//
// With a store that has transactions on revisions, such as etcd, a Shared takes a few lines: Write
// is a transaction that compares the revision of a key that every Write changes, Refresh reads the
// changes since, Wait is a watch, and Life looks for the member's key, which its lease keeps.
type Shared interface {
	// Write fails with an error that matches ErrConflict if another member has written since this
	// one's last Refresh; then it has had no effect. After any other error it may have had its
	// effect, which the next Refresh shows.
	Store
	// Member returns the name of this member, which is that of its node. The store makes sure that
	// only one process at a time has it open under that name, even after the last one was killed.
	Member() string
	// Refresh reads the changes since the last Load, Refresh or Write, and returns them as one
	// change, in which Put and Drop have no key in common. The caller owns the Change, but must not
	// change the values.
	Refresh(ctx context.Context) (Change, error)
	// Wait returns nil when there may be changes for Refresh, or ctx's error when ctx ends. Other
	// methods may be called meanwhile.
	Wait(ctx context.Context) error
	// Life reports what the cluster knows about a member. It may be called at any time. For this
	// member it is Lost while the cluster goes on without this node, as far as that is known here;
	// the agent does not come into the table then.
	Life(ctx context.Context, member string) (Life, error)
}

// ErrConflict means that Write of a [Shared] failed because the member's view of the table is not
// the newest.
var ErrConflict = errors.New("another node has changed the table meanwhile")

// Life is what a cluster knows about a member. The zero Life is Present.
type Life uint8

const (
	// Present: as far as is known, it is running. A store that is not sure reports this.
	Present Life = iota
	// Lost: the cluster continues without its node. Its process may be running, or paused and about
	// to wake up: other members end its stay in the table before they touch its work.
	Lost
	// Gone: it is proven that no process of that name has the store open. Its work has ended.
	Gone
)

// String returns "present", "lost" or "gone".
func (l Life) String() string {
	switch l {
	case Present:
		return "present"
	case Lost:
		return "lost"
	case Gone:
		return "gone"
	}
	return fmt.Sprintf("Life(%d)", uint8(l))
}
