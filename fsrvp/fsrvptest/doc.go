// Package fsrvptest tests MS-FSRVP servers, and has an embedded server to test clients.
//
// # Conformance
//
// [Cases] returns a case for every MUST and SHOULD of MS-FSRVP 16.0, section 3.1, that can be seen
// from outside, and the cases of two other suites: the FSRVP part of Microsoft's [FileServer] suite,
// and smbtorture's rpc.fsrvp. A [Target] is a server to test: each [fsrvp.Service] that reaches it,
// and what it has, such as shares of several kinds, further clients, and access to its files. A
// case that needs something that the target lacks is [NotApplicable], with the reason; it never
// counts as passed.
//
// [Run] runs each case as a subtest. A program without package testing, such as the command
// fsrvp-conformance, calls [Target.Check] and [Case.Run].
//
// Each case is independent, even on faulty servers: it takes the server as it finds it, in any
// order, and removes all sets that its calls have made, expected or not, and the rights that it
// gave. If a server stays blocked, the package resets it (Target.Reset) or waits for it; if neither
// helps, the next cases are Blocked, and name the case that blocks them. Cases run one at a time,
// and nobody else may use the server meanwhile, since the protocol allows only one creation at a
// time on a server.
//
// # An embedded server
//
// [NewServer] starts an agent with its own Kerberos realm, on TCP or in memory.
package fsrvptest
