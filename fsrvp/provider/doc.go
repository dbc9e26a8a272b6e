// Package provider is the File Share Shadow Copy Provider (MS-FSRVP 3.2) together with the
// requester's part of it: one call that takes shares on any number of file servers, has consistent
// shadow copies made of them, hands the copies to a backup, and cleans up whatever happens.
//
// [Run] goes through these phases, one after the other, each on all servers at once:
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
// A server is a machine, not a name: shares of one machine that are given by its short name, its
// full name, an alias, an address or a cluster's role come into one set. Machines are told apart by
// the name that they have for themselves (OwnerMachineName) and the address of the connection. One
// share by two names is an error; two paths below one share are two [Copy] values of one shadow
// copy.
//
// Runs of one host take turns on each server, from the start to recover, in one process and between
// processes: see Config.TurnLimit.
//
// A server that falls silent ends a run within Config.ProbeAfter and Config.ConnectLimit of the
// call that it does not answer, a commit within Config.FreezeLimit or, without writers that freeze,
// Config.CommitWait and the client's CallTimeout.
//
// The clean-up runs on a context of its own, so it happens after a cancellation too, and after a
// panic in the backup. With a [Journal] it happens even after a crash: [Recover] ends what the
// journal still names.
//
// RecoveryComplete comes before the backup, not after it: the server's Message Sequence Timer
// deletes a set that is not recovered half an hour after its last call (MS-FSRVP 3.1.2), and takes
// no other client's set meanwhile. A recovered copy stays until it is deleted.
package provider
