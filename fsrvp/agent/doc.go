// Package agent is the File Share Shadow Copy Agent: the side of MS-FSRVP that runs on the file
// server (MS-FSRVP 3.1). An Agent implements fsrvp.Service; fsrvp.NewHandler makes of it what a
// dcerpc.Server serves.
//
// What the agent needs of the machine are two small interfaces: Snapshots takes and deletes
// snapshots of volumes, Shares exposes directories of snapshots as shares. The packages below
// fsrvp/snapshot and fsrvp/share implement them.
//
// # Life of a set
//
//	SetContext   Start     Add     Prepare      Commit        Expose    RecoveryComplete    DeleteShareMapping
//	    └───────▶ Started ▶ Added ▶ (Added) ▶ CreationInProgress ▶ Committed ▶ Exposed ▶ Recovered ▶ gone
//
// One set at a time goes from SetContext to RecoveryComplete. Until it is Recovered the Message
// Sequence Timer watches it (MS-FSRVP 3.1.2): when the client is silent for too long, the set and
// whatever was made for it is deleted. Config.KeepExposed lets this end with Expose.
//
// # Waits
//
// Prepare, Commit and Expose are told how long to wait. The wait ends when it is said to end; the
// work itself goes on and a later call of the same method waits on. Work that nobody asks for again
// ends with the Message Sequence Timer: it is cancelled, and what it made is deleted.
//
// # Crashes
//
// An answer of success means that the table is on stable storage. What is about to be made is
// written down before it is made, and what is about to be deleted before it is deleted; New
// finishes or undoes what the last run had begun. It keeps what clients were told of: a set of a
// persistent context stays as it was, and its client may go on with it, within Timers.Failure where
// it was not Recovered.
//
// # Ownership
//
// An agent has an id, made with its state. Each snapshot and exposed share that it makes carries
// the id, and how many changes the state had seen (see backend.Mark). The agent deletes and exposes
// its own only, and of those that its table does not know it deletes what the table proves to be
// half-made. All else stays: Orphans returns it, and RemoveOrphan removes it for an administrator.
// Copies without a mark, of agents before there were marks, are those of the agent whose table
// knows them.
//
// A state that is gone while there are copies made with it, or that is older than its copies, is
// refused with ErrStateLost.
//
// # Clusters
//
// Agents on several nodes are one agent where Config.State is a [state.Shared], and their backends
// work on the same volumes and shares: every node sees every set, and does every step of it.
// Clients see no difference, whichever node each call comes to. The creation, of which there is one
// at a time, is the cluster's.
//
// Each node has a number in the table, its stay. A set that a node is at work for, such as in
// Commit, has a [Work] with that stay: others wait until it is gone. A call that ends the set
// (Abort, SetContext, the Message Sequence Timer) asks that node in the table to cancel its work
// and remove the set. The timer runs on the node that the client has called last. Config should be
// the same on all nodes.
//
// When a node fails another one ends its stay, and takes over its works and the creation in the
// same change of the table: it finishes removals and undoes the rest, as New does after a crash;
// the client, at any other node, goes on with its set within Timers.Failure. A Commit or an Expose
// whose answer the client has missed is answered again. Where the cluster says that the process is
// gone, nothing is lost but the call that was under way. Where it may be only paused, a set that it
// was just taking snapshots for is removed as well, since these may yet appear. A node that says
// nothing for half of Timers.Failure while it has something to do counts as paused, whatever the
// cluster says.
//
// That silence proves nothing does no harm: no write is made but on the newest table, so a node
// that wakes finds that its stay has been ended before it writes, and before each step of a
// backend. It gives up its calls and works, comes back with another stay, and removes what the
// table says that it may have made in the meantime.
//
// Auto-release copies are held by the cluster: they go when the last node leaves, or when the first
// one starts after all have failed.
//
// # Auto-release copies
//
// Copies of the contexts BACKUP and FILE_SHARE_BACKUP are neither persistent nor kept when their
// last reference is released (MS-FSRVP 2.2.2.1). The protocol has no message that releases a
// reference but DeleteShareMapping and AbortShadowCopySet; the agent itself holds them for its
// clients, as the agent of Windows holds its VSS objects. So they go with the last mapping, with
// the Message Sequence Timer while unfinished, and when the agent ends: Close deletes them, and New
// those that a crash left.
package agent
