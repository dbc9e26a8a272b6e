// Package smbpipe carries DCE/RPC over named pipes of SMB servers, as a client (ncacn_np, MS-RPCE
// 2.1.1.2), and opens their shares.
//
// A Dialer logs in to a server once, by SMB 2.1 to 3.1.1, and opens any number of pipes and shares
// in that session. Every pipe is a net.Conn for dcerpc.NewClientConn; a call takes one round trip
// (FSCTL_PIPE_TRANSCEIVE) wherever there is one call at a time.
//
//	auth, err := krb5.NewInitiatorWithPassword("backup@EXAMPLE.COM", password, nil)
//	...
//	d := &smbpipe.Dialer{Auth: auth}
//	defer d.Close()
//	conn, err := d.DialRPC(ctx, "fs1.example.com", `\PIPE\FssagentRpc`)
//
// On Windows a [SystemDialer] opens them by the system's own SMB client instead, with the log-on of
// the process; with package [github.com/go-fsrvp/go-fsrvp/dcerpc/sspi] for RPC's own security no
// password and no keytab is needed.
//
// # Security
//
// All messages of a session are signed, or encrypted where the server, the share or the caller asks
// for it; a session without either is not possible. The session's mechanism is negotiated by
// SPNEGO. What RPC protects is its own matter, whatever SMB does, and MS-FSRVP demands that it
// does.
//
// SMB itself is package [github.com/go-fsrvp/go-fsrvp/dcerpc/smb2]: no NetBIOS, no multichannel, no
// DFS.
package smbpipe
