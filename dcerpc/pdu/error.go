package pdu

import "fmt"

// A Problem is what is wrong with a PDU: enough to choose the answer. Errors of this package match
// a Problem with [errors.Is].
type Problem uint8

// The problems, in the order in which a PDU is checked.
const (
	ErrShort        Problem = iota + 1 // fewer bytes than a header, or than frag_length says
	ErrVersion                         // not version 5.0
	ErrDataRep                         // a data representation other than ASCII, IEEE and either byte order
	ErrFragLength                      // frag_length below 16, over the limit, or (when writing) over 65535
	ErrType                            // a ptype that is not connection-oriented, or not the one asked for
	ErrBody                            // the PDU ends before its body does
	ErrAuth                            // auth_length or auth_pad_length do not fit into the PDU
	ErrCount                           // when writing: a list, string or token that its length field cannot express
	ErrSequence                        // a fragment when none was due, or of a call that was not due
	ErrChanged                         // a later fragment differs in type or data representation from the first
	ErrTooLarge                        // a stub or its number of fragments is over the limit
	ErrVerification                    // the trailer contradicts the request, or has an unknown mandatory command
)

func (p Problem) Error() string {
	switch p {
	case ErrShort:
		return "truncated"
	case ErrVersion:
		return "protocol version not supported"
	case ErrDataRep:
		return "data representation not supported"
	case ErrFragLength:
		return "bad fragment length"
	case ErrType:
		return "unexpected type"
	case ErrBody:
		return "body truncated"
	case ErrAuth:
		return "bad auth trailer"
	case ErrCount:
		return "too long for its length field"
	case ErrSequence:
		return "fragment out of sequence"
	case ErrChanged:
		return "fragment differs from the first"
	case ErrTooLarge:
		return "over the size limit"
	case ErrVerification:
		return "verification trailer does not match"
	}
	return "unknown problem"
}

// An Error says what is wrong with a PDU.
type Error struct {
	Problem Problem
	Type    Type   // as in the header; also TypeRequest if there was no header
	Detail  string // what was found; may be empty
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("pdu: %v: %v", e.Type, e.Problem)
	}
	return fmt.Sprintf("pdu: %v: %v: %s", e.Type, e.Problem, e.Detail)
}

// Unwrap returns the Problem.
func (e *Error) Unwrap() error { return e.Problem }

func fail(p Problem, t Type, format string, args ...any) error {
	return &Error{Problem: p, Type: t, Detail: fmt.Sprintf(format, args...)}
}
