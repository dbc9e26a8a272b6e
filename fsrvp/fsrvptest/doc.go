// Package fsrvptest checks servers of MS-FSRVP, and has one to check clients with.
//
// # Conformance
//
// Cases returns a case for every MUST and SHOULD of MS-FSRVP 16.0, section 3.1, that can be seen
// from outside, and those of the suites that others wrote: the FSRVP part of Microsoft's FileServer
// suite, and smbtorture's rpc.fsrvp. A Target says which server to check, by the fsrvp.Services
// that reach it, and what it has: shares of several kinds, further clients, ways to look at its
// files. A case that needs something that the target has not got is NotApplicable, with the reason;
// it never counts as passed.
//
// Run makes a subtest of each case. A program without package testing calls Target.Check and
// Case.Run and prints what it likes; the command fsrvp-conformance is one.
//
// Each case stands alone, on servers that are wrong too: it takes the server as it finds it, in any
// order, and leaves it without the sets that came of its calls, whether it expected them or not,
// and without the rights that it gave. A server that stays blocked is reset (Target.Reset) or
// waited for; where neither helps, the next cases are Blocked, by a case that they name. Cases run
// one at a time, and nobody else may use the server meanwhile: the protocol has one creation at a
// time for a whole server.
//
// # An embedded server
//
// NewServer starts an agent with its own Kerberos realm, on TCP or in memory.
package fsrvptest
