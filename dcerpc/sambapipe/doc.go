// Package sambapipe serves a named pipe of a real Samba file server: smbd speaks SMB with the
// clients, and passes every handle that a client opens on the pipe to this process, over a Unix
// socket.
//
// For a pipe \pipe\Name, smbd connects to <ncalrpc dir>/np/<name in lower case>, says who has
// opened the pipe (the named pipe auth request, NPA, of Samba's librpc/idl/named_pipe_auth.idl),
// waits for an answer, and then forwards the client's data, one message per DCE/RPC fragment.
// [Listen] makes that socket. The accepted connections implement [dcerpc.SessionConn], which gives
// a [dcerpc.Server] the caller's account, SIDs, privileges and address, and says whether SMB
// encrypts.
//
// The supported levels of the hand-over are 4 (Samba up to 4.15), 5 in both of its layouts (4.16,
// 4.17.0 to 4.17.8, 4.18.0 to 4.18.2), 7 (4.17.9 on, 4.18.3 on, 4.19) and 8 (4.20 and later).
//
// # Living with samba-dcerpcd
//
// Samba has its own server for the pipe FssagentRpc, rpcd_fsrvp. While that is executable,
// samba-dcerpcd takes over the pipe's socket whenever it starts, without checking whether another
// server listens there. It starts often: for any other pipe that a client opens, and after any
// failed hand-over. Therefore:
//
//   - A hand-over is always completed. If a caller cannot be accepted, the RPC server refuses its
//     bind (Refuse in [dcerpc.Session]).
//   - A Listener whose socket has been replaced or removed takes it back at once. Calls in between
//     reach the other server.
//   - Listen warns of an executable rpcd_fsrvp. Take its execute permission away (Debian:
//     dpkg-statoverride --update --add root root 0644 /usr/libexec/samba/rpcd_fsrvp), or hide it
//     from smbd and winbindd (systemd: InaccessiblePaths=). A copy under another name that begins
//     with rpcd_ would also be started.
//
// # Clients that have gone
//
// When the SMB client of a handle goes away, Samba 4.17's smbd closes the handle, which cancels the
// calls of a dcerpc.Server behind it. Samba 4.22's waits for the answer to the call. So on Linux
// the Listener checks every second whether the client's TCP connection still exists (sock_diag(7)),
// and ends the handle within 3 s if it does not: Read returns io.EOF, as if smbd had closed it.
//
// With SMB multichannel a client has several connections, served by one smbd process, which serves
// no other client. The client has gone when that process has no connections left, whichever one the
// hand-over named. To check that, this process must be able to read smbd's /proc/PID/fd, as root in
// the same PID namespace, or one above it, can. If it cannot, if smbd is in another network
// namespace that this process may not enter, or if the client does not use TCP, no handle is ended,
// and the log says so.
//
// If a client closes only the handle and keeps its connection, this ends its call with Samba 4.17,
// but not with 4.22.
package sambapipe
