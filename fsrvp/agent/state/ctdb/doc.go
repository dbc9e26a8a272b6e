// Package ctdb is the table that agents on all nodes of a CTDB cluster share: a [state.Shared] of
// small files on the cluster's file system, where CTDB tells which nodes have failed.
//
// # Files, and no database
//
// CTDB has databases of its own, and CTDB demands a file system of the cluster with coherent locks
// and names, so that a table could be in either. It is in files, for these reasons:
//
//   - A change must be refused when another node has written since. Files have that: a file can be
//     linked to a name once. CTDB's programs have transactions without conditions; the condition
//     takes a lock besides (net g_lock), which is that of a process. A node that is stopped while
//     it has it stops all others, and one that wakes has lost it and does not notice.
//   - Three CTDB nodes on one busy machine, their file system btrfs on a loop device: a change here
//     took 8 ms, to find that there is none 15 µs; a transaction in a persistent database by CTDB's
//     program 105 ms, and its lock 430 ms.
//   - While CTDB recovers, its databases are frozen. The table is then needed most.
//
// # The files
//
//	DIR/id                                 the identity of the table, made once
//	DIR/members/NODE.lock                  locked while NODE's agent has the table open
//	DIR/table-GENERATION/base              a whole table, and the sequence at which it was that
//	DIR/table-GENERATION/SEQUENCE          one change; the last one of a generation says that it is
//
// A change is written to a file with a name of its own, synced, and linked to the name of the next
// sequence: of several nodes that do so one succeeds. Each has a sum over itself and the sum of the
// one before it, so that a change that was lost, altered, or put back from a backup is noticed. No
// node waits for another. A generation that is removed is renamed first, so that no node, however
// long it was stopped, takes a name for free that others have used.
//
// # Nodes that fail
//
// A node's lock shows that its agent's process exists, by whatever the cluster's file system does
// when a node fails. Where nobody holds it, that process is gone. Where it is held, or its file is
// not there, which proves nothing, CTDB is asked:
// a node that is disconnected, banned or stopped is lost, and may come back. What a node that is
// itself out of the cluster thinks of others counts for nothing.
package ctdb
