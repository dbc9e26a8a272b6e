package dcerpc

import (
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A SyntaxID names an interface (its abstract syntax) or a transfer syntax, with its version.
type SyntaxID = pdu.SyntaxID

// transferSyntax returns the transfer syntax that negotiates stubs in s.
func transferSyntax(s ndr.Syntax) SyntaxID {
	if s == ndr.NDR64 {
		return pdu.NDR64()
	}
	return pdu.NDR20()
}
