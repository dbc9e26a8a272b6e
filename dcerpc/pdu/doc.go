// Package pdu reads and writes the connection-oriented protocol data units of DCE/RPC
// version 5.0 (C706 chapter 12, MS-RPCE 2.2.2), for live connections and for captures alike.
//
// There is one type for each kind of PDU, with a ParseX function and an AppendBinary method; Parse
// reads any kind. AppendBinary writes whatever a Parse function accepted back byte for byte,
// padding and reserved fields included.
//
// Parsing is zero-copy: every []byte of a parsed PDU aliases the input and is valid for as long as
// the input is. [ParseRequest] and [ParseResponse] do not allocate. No count in the input leads to
// an allocation that the bytes after it do not justify.
//
// The package decodes and does not judge: it keeps fields that peers ignore without checking them,
// and its errors say what was wrong ([Problem]), so that a server can choose the fault and an
// analyzer can name the damage. A [Framer] reads PDUs from a byte stream, a [Fragmenter] and a
// [Reassembler] handle calls of more than one fragment, and [VerificationTrailer] is the trailer
// that ends some stubs.
//
// Illegal PDUs, which conformance tools need, can be made in two ways: a [Raw] is written as it
// stands, and [Header.Put] overwrites the header of a PDU that AppendBinary has made.
//
// Values of this package are not safe for concurrent use.
package pdu
