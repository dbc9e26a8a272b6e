package krb5

import "errors"

// Errors of getting tickets, for an initiator. An error that matches one of them names the
// principal and says what to do.
var (
	ErrPassword       = errors.New("wrong password or key")
	ErrPasswordAge    = errors.New("password expired")
	ErrClientUnknown  = errors.New("unknown client principal")
	ErrClientRevoked  = errors.New("account disabled or locked")
	ErrServiceUnknown = errors.New("unknown service principal")
	ErrUnreachable    = errors.New("no KDC answers")
	ErrConfig         = errors.New("bad Kerberos configuration")
)

// Errors of tickets, for both sides.
var (
	ErrExpired     = errors.New("ticket expired")
	ErrNotYetValid = errors.New("ticket not yet valid")
	ErrSkew        = errors.New("clocks differ too much")
	ErrEtype       = errors.New("encryption type not supported or not allowed")
	ErrNoKey       = errors.New("no key in the keytab")
	ErrKeyVersion  = errors.New("no key of that version in the keytab")
	ErrWrongKey    = errors.New("the keytab's key is not the KDC's")
)

// Errors of the exchange of tokens.
var (
	ErrToken = errors.New("malformed token")
	// ErrTooLarge is a ticket that RPC cannot carry, usually for want of room for the account's
	// many groups.
	ErrTooLarge = errors.New("ticket too large for RPC")
	ErrReplay   = errors.New("replayed AP-REQ")
	ErrMutual   = errors.New("the service did not prove its identity")
	ErrPAC      = errors.New("bad PAC")
)

// Errors of protected messages. They end the context: nothing that comes after can be trusted.
var (
	ErrSignature = errors.New("signature does not match")
	ErrSequence  = errors.New("message replayed, lost, or out of order")
)
