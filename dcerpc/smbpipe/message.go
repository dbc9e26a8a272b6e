package smbpipe

import "github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"

// A splitter finds the PDUs in a stream. It treats bytes that are not a PDU as an endless one,
// which the peer will refuse.
type splitter struct {
	head  [pdu.HeaderSize]byte
	have  int // of the header
	left  int // of the PDU, once there is a header
	wrong bool
}

// next takes bytes from the start of b, at most to the end of the PDU, and returns their number.
// The result whole reports whether they end the PDU.
func (s *splitter) next(b []byte) (n int, whole bool) {
	if s.wrong {
		return len(b), false
	}
	if s.have < len(s.head) {
		n = copy(s.head[s.have:], b)
		if s.have += n; s.have < len(s.head) {
			return n, false
		}
		h := s.header()
		if h.Major != 5 || h.FragLength < pdu.HeaderSize {
			s.wrong = true
			return len(b), false
		}
		s.left = int(h.FragLength) - pdu.HeaderSize
	}
	m := min(s.left, len(b)-n)
	s.left -= m
	if s.left == 0 {
		s.have = 0
		return n + m, true
	}
	return n + m, false
}

// header returns the header of the current PDU, or of the one that has just ended.
func (s *splitter) header() pdu.Header {
	h, _ := pdu.ParseHeader(s.head[:]) // long enough
	return h
}

// wantsAnswer reports whether the server answers this PDU of the client.
func wantsAnswer(h *pdu.Header) bool {
	switch h.Type {
	case pdu.TypeRequest:
		return h.Flags.Has(pdu.LastFrag)
	case pdu.TypeAuth3, pdu.TypeCoCancel, pdu.TypeOrphaned:
		return false
	}
	return true // a PDU that clients must not send is answered with a fault
}

// isAnswer reports whether a PDU of the server is the last one of an answer.
func isAnswer(h *pdu.Header) bool {
	switch h.Type {
	case pdu.TypeResponse:
		return h.Flags.Has(pdu.LastFrag)
	case pdu.TypeShutdown:
		return false
	}
	return true
}
