package rpctest

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A verificationCommand is one command of a verification trailer as a script writes it:
// "bitmask1:0", "pcontext:main:ndr20", "header2", "header2:5" (with another opnum), "command:9",
// "must:9".
type verificationCommand struct {
	kind     string
	num      uint64
	given    bool // num
	abstract syntaxRef
	transfer syntaxRef
}

func parseVerification(s string) ([]verificationCommand, error) {
	var all []verificationCommand
	for _, item := range strings.Split(s, ",") {
		parts := strings.Split(item, ":")
		c := verificationCommand{kind: parts[0]}
		var err error
		switch {
		case c.kind == "pcontext" && len(parts) == 3:
			if c.abstract, err = parseSyntax(parts[1]); err == nil {
				c.transfer, err = parseSyntax(parts[2])
			}
		case c.kind == "header2" && len(parts) == 1:
		case slices.Contains([]string{"bitmask1", "header2", "command", "must"}, c.kind) && len(parts) == 2:
			c.given = true
			c.num, err = strconv.ParseUint(parts[1], 0, 14)
		default:
			err = fmt.Errorf("%q is none of bitmask1:BITS, pcontext:INTERFACE:SYNTAX, header2, "+
				"header2:OPNUM, command:ID, must:ID", item)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// appendVerification appends the trailer to the stub of a request.
func appendVerification(req *pdu.Request, commands []verificationCommand, interfaces map[string]pdu.SyntaxID) error {
	var v pdu.VerificationTrailer
	for _, c := range commands {
		of := *req
		if c.kind == "header2" && c.given {
			of.Opnum = uint16(c.num)
		}
		// In the order Bitmask1, PContext, Header2.
		all := pdu.NewVerificationTrailer(&of, c.abstract.resolve(interfaces), c.transfer.resolve(interfaces), false)
		switch c.kind {
		case "bitmask1":
			v = append(v, pdu.VerificationCommand{ID: pdu.VerifyBitmask1,
				Value: binary.LittleEndian.AppendUint32(nil, uint32(c.num))})
		case "pcontext":
			v = append(v, all[1])
		case "header2":
			v = append(v, all[2])
		case "command":
			v = append(v, pdu.VerificationCommand{ID: uint16(c.num), Value: []byte("xyz")})
		case "must":
			v = append(v, pdu.VerificationCommand{ID: uint16(c.num), MustProcess: true})
		}
	}
	var err error
	req.Stub, err = v.AppendBinary(req.Stub, 0)
	return err
}
