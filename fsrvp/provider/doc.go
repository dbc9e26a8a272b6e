// Package provider implements the File Share Shadow Copy Provider (MS-FSRVP 3.2) and its requester:
// one call makes consistent shadow copies of shares on any number of file servers, passes the
// copies to a backup, and cleans up whatever happens.
//
// [Run] goes through these phases, one after the other, each on all servers concurrently:
//
//	resolve   ask each share's host which machine owns the share, and connect to that
//	start     SetContext, StartShadowCopySet; when all have started, AddToShadowCopySet for every share
//	prepare   writers prepare; PrepareShadowCopySet
//	freeze    writers freeze
//	commit    CommitShadowCopySet on all servers at once
//	thaw      writers thaw, the moment the last server has committed or any has failed
//	expose    ExposeShadowCopySet, GetShareMapping
//	snapshot  writers' PostSnapshot: the copies may still be written, if the context says so
//	recover   RecoveryCompleteShadowCopySet: the sets are complete, other clients may start theirs
//	backup    the caller's function
//	clean     DeleteShareMapping, or AbortShadowCopySet where a phase failed
//
// A server is a machine, not a name: shares of one machine go into one set, whether they are given
// by its short name, its full name, an alias, an address or a cluster's role. Machines are
// distinguished by the name that they report (OwnerMachineName) and the address of the connection.
// Naming one share in two ways is an error; two paths below one share are two [Copy] values of one
// shadow copy.
//
// Runs on one host, in one or several processes, take turns on each server from start to recover:
// see TurnLimit in [Config].
//
// A server that falls silent ends a run within Config.ProbeAfter and Config.ConnectLimit of the
// call that it does not answer, a commit within Config.FreezeLimit or, without writers that freeze,
// Config.CommitWait and the client's CallTimeout.
//
// The clean-up has a separate context, so it also happens after a cancellation, and after a panic
// in the backup. With a [Journal] it happens even after a crash: [Recover] removes everything that
// the journal still names.
//
// RecoveryComplete comes before the backup, not after it: the server's Message Sequence Timer
// deletes a set that is not recovered half an hour after its last call (MS-FSRVP 3.1.2), and
// accepts no other client's set meanwhile. A recovered copy stays until it is deleted.
package provider
