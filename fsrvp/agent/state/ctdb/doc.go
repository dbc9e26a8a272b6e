// Package ctdb stores the table that the agents on all nodes of a CTDB cluster share: a
// [state.Shared] of small files on the cluster's file system. CTDB reports which nodes have failed.
//
// # Files, and no database
//
// CTDB has databases, and requires a cluster file system with coherent locks and names, so the
// table could be in either. It is in files for these reasons:
//
//   - A change must be refused if another node has written since. Files support that: a name can be
//     linked only once. CTDB's programs have transactions without conditions; a condition needs
//     another lock (net g_lock), which belongs to a process. A node that is stopped while it holds
//     the lock stops all others, and a node that wakes up does not notice that it has lost the
//     lock.
//   - Three CTDB nodes on one busy machine, their file system btrfs on a loop device: a change took
//     8 ms, and checking for changes 15 µs; a transaction in a persistent database with CTDB's
//     program took 105 ms, and its lock 430 ms.
//   - While CTDB recovers, its databases are frozen, and that is when the table is needed most.
//
// # The files
//
//	DIR/id                                 the identity of the table, made once
//	DIR/members/NODE.lock                  locked while NODE's agent has the table open
//	DIR/table-GENERATION/base              a whole table, and the sequence at which it was that
//	DIR/table-GENERATION/SEQUENCE          one change; the last one of a generation says that it is
//	DIR/tmp-NODE-X, DIR/old-NODE-X         what NODE is making or removing, also in DIR/table-...
//	DIR/aside-TIME                         a table in whose place [Replace] has put another
//
// A change is written to a temporary file, synced, and linked to the name of the next sequence; if
// several nodes do so, only one succeeds. Each change has a checksum over itself and the checksum
// before it, so a change that was lost, altered, or restored from a backup is noticed. No node
// waits for another. A generation is renamed before it is removed, so that a node that was stopped
// for any length of time cannot reuse a name that others have used. What a node has left half made
// is removed by whichever node finds its lock free.
//
// # Nodes that fail
//
// A node's lock shows that its agent's process exists, as far as the cluster's file system releases
// locks of failed nodes. If nobody holds the lock, the process is gone. If the lock is held, or its
// file is missing, which proves nothing, CTDB decides: a node that is disconnected, banned or
// stopped is lost, and may come back. The view of a node that is itself out of the cluster does not
// count.
package ctdb
