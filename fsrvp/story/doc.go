// Package story tells what became of the shadow copy sets in a recording: which calls made each,
// how it ended, and why what failed did, in the words of MS-FSRVP.
//
// [Tell] takes the calls of a transcript, or those that package capture has found, and returns one
// [Set] for each shadow copy set, and one for each attempt of a client that came to none. A Set is
// a timeline of events: the calls, and what no call shows. The latter are conclusions, of what the
// standard has an agent do and of what the calls after it were answered:
//
//   - the Message Sequence Timer that ran out between two calls (3.1.2),
//   - another SetContext from the client's address, that of a second job or of a restarted one, by
//     which the agent deleted the set (3.1.4.2),
//   - a client that never called RecoveryCompleteShadowCopySet (3.1.4.7) or stopped in the middle.
//
// [Set.AppendText] and [WriteHTML] show a Set.
package story
