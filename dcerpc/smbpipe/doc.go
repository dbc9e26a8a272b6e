// Package smbpipe carries DCE/RPC over named pipes of SMB servers, as a client (ncacn_np, MS-RPCE 2.1.1.2), and reads files of their shares.
//
// A Dialer logs in to a server once, by SMB 2.1 to 3.1.1, and opens any number of pipes in that session. Every pipe is a net.Conn for
// dcerpc.NewClientConn; a call takes one round trip (FSCTL_PIPE_TRANSCEIVE) wherever there is one call at a time.
//
//	auth, err := krb5.NewInitiatorWithPassword("backup@EXAMPLE.COM", password, nil)
//	...
//	d := &smbpipe.Dialer{Auth: auth}
//	defer d.Close()
//	conn, err := d.DialRPC(ctx, "fs1.example.com", `\PIPE\FssagentRpc`)
//
// # Security
//
// All messages of a session are signed, or encrypted where the server or the caller asks for it; a session without either
// is not possible. The session's mechanism is negotiated by SPNEGO. Of the dialects, SMB 3.1.1 alone keeps somebody in between from choosing a
// lesser one. What RPC protects is its own matter, whatever SMB does, and MS-FSRVP demands that it does.
//
// SMB is spoken by github.com/oiweiwei/go-smb2.fork, the library that go-msrpc uses, with its limits: no NetBIOS, no multichannel, no
// DFS, AES-128 alone, and no opening for backup, so that access to files is judged by their ACLs.
package smbpipe
