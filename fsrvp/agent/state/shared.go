package state

import (
	"context"
	"errors"
	"fmt"
)

// A Shared is a Store that the agents of several nodes of a cluster have open at once, one table
// for all of them. Each agent has a Shared of its own, which is a member.
//
// A member sees the table as of its last Load or Refresh, and of its own Writes since. Write is a
// transaction that is conditional on this view: of two members that write at once one succeeds, and
// the other fails with [ErrConflict]. That is all that the agents need to agree: who holds which
// work, and who has been declared lost, they keep in the records. A node that was paused for an
// hour and writes then has an old view, so its Write fails, and its next Refresh tells it what it
// has lost. A store needs no lock for this, and must not make one member wait for another that has
// stopped.
//
// A store with transactions on revisions, such as etcd, is one in some lines: Write is a
// transaction that compares the revision of a key which every Write changes, Refresh reads what
// changed since, Wait is a watch, and Life looks for the member's key, which its lease keeps.
type Shared interface {
	// Write of a Shared fails with an error that matches ErrConflict when another member has
	// written since this one's last Refresh; then it has had no effect. After any other error it
	// may have had one, which the next Refresh shows.
	Store
	// Member returns the name of this member, that of its node. The store makes sure that one
	// process at a time has it open under that name, also where the last one was killed.
	Member() string
	// Refresh takes in what has been written since the last Load, Refresh or Write, and returns it
	// as one change; Drop has no key that Put has. The Change is the caller's, the values are not.
	Refresh(ctx context.Context) (Change, error)
	// Wait returns nil when there may be something for Refresh to take in, and ctx's error when ctx
	// ends before. Other methods may be called meanwhile.
	Wait(ctx context.Context) error
	// Life reports what the cluster knows of the member of a name. It may be called at any time.
	Life(ctx context.Context, member string) (Life, error)
}

// ErrConflict is what Write of a [Shared] fails with when the member's view of the table is not the
// newest.
var ErrConflict = errors.New("another node has changed the table meanwhile")

// Life is what a cluster knows of a member. The zero Life is Present.
type Life uint8

const (
	// Present: it runs, as far as is known. A store that is not sure says so.
	Present Life = iota
	// Lost: the cluster goes on without its node. Its process may run, or be paused and wake up:
	// others end its stay in the table before they touch what it was doing.
	Lost
	// Gone: it is proven that no process of that name has the store open. What it was doing has
	// ended.
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
