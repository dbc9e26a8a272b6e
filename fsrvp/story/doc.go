// Package story explains what became of the shadow copy sets in a recording: which calls made each
// set, how it ended, and why calls failed, in the terms of MS-FSRVP.
//
// [Tell] takes the calls of a transcript, or those that package capture has found, and returns one
// [Set] for each shadow copy set, and one for each attempt of a client that did not lead to a set.
// A Set is a timeline of events: the calls, and events that no call shows. The latter are
// conclusions from the standard's rules for agents and from the answers to later calls:
//
//   - the Message Sequence Timer ran out between two calls (3.1.2),
//   - another SetContext came from the client's address, from a second job or a restarted one, so
//     that the agent deleted the set (3.1.4.2),
//   - the client never called RecoveryCompleteShadowCopySet (3.1.4.7), or stopped in the middle.
//
// [Set.AppendText] and [WriteHTML] show a Set.
package story
