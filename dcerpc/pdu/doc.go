// Package pdu reads and writes the connection-oriented protocol data units of DCE/RPC
// version 5.0 (C706 chapter 12, MS-RPCE 2.2.2), for live connections and for captures alike.
//
// There is one type for each kind of PDU, with a ParseX function and an AppendBinary
// method; Parse reads any kind. What a Parse function accepts, AppendBinary writes back byte
// for byte, padding and reserved fields included.
//
// Parsing is zero-copy: every []byte of a parsed PDU aliases the input and is as valid as that is.
// ParseRequest and ParseResponse do not allocate. Nothing is ever allocated from a count in the
// input that the bytes after it do not bear out.
//
// The package decodes and does not judge: fields that peers ignore are kept and not checked, and
// errors tell what was wrong (Problem), so that a server can choose the fault and a decoder can
// name the damage. Around the PDUs there are a Framer for byte streams, a Fragmenter and a
// Reassembler for calls of more than one fragment, and the verification trailer that ends some
// stubs.
//
// Illegal PDUs, which conformance tools need, are made in two ways: Raw is written as it
// stands, and Header.Put overwrites the header of a PDU that AppendBinary has made.
//
// Values of this package may be used by one goroutine at a time.
package pdu
