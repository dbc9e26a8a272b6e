// Package capture turns packet captures into FSRVP calls.
//
// [Calls] reads a pcap or pcapng file, which may be compressed, and yields one [*Call] for each
// request of the interface: who called, when, with what protection, the typed request and response,
// and the raw stubs. It finds the interface on ncacn_ip_tcp at any port, by its bind, and on named
// pipes over SMB 2 and 3 (READ, WRITE, FSCTL_PIPE_TRANSCEIVE, compounds, asynchronous responses,
// several pipes, sessions and channels).
//
// With keys it unseals RPC and decrypts SMB 3 sessions: those of Kerberos with the keytab of the
// server (Config.Keytab) or the tickets of the client (Config.Tickets), those of NTLM with the
// client's NT hash (Config.NTHashes), each directly or inside SPNEGO. If it has a key, it also
// checks the signatures of SMB and RPC, and marks calls that were tampered with (Call.Tampered).
// NTLMv1 is not supported.
//
// Captures are rarely complete. Segments may be out of order, repeated or missing, packets
// truncated, and connections older than the capture. Calls yields everything that it can decode; a
// Call whose request or response cannot be read says why in RequestErr and ResponseErr, and
// problems that do not concern a single call are counted in the [Summary]. Only a file that cannot
// be read further ends the sequence, with an error that comes last.
//
// TCP is found in Ethernet, wireless frames, cooked, loopback and raw captures, in IPv4 and IPv6,
// in fragments, and in the usual encapsulations of mirror ports and clouds: VLANs, MPLS, PPPoE,
// GRE, ERSPAN, VXLAN, GENEVE, L2TP, GTP, IP in IP and others. Packets without TCP are counted by
// their kinds (Summary.Others).
//
// Memory does not depend on the size of the file: [Config] has the limits. The data in READs and
// WRITEs of files is skipped, unless the key for checking its signatures is known.
package capture
