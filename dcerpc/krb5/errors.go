package krb5

import "errors"

// Errors that an initiator gets when it asks for tickets. An error that matches one of them names
// the principal and says what to do.
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
	// ErrTooLarge means that a ticket is too large for RPC, usually because the account is in too
	// many groups.
	ErrTooLarge = errors.New("ticket too large for RPC")
	ErrReplay   = errors.New("replayed AP-REQ")
	ErrMutual   = errors.New("the service did not prove its identity")
	ErrPAC      = errors.New("bad PAC")
)

// Errors of protected messages. They end the context, because nothing that follows can be trusted.
var (
	ErrSignature = errors.New("signature does not match")
	ErrSequence  = errors.New("message replayed, lost, or out of order")
)
