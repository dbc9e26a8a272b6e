// Package replay plays recorded FSRVP calls again, against a server and against a client.
//
//   - [Run] plays a recording against servers as its clients did, and reports what is answered
//     otherwise.
//   - [Service] plays a recording against a client, as its server did: a fake server for tests of
//     clients.
//
// A recording is a slice of [transcript.Exchange] in any order; calls are ordered by their times.
// Package transcript records and reads them, package capture finds them in packet captures.
//
// # Names and ids
//
// A server gives sets and copies new ids each time, and may be another server with other names. So
// nothing is compared or matched before it has been translated to today's ids and names: set and
// copy ids wherever they stand, in the names of exposed shares too ("vms@{id}"), and hosts and
// shares by Config.Shares. The ids that clients choose stay as they are.
package replay
