package rpctest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// Names of the values of fields, those of C706 and MS-RPCE.
var (
	flagNames = map[string]uint64{
		"FIRST": uint64(pdu.FirstFrag), "LAST": uint64(pdu.LastFrag), "PENDING_CANCEL": uint64(pdu.PendingCancel),
		"SUPPORT_HEADER_SIGN": uint64(pdu.SupportHeaderSign), "RESERVED_1": 0x08, "CONC_MPX": uint64(pdu.ConcMPX),
		"DID_NOT_EXECUTE": uint64(pdu.DidNotExecute), "MAYBE": uint64(pdu.Maybe), "OBJECT_UUID": uint64(pdu.ObjectUUID),
	}
	typeNames     = namesOf(pdu.TypeRequest, pdu.TypeRTS, func(t pdu.Type) string { return t.String() })
	drepNames     = map[string]uint64{"little": 0x10, "big": 0}
	authTypeNames = map[string]uint64{"none": 0, "spnego": 9, "ntlm": 10, "kerberos": 16}
	levelNames    = map[string]uint64{
		"default": 0, "none": 1, "connect": 2, "call": 3, "packet": 4, "integrity": 5, "privacy": 6,
	}
	nakNames    = namesOf(0, 16, pdu.NakReason.String)
	statusNames = namesOfStatuses()
	yesNames    = map[string]uint64{"no": 0, "yes": 1}
)

func namesOf[T ~uint8 | ~uint16](from, to T, name func(T) string) map[string]uint64 {
	names := map[string]uint64{}
	for v := from; v <= to; v++ {
		if s := name(v); !strings.Contains(s, " ") {
			names[s] = uint64(v)
		}
	}
	return names
}

func namesOfStatuses() map[string]uint64 {
	names := map[string]uint64{}
	for _, s := range []pdu.FaultStatus{
		pdu.FaultAccessDenied, pdu.FaultInsufficientBuffer, pdu.FaultNoCallActive, pdu.FaultCallFailed,
		pdu.FaultCallFailedDNE,
		pdu.FaultUnknownAuthnService, pdu.FaultNDR, pdu.FaultCallCancelled, pdu.FaultSecPkgError,
		pdu.FaultVersionMismatch,
		pdu.FaultUnspecReject, pdu.FaultCancel, pdu.FaultUnspec, pdu.FaultContextMismatch, pdu.FaultRemoteNoMemory,
		pdu.FaultInvalidPresContextID, pdu.FaultUnsupportedAuthLevel, pdu.FaultOpRange, pdu.FaultUnknownInterface,
		pdu.FaultProtocolError, pdu.FaultServerTooBusy, pdu.FaultUnsupportedType,
	} {
		names[s.String()] = uint64(s)
	}
	return names
}

// A fieldSpec describes a field of a PDU, or an instruction.
type fieldSpec struct {
	kind  kind
	names map[string]uint64
	words []string // for kind word; empty: any
	use   use
}

// use says in which lines a field may stand.
type use uint8

const (
	inSent use = 1 << iota
	inExpected
	inBoth = inSent | inExpected
)

// headerFields are fields of every PDU (C706 12.6.3.1, MS-RPCE 2.2.2.11).
var headerFields = map[string]fieldSpec{
	"rpc_vers":        {kind: number, use: inBoth},
	"rpc_vers_minor":  {kind: number, use: inBoth},
	"ptype":           {kind: number, names: typeNames, use: inBoth},
	"pfc_flags":       {kind: number, names: flagNames, use: inBoth},
	"packed_drep":     {kind: number, names: drepNames, use: inBoth},
	"frag_length":     {kind: number, use: inBoth},
	"auth_length":     {kind: number, use: inBoth},
	"call_id":         {kind: number, use: inBoth},
	"auth":            {kind: word, use: inBoth}, // a security context, "none" or "*"
	"auth_type":       {kind: number, names: authTypeNames, use: inBoth},
	"auth_level":      {kind: number, names: levelNames, use: inBoth},
	"auth_pad":        {kind: data, use: inBoth},
	"auth_pad_length": {kind: number, use: inBoth},
	"auth_reserved":   {kind: number, use: inBoth},
	"auth_context_id": {kind: number, use: inBoth},
	"auth_value":      {kind: data, use: inBoth},
	"auth_more":       {kind: data, use: inSent},   // follows the token
	"cut":             {kind: number, use: inSent}, // only so many bytes are sent
	"times":           {kind: number, use: inSent}, // so many copies in one write
	"write":           {kind: word, words: []string{"later", "dribble"}, use: inSent},
}

// Fields of some PDUs.
var (
	stubFields = map[string]fieldSpec{
		"alloc_hint": {kind: number, use: inBoth},
		"p_cont_id":  {kind: number, use: inBoth},
		"stub":       {kind: data, use: inBoth},
	}
	bindFields = map[string]fieldSpec{
		"max_xmit_frag":  {kind: number, use: inBoth},
		"max_recv_frag":  {kind: number, use: inBoth},
		"assoc_group_id": {kind: number, use: inBoth},
		"n_context_elem": {kind: number, use: inBoth},
		"p_cont_elem":    {kind: list, use: inBoth},
	}
	ackFields = map[string]fieldSpec{
		"max_xmit_frag":  {kind: number, use: inBoth},
		"max_recv_frag":  {kind: number, use: inBoth},
		"assoc_group_id": {kind: number, use: inBoth},
		"sec_addr":       {kind: data, use: inBoth},
		"p_result":       {kind: list, use: inBoth},
	}
)

// pduFields are the fields of each ptype that a script may name.
var pduFields = map[string]map[string]fieldSpec{
	"bind": bindFields, "alter_context": bindFields, "bind_ack": ackFields, "alter_context_resp": ackFields,
	"bind_nak": {"provider_reject_reason": {kind: number, names: nakNames, use: inBoth}},
	"auth3":    {}, "co_cancel": {}, "orphaned": {}, "shutdown": {},
	"request": with(stubFields, map[string]fieldSpec{
		"opnum":        {kind: number, use: inBoth},
		"object":       {kind: data, use: inBoth},
		"verification": {kind: word, use: inSent},
	}),
	"response": with(stubFields, map[string]fieldSpec{
		"cancel_count": {kind: number, use: inBoth},
		"reserved":     {kind: number, use: inBoth},
		"fragments":    {kind: word, words: []string{"any"}, use: inExpected},
	}),
	"fault": with(stubFields, map[string]fieldSpec{
		"cancel_count": {kind: number, use: inBoth},
		"fault_flags":  {kind: number, use: inBoth},
		"status":       {kind: number, names: statusNames, use: inBoth},
	}),
	"raw": {"body": {kind: data, use: inSent}},
}

func with(a, b map[string]fieldSpec) map[string]fieldSpec {
	all := map[string]fieldSpec{}
	for _, m := range []map[string]fieldSpec{a, b} {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

// fieldOf finds a field of a ptype.
func fieldOf(ptype, name string) (fieldSpec, bool) {
	if f, ok := pduFields[ptype][name]; ok {
		return f, true
	}
	f, ok := headerFields[name]
	return f, ok
}

// A syntaxRef names an interface or transfer syntax as a script does: main, other, secure and
// unknown, which the target defines, ndr20, ndr64, features(N), or a UUID; a version may follow
// after a slash.
type syntaxRef struct {
	text    string
	name    string // empty: id
	id      pdu.SyntaxID
	version bool // id has the version that counts
}

var interfaceNames = []string{"main", "other", "secure", "unknown"}

func parseSyntax(s string) (syntaxRef, error) {
	r := syntaxRef{text: s}
	name, version, ok := strings.Cut(s, "/")
	if ok {
		major, minor, _ := strings.Cut(version, ".")
		a, err := strconv.ParseUint(major, 10, 16)
		if err != nil {
			return r, fmt.Errorf("%q: the version is MAJOR.MINOR", s)
		}
		b, err := strconv.ParseUint(minor, 10, 16)
		if err != nil {
			return r, fmt.Errorf("%q: the version is MAJOR.MINOR", s)
		}
		r.id.Major, r.id.Minor, r.version = uint16(a), uint16(b), true
	}
	if bits, ok := strings.CutPrefix(name, "features("); ok {
		n, err := strconv.ParseUint(strings.TrimSuffix(bits, ")"), 0, 64)
		if err != nil || r.version {
			return r, fmt.Errorf("%q: write features(3)", s)
		}
		r.id = pdu.FeatureSyntax(pdu.Features(n))
		return r, nil
	}
	switch name {
	case "ndr20":
		r.id.UUID = pdu.NDR20().UUID
		if !r.version {
			r.id = pdu.NDR20()
		}
	case "ndr64":
		r.id.UUID = pdu.NDR64().UUID
		if !r.version {
			r.id = pdu.NDR64()
		}
	case "main", "other", "secure", "unknown":
		r.name = name
	default:
		u, err := uuid.Parse(name)
		if err != nil || !r.version {
			return r, fmt.Errorf("%q is not an interface or syntax: main, other, secure, unknown, "+
				"ndr20, ndr64, features(N), UUID/MAJOR.MINOR", s)
		}
		r.id.UUID = u
	}
	return r, nil
}

// resolve returns the syntax, with the target's interfaces.
func (r *syntaxRef) resolve(interfaces map[string]pdu.SyntaxID) pdu.SyntaxID {
	if r.name == "" {
		return r.id
	}
	id := interfaces[r.name]
	if r.version {
		id.Major, id.Minor = r.id.Major, r.id.Minor
	}
	return id
}

// nameOf returns a syntax as a script would write it.
func nameOf(id pdu.SyntaxID, interfaces map[string]pdu.SyntaxID) string {
	switch f, ok := id.Features(); {
	case ok:
		return fmt.Sprintf("features(%d)", f)
	case id == pdu.NDR20():
		return "ndr20"
	case id == pdu.NDR64():
		return "ndr64"
	}
	for _, n := range interfaceNames {
		if have, ok := interfaces[n]; ok && have == id {
			return n
		}
	}
	return fmt.Sprintf("%v/%d.%d", id.UUID, id.Major, id.Minor)
}

// A contextRef is one p_cont_elem, "0:main:ndr20+ndr64".
type contextRef struct {
	id       uint16
	abstract syntaxRef
	transfer []syntaxRef
}

func parseContext(s string) (contextRef, error) {
	var c contextRef
	id, rest, ok := strings.Cut(s, ":")
	abstract, transfer, ok2 := strings.Cut(rest, ":")
	n, err := strconv.ParseUint(id, 0, 16)
	if !ok || !ok2 || err != nil {
		return c, fmt.Errorf("%q: a context is ID:INTERFACE:SYNTAX+SYNTAX", s)
	}
	c.id = uint16(n)
	if c.abstract, err = parseSyntax(abstract); err != nil {
		return c, err
	}
	if transfer == "" {
		return c, nil
	}
	for _, t := range strings.Split(transfer, "+") {
		r, err := parseSyntax(t)
		if err != nil {
			return c, err
		}
		c.transfer = append(c.transfer, r)
	}
	if len(c.transfer) > 255 {
		return c, fmt.Errorf("%q: more than 255 transfer syntaxes", s)
	}
	return c, nil
}

func (c *contextRef) resolve(interfaces map[string]pdu.SyntaxID) pdu.ContextElement {
	e := pdu.ContextElement{ID: c.id, Abstract: c.abstract.resolve(interfaces)}
	for i := range c.transfer {
		e.Transfer = append(e.Transfer, c.transfer[i].resolve(interfaces))
	}
	return e
}

// contextText returns a context as a script would write it.
func contextText(e pdu.ContextElement, interfaces map[string]pdu.SyntaxID) string {
	var transfer []string
	for _, t := range e.Transfer {
		transfer = append(transfer, nameOf(t, interfaces))
	}
	return fmt.Sprintf("%d:%s:%s", e.ID, nameOf(e.Abstract, interfaces), strings.Join(transfer, "+"))
}

// parseResult reads a p_result: "acceptance:ndr20",
// "provider_rejection:abstract_syntax_not_supported", "negotiate_ack:3".
func parseResult(s string) (pdu.ContextResult, error) {
	bad := fmt.Errorf("%q: a result is acceptance:SYNTAX, user_rejection:REASON, provider_rejection:REASON "+
		"or negotiate_ack:FEATURES", s)
	name, rest, ok := strings.Cut(s, ":")
	if !ok {
		return pdu.ContextResult{}, bad
	}
	switch name {
	case pdu.Acceptance.String():
		r, err := parseSyntax(rest)
		if err != nil || r.name != "" {
			return pdu.ContextResult{}, bad
		}
		return pdu.ContextResult{Transfer: r.id}, nil
	case pdu.UserRejection.String(), pdu.ProviderRejection.String():
		result := pdu.ProviderRejection
		if name == pdu.UserRejection.String() {
			result = pdu.UserRejection
		}
		for r := pdu.ReasonNotSpecified; r <= pdu.LocalLimitExceeded; r++ {
			if r.String() == rest {
				return pdu.ContextResult{Result: result, Reason: r}, nil
			}
		}
		return pdu.ContextResult{}, bad
	case pdu.NegotiateAck.String():
		n, err := strconv.ParseUint(rest, 0, 16)
		if err != nil {
			return pdu.ContextResult{}, bad
		}
		return pdu.ContextResult{Result: pdu.NegotiateAck, Reason: pdu.Reason(n)}, nil
	}
	return pdu.ContextResult{}, bad
}

// resultText returns a result as a script would write it.
func resultText(r pdu.ContextResult) string {
	switch {
	case r.Result == pdu.Acceptance && r.Reason == 0:
		return r.Result.String() + ":" + nameOf(r.Transfer, nil)
	case r.Transfer != (pdu.SyntaxID{}) || r.Result > pdu.NegotiateAck || r.Result == pdu.Acceptance:
		return fmt.Sprintf("%d:%d:%s", r.Result, r.Reason, nameOf(r.Transfer, nil))
	case r.Result == pdu.NegotiateAck:
		return fmt.Sprintf("%v:%d", r.Result, r.Reason)
	}
	return fmt.Sprintf("%v:%v", r.Result, r.Reason)
}

// valueText returns a number of a field as a script would write it.
func valueText(n uint64, names map[string]uint64) string {
	if len(names) == 0 {
		return strconv.FormatUint(n, 10)
	}
	if _, flags := names["FIRST"]; flags {
		return flagText(n)
	}
	for _, name := range sortedNames(names) {
		if names[name] == n {
			return fmt.Sprintf("%s (%#x)", name, n)
		}
	}
	return fmt.Sprintf("%#x", n)
}

func flagText(n uint64) string {
	var parts []string
	for _, f := range []struct {
		name string
		bit  uint64
	}{
		{"FIRST", 1}, {"LAST", 2}, {"SUPPORT_HEADER_SIGN or PENDING_CANCEL", 4}, {"RESERVED_1", 8}, {"CONC_MPX", 0x10},
		{"DID_NOT_EXECUTE", 0x20}, {"MAYBE", 0x40}, {"OBJECT_UUID", 0x80},
	} {
		if n&f.bit != 0 {
			parts = append(parts, f.name)
		}
	}
	if parts == nil {
		return "0"
	}
	return strings.Join(parts, "|")
}

func sortedNames(names map[string]uint64) []string {
	var all []string
	for n := range names {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}
