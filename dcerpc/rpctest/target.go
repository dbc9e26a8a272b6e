package rpctest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A Target is a server to test, as a client sees it. Only Dial, Main and Operations.Call are
// required; scripts that need more are then not applicable. A Target must not be changed while
// scripts run.
type Target struct {
	// Dial makes a connection to the server's endpoint.
	Dial func(ctx context.Context) (net.Conn, error)
	// Dialers make special connections, by name: "elsewhere" comes from another client host,
	// "endpoint" goes to another endpoint of the same server.
	Dialers map[string]func(ctx context.Context) (net.Conn, error)
	// Profile is the behaviour that the server should have; empty means Windows2022.
	Profile Profile

	// Main is the interface to call. It must accept calls without security.
	Main dcerpc.SyntaxID
	// Other is a second interface at the same endpoint; the zero value means that none is known.
	// Every server has the management interface, Mgmt.
	Other dcerpc.SyntaxID
	// Secure is an interface that answers calls below the integrity level with access denied; it
	// may be Other.
	Secure dcerpc.SyntaxID
	// Operations describes the operations of Main.
	Operations Operations

	// Mechanisms log in to the server, in order of preference.
	Mechanisms []Mechanism
	// MaxFragment is the transport's largest fragment in bytes: 0 means 5840, that of TCP.
	MaxFragment int
	// Messages means that the transport carries messages, as a named pipe does: several PDUs cannot
	// be sent at once.
	Messages bool
	// SecondaryAddress is the server's own endpoint, as in a bind_ack but without the NUL; empty
	// means unknown.
	SecondaryAddress string
	// FaultAllocHint is the alloc_hint of the server's faults, if it differs from Windows' 32. It
	// does not matter on the wire.
	FaultAllocHint uint32
	// LosesLastFault means that a fault may be lost when the server ends the connection after it,
	// as in smbd's pipes, which end with the service behind them. A script that expects such a
	// fault and gets the end of the connection is not applicable.
	LosesLastFault bool
	// Settings are the server's settings, by the names that the scripts use. A script runs if the
	// server has exactly its settings. It is nil for servers without settings.
	Settings map[string]string
	// Timeout bounds the wait for one PDU; zero means 10 s.
	Timeout time.Duration
}

// An Opnum is the number of an operation, or none. The zero value is none.
type Opnum struct {
	Is bool
	N  uint16
}

// Op returns the Opnum n.
func Op(n uint16) Opnum { return Opnum{true, n} }

// Operations are the operations of the interface Main, by what they do. Only Call is required.
type Operations struct {
	// Call takes any stub, of any length, and answers.
	Call Opnum
	// Answer returns the answer of Call to a stub; nil means that any answer is right.
	Answer func(stub []byte) []byte
	// Echo answers with the stub of the request.
	Echo Opnum
	// Count is the number of operations: the server answers calls from this opnum on with
	// nca_s_op_rng_error. Zero means unknown.
	Count int
	// NDR reads an unsigned long and answers with it.
	NDR Opnum
	// Short fails with RPC_X_BAD_STUB_DATA for a stub of three bytes.
	Short Opnum
	// Fault answers any stub with a fault of FaultStatus, and with DID_NOT_EXECUTE if FaultFlags
	// says so.
	Fault       Opnum
	FaultStatus pdu.FaultStatus
	FaultFlags  pdu.Flags
	// Error fails with nca_s_fault_unspec, and Panic does so by a crash of its handler that the
	// server survives.
	Error, Panic Opnum
	// Wait answers only when it is cancelled, with nca_s_fault_cancel.
	Wait Opnum
	// Hold answers only when Release is called; Waiting answers the number of calls of Wait in
	// progress, as an unsigned long.
	Hold, Release, Waiting Opnum
	// Peer answers with the text "ACCOUNT type TYPE level LEVEL" for its caller.
	Peer Opnum
}

// A Mechanism is a security mechanism that logs in.
type Mechanism struct {
	dcerpc.Initiator
	// Target is the service's name, as for [dcerpc.Initiator.NewContext].
	Target string
	// Account is the account that it logs in, as Operations.Peer names it.
	Account string
	// Legs is the number of tokens that both sides exchange: 3 for NTLM and for Kerberos, 4 for
	// SPNEGO.
	Legs int
	// Asks means that a context for a lower level does not ask for the protection of a higher one.
	// This is so for real mechanisms.
	Asks bool
}

// Mgmt returns the management interface, which every server has (C706 appendix Q).
func Mgmt() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: uuid.MustParse("afa8bd80-7d8a-11c9-bef4-08002b102989"), Major: 1}
}

// MgmtOperations describes the operations of [Mgmt], with which a server can be tested whose own
// interfaces are not known.
func MgmtOperations() Operations {
	const isServerListening, count = 2, 5
	return Operations{
		Call: Op(isServerListening),
		// inq_stats needs a count.
		Short: Op(1),
		Count: count, Fault: Op(count), FaultStatus: pdu.FaultOpRange, FaultFlags: pdu.DidNotExecute,
	}
}

// unknownInterface is one that no server has.
func unknownInterface() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: uuid.MustParse("0e0c0a08-0604-02ff-8899-aabbccddeeff"), Major: 1}
}

func (t *Target) profile() Profile {
	if t.Profile == "" {
		return Windows2022
	}
	return t.Profile
}

func (t *Target) maxFragment() int {
	if t.MaxFragment == 0 {
		return 5840
	}
	return t.MaxFragment
}

// interfaces returns the interfaces by the names that scripts use.
func (t *Target) interfaces() map[string]pdu.SyntaxID {
	m := map[string]pdu.SyntaxID{"main": t.Main, "unknown": unknownInterface()}
	if t.Other != (dcerpc.SyntaxID{}) {
		m["other"] = t.Other
	}
	if t.Secure != (dcerpc.SyntaxID{}) {
		m["secure"] = t.Secure
	}
	return m
}

// vars returns the variables of scripts that the target defines.
func (t *Target) vars() map[string]value {
	vars := map[string]value{"max_frag": numberOf(uint64(t.maxFragment()))}
	for name, o := range map[string]Opnum{
		"call": t.Operations.Call, "echo": t.Operations.Echo, "ndr": t.Operations.NDR, "short": t.Operations.Short,
		"fault": t.Operations.Fault, "error": t.Operations.Error, "panic": t.Operations.Panic,
		"wait": t.Operations.Wait,
		"hold": t.Operations.Hold, "release": t.Operations.Release, "waiting": t.Operations.Waiting,
		"peer": t.Operations.Peer,
	} {
		if o.Is {
			vars[name] = numberOf(uint64(o.N))
		}
	}
	if t.Operations.Count > 0 {
		vars["opnums"] = numberOf(uint64(t.Operations.Count))
	}
	if t.Operations.Fault.Is {
		vars["fault.status"] = numberOf(uint64(t.Operations.FaultStatus))
		vars["fault.flags"] = numberOf(uint64(t.Operations.FaultFlags))
	}
	if len(t.Mechanisms) > 0 {
		vars["auth_type"] = numberOf(uint64(t.Mechanisms[0].AuthType()))
		vars["account"] = dataOf([]byte(t.Mechanisms[0].Account))
	}
	if t.SecondaryAddress != "" {
		vars["sec_addr"] = dataOf([]byte(t.SecondaryAddress + "\x00"))
	}
	return vars
}

// faultAllocHint is the alloc_hint of faults.
func (t *Target) faultAllocHint() uint32 {
	if t.FaultAllocHint == 0 {
		return 32
	}
	return t.FaultAllocHint
}

// needStream is the need of a script that sends several PDUs in one write.
const needStream = "a stream of bytes"

// lacks returns what the target lacks for a script, or "".
func (t *Target) lacks(s *Script) string {
	vars := t.vars()
	interfaces := t.interfaces()
	for _, need := range s.needs {
		name, rest, _ := strings.Cut(need, " ")
		switch {
		case strings.HasPrefix(need, "$"):
			if _, ok := vars[need[1:]]; !ok {
				return "the target does not know " + need
			}
		case need == needStream:
			if t.Messages {
				return "the transport carries messages"
			}
		case name == "interface":
			if _, ok := interfaces[rest]; !ok {
				return "the target has no " + need
			}
		case name == "dialer":
			if t.Dialers[rest] == nil {
				return "the target has no " + need
			}
		case len(t.Mechanisms) == 0:
			return "the target has no security mechanism"
		}
	}
	if why := t.lacksSettings(s); why != "" {
		return why
	}
	return t.lacksMechanism(s.steps)
}

func (t *Target) lacksSettings(s *Script) string {
	for k, v := range s.Settings {
		if t.Settings[k] != v {
			return fmt.Sprintf("the server is not set to %s=%s", k, v)
		}
	}
	for k := range t.Settings {
		if _, ok := s.Settings[k]; !ok {
			return "the server is set to " + k
		}
	}
	return ""
}

// lacksMechanism looks for the mechanism of each security context.
func (t *Target) lacksMechanism(steps []*step) string {
	for _, st := range steps {
		if st.op == opSecurity || st.op == opSecured {
			if m, why := t.mechanism(st); m == nil {
				return why
			}
		}
		if why := t.lacksMechanism(st.body); why != "" {
			return why
		}
	}
	return ""
}

// mechanism finds the first mechanism that a security context may have.
func (t *Target) mechanism(st *step) (*Mechanism, string) {
	_, ask := st.literal("ask")
	legs, wantLegs := st.literal("legs")
	typ, wantType := st.literal("mechanism")
	for i := range t.Mechanisms {
		m := &t.Mechanisms[i]
		if wantLegs && m.Legs != int(legs) || wantType && uint64(m.AuthType()) != typ || ask && !m.Asks {
			continue
		}
		return m, ""
	}
	why := "the target has no mechanism"
	if wantType {
		why += " of type " + valueText(typ, authTypeNames)
	}
	if wantLegs {
		why += fmt.Sprintf(" with %d legs", legs)
	}
	if ask {
		why += " that asks for no more than its level"
	}
	return nil, why
}

// literal returns the value of a field that is a plain number.
func (st *step) literal(name string) (uint64, bool) {
	for _, f := range st.fields {
		if f.name == name && f.e != nil && len(f.e.terms) == 1 {
			return f.e.terms[0].lit.num, true
		}
	}
	return 0, false
}
