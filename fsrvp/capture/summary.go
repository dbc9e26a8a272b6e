package capture

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// A Summary has the counts for one file, or for several in sequence. It is complete when the
// sequence of calls has ended, and may be read between two calls.
type Summary struct {
	Packets      uint64
	Bytes        uint64 // of captured packets
	TCP          uint64 // TCP packets
	Connections  uint64 // TCP connections with SMB or RPC in them
	Associations uint64 // RPC associations that offered or carried the interface
	Calls        uint64 // all yielded calls
	Failed       uint64 // calls with a status other than success
	Faults       uint64 // calls that were answered with a fault
	Unanswered   uint64 // calls without any answer
	Unreadable   uint64 // calls whose request or response could not be decoded
	Tampered     uint64 // calls with a message whose signature does not verify
	Signatures   uint64 // signatures of SMB messages that were checked, because the key was known
	// Problems are the different problems in the order in which they were first met, at most 100; a
	// last one with [ErrLimit] counts the rest.
	Problems []Problem
	// Others counts packets without TCP by kind ("UDP", "ARP", "IPsec (ESP)"), in the order in
	// which the kinds were first met. There are at most 100 kinds; the last counts the rest.
	Others []Other
}

// An Other counts packets without TCP of one kind.
type Other struct {
	Kind    string
	Packets uint64
}

// maxOthers is the number of kinds that are counted, the rest included.
const maxOthers = 100

// other counts a packet.
func (s *Summary) other(kind string) {
	for i := range s.Others {
		if s.Others[i].Kind == kind {
			s.Others[i].Packets++
			return
		}
	}
	switch n := len(s.Others); {
	case n < maxOthers-1:
		s.Others = append(s.Others, Other{kind, 1})
	case n < maxOthers:
		s.Others = append(s.Others, Other{"further kinds", 1})
	default:
		s.Others[n-1].Packets++
	}
}

// A Problem is something that could not be decoded. Problems that differ in Reason or Detail are
// counted separately.
type Problem struct {
	Reason Reason
	Detail string // details; may be empty
	Count  uint64
	// Packet, Time, Client and Server say where it was first met; the addresses are zero if it does
	// not concern a connection.
	Packet         uint64
	Time           time.Time
	Client, Server netip.AddrPort
}

// String returns a sentence without its full stop.
func (p Problem) String() string {
	s := p.Reason.Error()
	if p.Detail != "" {
		s += ": " + p.Detail
	}
	s += fmt.Sprintf(" (%d, first in packet %d", p.Count, p.Packet)
	if p.Client.IsValid() {
		s += fmt.Sprintf(", %v to %v", p.Client, p.Server)
	}
	return s + ")"
}

const maxProblems = 100

// add counts a problem once.
func (s *Summary) add(p Problem) {
	for i := range s.Problems {
		if q := &s.Problems[i]; q.Reason == p.Reason && q.Detail == p.Detail {
			q.Count++
			return
		}
	}
	p.Count = 1
	switch n := len(s.Problems); {
	case n < maxProblems:
		s.Problems = append(s.Problems, p)
	case n == maxProblems:
		p.Reason, p.Detail = ErrLimit, "further kinds of problems"
		s.Problems = append(s.Problems, p)
	default:
		s.Problems[n-1].Count++
	}
}

// count counts a call before it is yielded.
func (s *Summary) count(c *Call) {
	s.Calls++
	status, ok := c.Status()
	switch {
	case c.Fault != nil:
		s.Faults++
	case ok && !status.IsSuccess():
		s.Failed++
	case !c.Answered():
		s.Unanswered++
	}
	if c.Tampered {
		s.Tampered++
	}
	unreadable := false
	for i, err := range []error{c.RequestErr, c.ResponseErr} {
		var reason Reason
		if err == nil || !errors.As(err, &reason) || reason == ErrUnanswered {
			continue
		}
		unreadable = true
		p := Problem{Reason: reason, Detail: cause(err), Packet: c.Packet, Time: c.Time, Client: c.Client,
			Server: c.Server}
		if i == 1 && c.Answered() {
			p.Packet, p.Time = c.ResponsePacket, c.ResponseTime
		}
		s.add(p)
	}
	if unreadable {
		s.Unreadable++
	}
}
