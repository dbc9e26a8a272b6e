// Package capture turns packet captures into FSRVP calls.
//
// Calls reads a pcap or pcapng file (or a gzip-compressed one) from any reader and yields one *Call
// for each request of the interface: who called, when, with what protection, the typed request and
// response, and the raw stubs. It finds the interface on ncacn_ip_tcp at any port, by its bind, and
// on named pipes over SMB 2 and 3 (READ, WRITE, FSCTL_PIPE_TRANSCEIVE, compounds, asynchronous
// responses, several pipes, sessions and channels).
//
// With keys it unseals RPC and decrypts SMB 3 sessions: with the keytab of the server
// (Config.Keytab) or the tickets of the client (Config.Tickets) what Kerberos protects, and with
// the client's NT hash (Config.NTHashes) what NTLM does, each on its own or inside SPNEGO. Where it
// has a key it checks the signatures of SMB and RPC too, and says of calls that they were tampered
// with (Call.Tampered). NTLMv1 is not read.
//
// A capture is seldom whole. Segments may be out of order, repeated or missing, packets cut short,
// and connections older than the capture. What can be decoded is yielded; a Call whose request or
// response cannot be read says why in RequestErr and ResponseErr, and what concerns no single call
// is counted in the Summary. None of it ends the sequence: only a file that cannot be read on does,
// with the error that comes last.
//
// TCP is found in Ethernet, wireless frames, cooked, loopback and raw captures, in IPv4 and IPv6,
// in fragments, and in whatever a mirror port or a cloud wraps packets in: VLANs, MPLS, PPPoE, GRE,
// ERSPAN, VXLAN, GENEVE, L2TP, GTP, IP in IP and others. Packets without TCP are counted by their
// kinds (Summary.Others).
//
// Memory does not depend on the size of the file: Config has the limits. What files' READs and
// WRITEs carry is passed over without being collected, unless the key is known that checks its
// signatures.
package capture
