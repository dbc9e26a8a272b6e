// Package sambapipe serves a named pipe of a real Samba file server: smbd speaks SMB with the clients and hands every
// handle that one of them opens on the pipe over to this process, by a Unix socket.
//
// For a pipe \pipe\Name, smbd connects to <ncalrpc dir>/np/<name in lower case>, says who has opened the pipe (the
// named pipe auth request, NPA, of Samba's librpc/idl/named_pipe_auth.idl), waits for an answer, and from then on
// carries what the client writes and reads, one message per DCE/RPC fragment. Listen makes that socket; the
// connections that the Listener accepts are dcerpc.SessionConns, which tell a dcerpc.Server the caller's account, SIDs,
// privileges and address, and whether SMB encrypts.
//
// Known levels of the hand-over: 4 (Samba up to 4.15), 5 in both of its layouts (4.16, 4.17.0 to 4.17.8, 4.18.0 to 4.18.2),
// 7 (4.17.9 on, 4.18.3 on, 4.19) and 8 (4.20 and later).
//
// # Living with samba-dcerpcd
//
// Samba has a server of its own for the pipe FssagentRpc, rpcd_fsrvp. While that is executable, samba-dcerpcd takes the pipe's socket
// over whenever it starts, without looking whether anybody listens there, and it starts often: for any other pipe that a client opens, and
// after any hand-over that failed. So three things hold here:
//
//   - A hand-over is always completed. A caller that cannot be accepted is refused by the RPC server, at its bind
//     (dcerpc.Session.Refuse).
//   - A Listener whose socket has been replaced or removed takes it back at once. Calls in between reach the other server.
//   - Listen warns of an rpcd_fsrvp that is executable. Take its execute permission away
//     (Debian: dpkg-statoverride --update --add root root 0644 /usr/libexec/samba/rpcd_fsrvp), or hide it from smbd and winbindd
//     (systemd: InaccessiblePaths=). A copy under another name that begins with rpcd_ is started just the same.
package sambapipe
