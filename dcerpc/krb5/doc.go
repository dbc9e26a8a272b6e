// Package krb5 implements Kerberos 5 for DCE/RPC: the exchange of tokens and the protection of
// PDUs, for clients and servers.
//
// An Initiator is made from a password, a keytab, a credential cache, a gokrb5 client, or any
// [TicketSource]; an Acceptor is made from a keytab. They go into a dcerpc.Config and a
// dcerpc.Server, directly or through package spnego, which negotiates them by SPNEGO. An Observer
// reads captured traffic with the service's keytab.
//
// # The exchange
//
// Between RPC peers the exchange has DCE style (RFC 4757 section 7.1, MS-KILE 3.4.5), which
// consists of three raw messages:
//
//	bind      AP-REQ  the ticket; subkey, sequence number and flags of the initiator
//	bind_ack  AP-REP  proves the acceptor; its subkey and sequence number
//	auth3     AP-REP  returns the acceptor's sequence number, which proves that the initiator is there now
//
// [Initiator.NewSMBContext] uses the two messages of other users of GSS-API, in frames (RFC 4121
// section 4.1). An Acceptor supports both exchanges, and accepts framed and raw messages. Both
// sides are always authenticated.
//
// # Protection
//
// Messages are signed with MIC tokens and sealed with Wrap tokens (RFC 4121 section 4.2), whose
// body is encrypted in place. RC4, which must be switched on, uses the tokens of RFC 4757. All keys
// are derived once for a context, and a message costs no allocation (two with RC4). Every token
// must have exactly the next sequence number, the sender's direction and the agreed key. After its
// first failure a context cannot be used any more.
//
// # Tickets and keys
//
// KDCs are asked over TCP, within the context that is given to Step. The package uses gokrb5's
// messages, cryptography, keytabs and types for krb5.conf. It verifies a PAC with the service's key
// before it believes the SIDs in it.
package krb5
