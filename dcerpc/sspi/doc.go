// Package sspi is the security of Windows itself, SSPI of secur32.dll, as a security provider of
// DCE/RPC: with the log-on of the process, so that a service needs no password and no keytab, or
// with credentials that are given.
//
//	auth, err := sspi.NewInitiator(nil) // Negotiate, as the account that the process runs as
//	...
//	client, err := fsrvp.Dial(ctx, "fs1.example.com", &fsrvp.Config{Transport: transport, Auth: auth})
//
// A service that runs as LocalSystem or NetworkService is the machine's account, "FS1$", on the
// network. A thread that impersonates somebody is that one: an [Initiator.NewContext] looks at the
// thread that calls it.
//
// The exchange is that of RPC: DCE style, mutual authentication where the package has it, and every
// message is signed, or encrypted, with replay and sequence detection. What the system grants is
// checked against what the level needs. Headers of PDUs go to the package in read-only buffers with
// checksum, SECBUFFER_READONLY_WITH_CHECKSUM, where header signing is negotiated; NTLM signs them
// in any case (MS-RPCE 3.3.1.5.2.2).
//
// Handles of the system belong to a context and are released when it is closed, which dcerpc does
// with the connection's end, or when it is garbage.
//
// The package can be imported on every system. On others than Windows its constructors return
// errors that match [errors.ErrUnsupported].
//
// # Wine
//
// Wine 10 has Kerberos by MIT's libraries, with the tickets of KRB5CCNAME as the log-on. It does
// not sign headers: set NoHeaderSigning in the Config of fsrvp or dcerpc. Its Negotiate makes no
// tokens of SPNEGO. Its NTLM, which needs Samba's ntlm_auth, does not say what it has granted, so
// that an [Initiator] refuses it with [ErrWeak]. It does not tell an [Acceptor] who the client is,
// which refuses every client with [ErrNobody].
package sspi
