// Package sspi is a security provider of DCE/RPC that uses Windows' own SSPI (secur32.dll): with
// the log-on of the process, so that a service needs neither password nor keytab, or with explicit
// credentials.
//
//	auth, err := sspi.NewInitiator(nil) // Negotiate, as the account that the process runs as
//	...
//	client, err := fsrvp.Dial(ctx, "fs1.example.com", &fsrvp.Config{Transport: transport, Auth: auth})
//
// A service that runs as LocalSystem or NetworkService acts on the network as the machine's
// account, "FS1$". On a thread that impersonates a user, [Initiator.NewContext] uses that user.
//
// The exchange follows RPC: DCE style, mutual authentication if the package has it, and every
// message signed or encrypted, with replay and sequence detection. The package checks that the
// system grants what the level needs. With header signing, headers of PDUs go to the system in
// read-only buffers with checksum (SECBUFFER_READONLY_WITH_CHECKSUM); NTLM signs them in any case
// (MS-RPCE 3.3.1.5.2.2).
//
// A context owns its system handles. They are released when it is closed, which dcerpc does at the
// end of the connection, or when it is garbage collected.
//
// The package can be imported on every system. On systems other than Windows its constructors
// return errors that match [errors.ErrUnsupported].
//
// # Wine
//
// Wine 10 implements Kerberos with MIT's libraries, and uses the tickets of KRB5CCNAME as the
// log-on. It does not sign headers: set NoHeaderSigning in the Config of fsrvp or dcerpc. Its
// Negotiate does not make SPNEGO tokens. Its NTLM, which needs Samba's ntlm_auth, does not say what
// it has granted, so an [Initiator] refuses it with [ErrWeak]. Wine does not tell an [Acceptor] who
// the client is, so it refuses every client with [ErrNobody].
package sspi
