// Package replay plays recorded FSRVP calls again, against a server and against a client.
//
//   - [Run] plays a recording against servers as its clients did, and reports different answers.
//   - [Service] plays a recording for a client, as its server did: a fake server for tests of
//     clients.
//
// A recording is a slice of [transcript.Exchange] in any order; calls are ordered by their times.
// Package transcript records and reads them, and package capture finds them in packet captures.
//
// # Names and ids
//
// A server gives sets and copies new ids each time, and may be another server with other names. So
// the package translates everything to today's ids and names before it compares or matches: set and
// copy ids everywhere, also in the names of exposed shares ("vms@{id}"), and hosts and shares by
// Config.Shares. Ids that clients choose are kept.
package replay
