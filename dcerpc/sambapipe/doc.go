// Package sambapipe serves a named pipe of a real Samba file server: smbd speaks SMB with the
// clients and hands every handle that one of them opens on the pipe over to this process, by a Unix
// socket.
//
// For a pipe \pipe\Name, smbd connects to <ncalrpc dir>/np/<name in lower case>, says who has
// opened the pipe (the named pipe auth request, NPA, of Samba's librpc/idl/named_pipe_auth.idl),
// waits for an answer, and from then on carries what the client writes and reads, one message per
// DCE/RPC fragment. Listen makes that socket; the connections that the Listener accepts are
// dcerpc.SessionConns, which tell a dcerpc.Server the caller's account, SIDs, privileges and
// address, and whether SMB encrypts.
//
// Known levels of the hand-over: 4 (Samba up to 4.15), 5 in both of its layouts (4.16, 4.17.0 to
// 4.17.8, 4.18.0 to 4.18.2), 7 (4.17.9 on, 4.18.3 on, 4.19) and 8 (4.20 and later).
//
// # Living with samba-dcerpcd
//
// Samba has a server of its own for the pipe FssagentRpc, rpcd_fsrvp. While that is executable,
// samba-dcerpcd takes the pipe's socket over whenever it starts, without looking whether anybody
// listens there, and it starts often: for any other pipe that a client opens, and after any
// hand-over that failed. So three things hold here:
//
//   - A hand-over is always completed. A caller that cannot be accepted is refused by the RPC
//     server, at its bind (dcerpc.Session.Refuse).
//   - A Listener whose socket has been replaced or removed takes it back at once. Calls in between
//     reach the other server.
//   - Listen warns of an rpcd_fsrvp that is executable. Take its execute permission away (Debian:
//     dpkg-statoverride --update --add root root 0644 /usr/libexec/samba/rpcd_fsrvp), or hide it
//     from smbd and winbindd (systemd: InaccessiblePaths=). A copy under another name that begins
//     with rpcd_ is started just the same.
//
// # Clients that are gone
//
// When the SMB client of a handle goes, smbd of Samba 4.17 closes the handle, and so the calls of a
// dcerpc.Server behind it are cancelled. That of Samba 4.22 waits for the answer to the call. So on
// Linux the Listener itself looks, every second, whether the client's TCP connection is there
// (sock_diag(7)), and ends the handle within 3 s where it is not: Read returns io.EOF, as if smbd
// had closed it.
//
// With SMB's multichannel a client has several connections, which one process of smbd's serves, and
// no other client. The client is gone when that process has none of them left, whichever the
// hand-over named; this process must be able to read /proc/PID/fd of smbd's for that, as root in
// the same PID namespace, or one above it, can. Where it cannot, where smbd is in another network
// namespace that this process may not enter, or where the client comes by no TCP, nothing is ended,
// and the log says so.
//
// A client that closes the handle alone, while it keeps its connection, ends its call with Samba
// 4.17 only.
package sambapipe
