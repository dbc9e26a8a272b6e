// Package smbpipe is a client for DCE/RPC over named pipes of SMB servers (ncacn_np, MS-RPCE
// 2.1.1.2), and opens their shares.
//
// A [Dialer] logs in to a server once, with SMB 2.1 to 3.1.1, and opens any number of pipes and
// shares in that session. Every pipe is a [net.Conn] for [dcerpc.NewClientConn]; if there is one
// call at a time, a call takes one round trip (FSCTL_PIPE_TRANSCEIVE).
//
//	auth, err := krb5.NewInitiatorWithPassword("backup@EXAMPLE.COM", password, nil)
//	...
//	d := &smbpipe.Dialer{Auth: auth}
//	defer d.Close()
//	conn, err := d.DialRPC(ctx, "fs1.example.com", `\PIPE\FssagentRpc`)
//
// On Windows a [SystemDialer] uses the system's own SMB client instead, with the log-on of the
// process; together with package [github.com/go-fsrvp/go-fsrvp/dcerpc/sspi] for RPC security, no
// password or keytab is needed.
//
// # Security
//
// All messages of a session are signed, or encrypted if the server, the share or the caller asks
// for it; a session without either is not possible. SPNEGO negotiates the session's mechanism. RPC
// security is independent of SMB's, and MS-FSRVP requires it.
//
// The SMB client is package [github.com/go-fsrvp/go-fsrvp/dcerpc/smb2]: no NetBIOS, no
// multichannel, no DFS.
package smbpipe
