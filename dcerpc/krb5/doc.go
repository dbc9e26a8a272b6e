// Package krb5 is Kerberos 5 for DCE/RPC: the exchange of tokens and the protection of PDUs, for
// clients and servers.
//
// An Initiator is made of a password, a keytab, a credential cache, a gokrb5 client, or any
// TicketSource; an Acceptor of a keytab. Their contexts are what a dcerpc.Config and a
// dcerpc.Server take, and, by way of package spnego, what SPNEGO negotiates. An Observer reads
// captured traffic with the service's keytab.
//
// # The exchange
//
// Between RPC peers it has DCE style (RFC 4757 section 7.1, MS-KILE 3.4.5): three raw messages,
//
//	bind      AP-REQ  the ticket; subkey, sequence number and flags of the initiator
//	bind_ack  AP-REP  proves the acceptor; its subkey and sequence number
//	auth3     AP-REP  returns the acceptor's sequence number, which proves that the initiator is there now
//
// Initiator.NewSMBContext has the two messages of other users of GSS-API, in frames (RFC 4121
// section 4.1). An Acceptor serves both, and takes messages framed and raw. Both sides are always
// authenticated.
//
// # Protection
//
// Messages are signed with MIC tokens and sealed with Wrap tokens (RFC 4121 section 4.2) whose body
// is encrypted where it stands; with RC4, which must be asked for, with those of RFC 4757. All keys
// are derived once for a context, and a message costs no allocation (with RC4, two). Every token
// has to have the very next sequence number, the sender's direction and the agreed key; a context
// that has failed once is of no more use.
//
// # Tickets and keys
//
// KDCs are asked over TCP, within the context that is given to Step. Of gokrb5 the messages,
// cryptography, keytabs and krb5.conf are used. A PAC is verified with the service's key before its
// SIDs are believed.
package krb5
