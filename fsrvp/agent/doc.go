// Package agent is the File Share Shadow Copy Agent: the side of MS-FSRVP that runs on the file
// server (MS-FSRVP 3.1). An Agent implements fsrvp.Service; fsrvp.NewHandler turns it into a
// handler for a dcerpc.Server.
//
// The agent needs two small interfaces to the machine: Snapshots takes and deletes snapshots of
// volumes, and Shares exposes directories of snapshots as shares. The packages below fsrvp/snapshot
// and fsrvp/share implement them.
//
// # Life of a set
//
//	SetContext   Start     Add     Prepare      Commit        Expose    RecoveryComplete    DeleteShareMapping
//	    └───────▶ Started ▶ Added ▶ (Added) ▶ CreationInProgress ▶ Committed ▶ Exposed ▶ Recovered ▶ gone
//
// One set at a time goes from SetContext to RecoveryComplete. Until it is Recovered, the Message
// Sequence Timer watches it (MS-FSRVP 3.1.2): if the client is silent for too long, the agent
// deletes the set and everything that was made for it. With Config.KeepExposed the creation ends
// with Expose.
//
// # Waits
//
// The client tells Prepare, Commit and Expose how long to wait. After that time the call returns,
// but the work continues, and a later call of the same method waits for it again. If nobody asks
// for the work again, the Message Sequence Timer cancels it and deletes what it made.
//
// # Crashes
//
// An answer of success means that the table is on stable storage. The agent writes down what it is
// about to make before it makes it, and what it is about to delete before it deletes it; New
// finishes or undoes what the last run had begun. It keeps everything that clients were told of: a
// set of a persistent context stays as it was and its client may continue with it, within
// Timers.Failure if the set was not Recovered.
//
// # Ownership
//
// An agent has an id, which is made together with its state. Each snapshot and exposed share that
// it makes carries the id and the number of changes that the state had seen (see backend.Mark). The
// agent deletes and exposes only its own. Of copies that its table does not know, it deletes only
// those that the table proves to be half-made. All others stay: Orphans returns them, and
// RemoveOrphan removes one for an administrator. Old versions made copies without a mark; these
// belong to the agent whose table knows them.
//
// If the state is gone while copies made with it exist, or if it is older than its copies, New
// fails with [ErrStateLost].
//
// # Clusters
//
// Agents on several nodes act as one agent if Config.State is a [state.Shared] and their backends
// work on the same volumes and shares: every node sees every set and can do every step for it.
// Clients see no difference between nodes. The whole cluster has one creation at a time.
//
// Each node has a number in the table, its stay. While a node works for a set, as in Commit, the
// set has a [Work] with that stay, and other nodes wait until the Work is gone. A call that ends
// the set (Abort, SetContext, the Message Sequence Timer) asks that node in the table to cancel its
// work and remove the set. The timer runs on the node that the client has called last. Config
// should be the same on all nodes.
//
// When a node fails, another node ends its stay and takes over its works and the creation in the
// same change of the table. It finishes removals and undoes the rest, as New does after a crash.
// The client continues with its set at any other node, within Timers.Failure. If the client has
// missed the answer to a Commit or an Expose, it can ask again. If the cluster says that the failed
// process is gone, only the call that was under way is lost. If the process may only be paused, a
// set for which it was just taking snapshots is removed as well, because these may still appear. A
// node that says nothing for half of Timers.Failure while it has something to do counts as paused,
// whatever the cluster says.
//
// A silent node may still be alive, but that does no harm: a write succeeds only on the newest
// table, so a node that wakes up learns that its stay has ended before it writes and before each
// step of a backend. It gives up its calls and works, comes back with a new stay, and removes what,
// according to the table, it may have made in the meantime.
//
// The cluster as a whole holds auto-release copies: they are deleted when the last node leaves, or
// when the first node starts after all have failed.
//
// # Auto-release copies
//
// Copies of the contexts BACKUP and FILE_SHARE_BACKUP are neither persistent nor kept when their
// last reference is released (MS-FSRVP 2.2.2.1). DeleteShareMapping and AbortShadowCopySet are the
// only messages of the protocol that release a reference, so the agent itself holds the references
// for its clients, as the agent of Windows holds its VSS objects. The copies are deleted with the
// last mapping, by the Message Sequence Timer while they are unfinished, and when the agent ends:
// Close deletes them, and New deletes those that a crash left.
package agent
