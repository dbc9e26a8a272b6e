package rpctest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A Script is one conversation. Running it does not change it; it is safe for concurrent use.
type Script struct {
	// Name is the script's name, unique in its suite: "bind/unknown-group".
	Name string
	// File and Line say where the script begins.
	File string
	Line int
	// Rule cites the rule and says in a sentence what it requires.
	Rule string
	// Profiles are the profiles that the script is for; nil means all.
	Profiles []Profile
	// Settings are the settings that the server must have, by name; see Target.Settings.
	Settings map[string]string

	steps []*step
	needs []string // what the target must have, in the words of Target.lacks
	side  side
}

// Client reports whether the script is for a client: it plays the server's part.
func (s *Script) Client() bool { return s.side == clients }

// side says whether a script tests servers or clients.
type side uint8

const (
	servers side = iota
	clients
)

// An op is what a step does.
type op uint8

const (
	opSend op = iota + 1
	opSendBytes
	opSendAgain
	opExpect
	opExpectBytes
	opExpectEnd
	opExpectNothing
	opExpectRefused
	opSecurity
	opSecured
	opExchange
	opBound
	opAlive
	opConnect
	opUse
	opClose
	opReset
	opFor
	opEventually
	opStart
	opResult
)

// A step is one line of a script; opFor and opEventually contain further lines.
type step struct {
	line    int
	text    string
	profile Profile // empty: all
	op      op
	ptype   string
	name    string
	via     string
	id      uint32
	wait    time.Duration
	fields  []field
	pattern []patternByte
	from    *expr
	to      *expr
	body    []*step
}

// A field is one name=value of a line.
type field struct {
	name   string
	op     string // "=", "!=", "<=", ">=" and for bytes by their offset "=", "^="
	spec   fieldSpec
	e      *expr
	word   string
	ctx    contextRef
	res    pdu.ContextResult
	none   bool // of a list: it is empty
	offset int  // of patch, from the end if negative
	patch  []byte
}

// Bounds of scripts.
const (
	maxSteps = 2000
	maxDepth = 3
	maxLoop  = 5000
	maxWait  = time.Minute
)

// A SyntaxError describes an error in a script.
type SyntaxError struct {
	File   string
	Line   int
	Script string
	Text   string // of the line
	Reason string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%s:%d: script %q: %s; the line is %q", e.File, e.Line, e.Script, e.Reason, e.Text)
}

// Parse reads scripts that test servers from a txtar archive: each file of the archive is a script,
// whose name is prefixed with the archive's name without its extension. Errors are of type
// [*SyntaxError].
func Parse(name string, archive []byte) ([]*Script, error) { return parse(name, archive, servers) }

// ParseClient is [Parse] for scripts that test clients.
func ParseClient(name string, archive []byte) ([]*Script, error) {
	return parse(name, archive, clients)
}

func parse(name string, archive []byte, side side) ([]*Script, error) {
	a := txtar.Parse(archive)
	base := name[strings.LastIndexByte(name, '/')+1:]
	base, _, _ = strings.Cut(base, ".")
	line := strings.Count(string(a.Comment), "\n")
	var scripts []*Script
	seen := map[string]bool{}
	for _, f := range a.Files {
		line++ // the marker
		p := scriptParser{
			s:     &Script{Name: base + "/" + f.Name, File: name, Line: line, side: side},
			scope: map[string]kind{}, security: map[uint32]bool{}, conns: map[string]bool{"1": true},
		}
		if seen[f.Name] {
			return nil, &SyntaxError{name, line, f.Name, "-- " + f.Name + " --", "this name is taken"}
		}
		seen[f.Name] = true
		if err := p.read(string(f.Data)); err != nil {
			return nil, err
		}
		scripts = append(scripts, p.s)
		line += strings.Count(string(f.Data), "\n")
	}
	return scripts, nil
}

// A scriptParser reads one script.
type scriptParser struct {
	s        *Script
	scope    map[string]kind
	security map[uint32]bool
	conns    map[string]bool
	started  map[string]bool
	line     int
	text     string
	steps    int
	blocks   []*step // open ones
}

func (p *scriptParser) fail(format string, args ...any) error {
	return &SyntaxError{p.s.File, p.line, p.s.Name, p.text, fmt.Sprintf(format, args...)}
}

// read reads the lines.
func (p *scriptParser) read(body string) error {
	lines := strings.Split(body, "\n")
	for i := 0; i < len(lines); {
		p.line = p.s.Line + 1 + i
		p.text = strings.TrimRight(lines[i], " \t\r")
		i++
		for ; i < len(lines) && p.text != "" && !strings.HasPrefix(p.text, "#") && strings.TrimSpace(lines[i]) != "" &&
			strings.ContainsRune(" \t", rune(lines[i][0])); i++ {
			p.text += " " + strings.TrimSpace(lines[i])
		}
		if p.text == "" || strings.HasPrefix(p.text, "#") {
			continue
		}
		if err := p.statement(); err != nil {
			return err
		}
	}
	p.line, p.text = p.s.Line, "-- "+p.s.Name+" --"
	switch {
	case p.s.Rule == "":
		return p.fail("no rule: line")
	case len(p.s.steps) == 0:
		return p.fail("nothing is sent or expected")
	case len(p.blocks) > 0 && p.blocks[len(p.blocks)-1].op == opFor:
		return p.fail("a for without its done")
	}
	return nil
}

// statement reads one line.
func (p *scriptParser) statement() error {
	if key, rest, ok := strings.Cut(p.text, ":"); ok && len(p.s.steps) == 0 {
		switch key {
		case "rule", "profile", "server":
			return p.header(key, strings.TrimSpace(rest))
		}
	}
	words, err := splitWords(p.text)
	if err != nil {
		return p.fail("%v", err)
	}
	st := &step{line: p.line, text: p.text}
	if strings.HasPrefix(words[0], "[") {
		st.profile = Profile(strings.Trim(words[0], "[]"))
		if !st.profile.known() {
			return p.fail("no profile %q: %s", st.profile, profileList())
		}
		words = words[1:]
	}
	if p.steps++; p.steps > maxSteps {
		return p.fail("more than %d lines", maxSteps)
	}
	if len(words) == 0 {
		return p.fail("nothing after the profile")
	}
	if words[0] == "done" {
		if len(p.blocks) == 0 || p.blocks[len(p.blocks)-1].op != opFor {
			return p.fail("a done without its for")
		}
		p.blocks = p.blocks[:len(p.blocks)-1]
		return nil
	}
	if err := p.verb(st, words[0], words[1:]); err != nil {
		return err
	}
	if n := len(p.blocks); n > 0 {
		p.blocks[n-1].body = append(p.blocks[n-1].body, st)
	} else {
		p.s.steps = append(p.s.steps, st)
	}
	if st.op == opFor || st.op == opEventually {
		if len(p.blocks) == maxDepth {
			return p.fail("more than %d blocks in each other", maxDepth)
		}
		p.blocks = append(p.blocks, st)
	}
	return nil
}

// header reads a line before the first step.
func (p *scriptParser) header(key, rest string) error {
	switch key {
	case "rule":
		if p.s.Rule != "" {
			return p.fail("a second rule")
		}
		p.s.Rule = rest
	case "profile":
		for _, w := range strings.Fields(rest) {
			if !Profile(w).known() {
				return p.fail("no profile %q: %s", w, profileList())
			}
			p.s.Profiles = append(p.s.Profiles, Profile(w))
		}
	case "server":
		words, err := splitWords(rest)
		if err != nil {
			return p.fail("%v", err)
		}
		for _, w := range words {
			k, v, ok := strings.Cut(w, "=")
			if !ok {
				return p.fail("%q: a setting is NAME=VALUE", w)
			}
			if p.s.Settings == nil {
				p.s.Settings = map[string]string{}
			}
			p.s.Settings[k] = v
		}
	}
	return nil
}

// splitWords splits a line at spaces that are neither in quotes nor in parentheses.
func splitWords(s string) ([]string, error) {
	var words []string
	var quoted, escaped, in bool
	depth, start := 0, 0
	for i := range len(s) {
		c := s[i]
		switch {
		case escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth--
		}
		space := !quoted && depth <= 0 && (c == ' ' || c == '\t')
		if space && in {
			words = append(words, s[start:i])
		}
		if !space && !in {
			start = i
		}
		in = !space
	}
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	if in {
		words = append(words, s[start:])
	}
	if words == nil {
		return nil, errors.New("an empty line")
	}
	return words, nil
}

// verb reads a line by its first word.
func (p *scriptParser) verb(st *step, verb string, words []string) error {
	switch verb {
	case ">":
		return p.sent(st, words)
	case "<":
		return p.expected(st, words)
	}
	if p.s.side == clients {
		switch verb {
		case "start":
			return p.start(st, words)
		case "result":
			return p.result(st, words)
		}
	} else {
		switch verb {
		case "bound":
			st.op, st.ptype = opBound, "bind"
			return p.fields(st, words, inSent, nil)
		case "secured":
			return p.secured(st, words)
		case "exchange":
			st.op = opExchange
			words, err := p.securityID(st, words)
			if err == nil && len(words) > 0 {
				err = p.fail("exchange is followed by an auth_context_id only")
			}
			return err
		case "alive":
			st.op, st.ptype = opAlive, "request"
			return p.fields(st, words, inSent, nil)
		case "connect":
			return p.connect(st, words)
		case "eventually":
			st.op = opEventually
			return p.duration(st, words)
		}
	}
	switch verb {
	case "security":
		st.op = opSecurity
		words, err := p.securityID(st, words)
		if err != nil {
			return err
		}
		return p.fields(st, words, inSent, securityFields)
	case "use":
		if len(words) != 1 || !p.conns[words[0]] {
			return p.fail("use is followed by the name of a connection")
		}
		st.op, st.name = opUse, words[0]
		return nil
	case "close", "reset":
		st.op = opClose
		if verb == "reset" {
			st.op = opReset
		}
		if len(words) > 0 {
			return p.fail("%s stands alone", verb)
		}
		return nil
	case "for":
		return p.loop(st, words)
	}
	return p.fail("no line begins with %q", verb)
}

// sent reads a line that sends.
func (p *scriptParser) sent(st *step, words []string) error {
	if len(words) == 0 {
		return p.fail("the PDU is missing")
	}
	switch words[0] {
	case "hex":
		st.op = opSendBytes
		b, err := hex.DecodeString(strings.Join(words[1:], ""))
		if err != nil || len(b) == 0 {
			return p.fail("what follows hex is not pairs of digits")
		}
		for _, c := range b {
			st.pattern = append(st.pattern, patternByte{b: c})
		}
		return nil
	case "again":
		st.op = opSendAgain
		if len(words) > 1 {
			return p.fail("again stands alone")
		}
		return nil
	}
	st.op, st.ptype = opSend, words[0]
	if pduFields[st.ptype] == nil {
		return p.fail("no PDU %q: %s, hex, again", st.ptype, strings.Join(ptypes(), ", "))
	}
	return p.fields(st, words[1:], inSent, nil)
}

func ptypes() []string {
	var all []string
	for t := range pduFields {
		all = append(all, t)
	}
	slices.Sort(all)
	return all
}

// expected reads a line that receives.
func (p *scriptParser) expected(st *step, words []string) error {
	if len(words) == 0 {
		return p.fail("what is expected is missing")
	}
	switch words[0] {
	case "end", "refused":
		st.op = opExpectEnd
		if words[0] == "refused" {
			st.op = opExpectRefused
		}
		if len(words) > 1 {
			return p.fail("%s stands alone", words[0])
		}
		return nil
	case "nothing":
		st.op = opExpectNothing
		return p.duration(st, words[1:])
	case "hex":
		st.op = opExpectBytes
		var err error
		if st.pattern, err = parsePattern(words[1:]); err != nil {
			return p.fail("%v", err)
		}
		return nil
	}
	st.op, st.ptype = opExpect, words[0]
	if pduFields[st.ptype] == nil || st.ptype == "raw" {
		return p.fail("no PDU %q: %s, hex, end, refused, nothing", st.ptype, strings.Join(ptypes(), ", "))
	}
	return p.fields(st, words[1:], inExpected, nil)
}

func (p *scriptParser) duration(st *step, words []string) error {
	if len(words) != 1 {
		return p.fail("a duration such as 50ms is missing")
	}
	d, err := time.ParseDuration(words[0])
	if err != nil || d <= 0 || d > maxWait {
		return p.fail("%q is not a duration of up to %v", words[0], maxWait)
	}
	st.wait = d
	return nil
}

// securityFields are the fields of a line that makes a security context.
var securityFields = map[string]fieldSpec{
	"level": {kind: number, names: levelNames, use: inSent},
	// mechanism is the auth type that the mechanism must have.
	"mechanism": {kind: number, names: authTypeNames, use: inSent},
	// legs is the number of tokens in the exchange: with 3 the client sends the last one in an
	// auth3, with 4 the server sends it.
	"legs": {kind: number, use: inSent},
	// ask is the level for which the mechanism is started, if it is to agree on less than level.
	"ask": {kind: number, names: levelNames, use: inSent},
}

func (p *scriptParser) securityID(st *step, words []string) ([]string, error) {
	if len(words) == 0 {
		return nil, p.fail("the auth_context_id is missing")
	}
	id, err := strconv.ParseUint(words[0], 0, 32)
	if err != nil {
		return nil, p.fail("%q is not an auth_context_id", words[0])
	}
	st.id = uint32(id)
	p.security[st.id] = true
	p.need("a security mechanism")
	return words[1:], nil
}

func (p *scriptParser) secured(st *step, words []string) error {
	st.op, st.ptype = opSecured, "bind"
	words, err := p.securityID(st, words)
	if err != nil {
		return err
	}
	if len(words) > 0 && words[0] == "alter_context" {
		st.ptype, words = words[0], words[1:]
	}
	return p.fields(st, words, inSent, securityFields)
}

func (p *scriptParser) connect(st *step, words []string) error {
	st.op = opConnect
	if len(words) == 0 || len(words) > 2 {
		return p.fail("connect is followed by a name, and via=DIALER")
	}
	st.name = words[0]
	p.conns[st.name] = true
	if len(words) == 2 {
		via, ok := strings.CutPrefix(words[1], "via=")
		if !ok || via == "" {
			return p.fail("connect is followed by a name, and via=DIALER")
		}
		st.via = via
		p.need("dialer " + via)
	}
	return nil
}

func (p *scriptParser) loop(st *step, words []string) error {
	st.op = opFor
	if len(words) != 3 || !isName(words[0]) {
		return p.fail("for is followed by a name, the first and the last value")
	}
	st.name = words[0]
	if k, ok := p.scope[st.name]; ok && k != number {
		return p.fail("$%s is %v", st.name, k)
	}
	if _, ok := variables[st.name]; ok {
		return p.fail("$%s is the target's: choose another name", st.name)
	}
	var err error
	if st.from, err = p.expr(words[1], number, nil); err != nil {
		return err
	}
	if st.to, err = p.expr(words[2], number, nil); err != nil {
		return err
	}
	p.scope[st.name] = number
	return nil
}

func (p *scriptParser) expr(s string, k kind, names map[string]uint64) (*expr, error) {
	e, err := parseExpr(s, k, names, p.scope)
	if err != nil {
		return nil, p.fail("%v", err)
	}
	e.uses(func(name string) {
		if _, ok := variables[name]; ok {
			p.need("$" + name)
		}
	})
	return e, nil
}

// need records what the target must have.
func (p *scriptParser) need(what string) {
	if !slices.Contains(p.s.needs, what) {
		p.s.needs = append(p.s.needs, what)
	}
}

// fields reads name=value words. The fields in more may stand in the line besides those of its PDU.
func (p *scriptParser) fields(st *step, words []string, u use, more map[string]fieldSpec) error {
	seen := map[string]bool{}
	for _, w := range words {
		f, err := p.field(st, w, u, more)
		if err != nil {
			return err
		}
		if seen[f.name] && f.spec.kind != list && f.patch == nil && (f.op == "=" || u == inSent) {
			return p.fail("%s is there twice", f.name)
		}
		seen[f.name] = true
		st.fields = append(st.fields, f)
	}
	return nil
}

func (p *scriptParser) field(st *step, w string, u use, more map[string]fieldSpec) (field, error) {
	end := 0
	for end < len(w) && (isNameByte(w[end]) || w[end] == '@' || w[end] == '-') {
		end++
	}
	f := field{name: w[:end]}
	for _, o := range []string{"!=", "<=", ">=", "^=", "="} {
		if strings.HasPrefix(w[end:], o) {
			f.op = o
			break
		}
	}
	if f.name == "" || f.op == "" {
		return f, p.fail("%q is no NAME=VALUE", w)
	}
	rest := w[end+len(f.op):]
	if offset, ok := strings.CutPrefix(f.name, "@"); ok {
		return p.patch(f, offset, rest, u)
	}
	spec, ok := more[f.name]
	if !ok && st.ptype != "" {
		spec, ok = fieldOf(st.ptype, f.name)
	}
	if !ok || spec.use&u == 0 {
		return f, p.fail("a line of %s has no field %s here", firstNonEmpty(st.ptype, "this kind"), f.name)
	}
	f.spec = spec
	if f.name == "times" {
		p.need(needStream)
	}
	compares := u == inExpected && (spec.kind == number && f.op != "^=" || spec.kind == data && f.op == "!=")
	if f.op != "=" && !compares {
		return f, p.fail("%s cannot stand after %s here", f.op, f.name)
	}
	if strings.HasPrefix(rest, "?") && (u != inExpected || f.op != "=") {
		return f, p.fail("only what is expected can be captured")
	}
	if rest == "*" && u != inExpected {
		return f, p.fail("only what is expected may be anything")
	}
	return p.fieldValue(f, rest)
}

func firstNonEmpty(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// patch reads @OFFSET=HEX or @OFFSET^=HEX.
func (p *scriptParser) patch(f field, offset, rest string, u use) (field, error) {
	n, err := strconv.ParseInt(offset, 10, 32)
	if err != nil || u != inSent || f.op != "=" && f.op != "^=" {
		return f, p.fail("bytes are changed by @OFFSET=HEX or @OFFSET^=HEX; a negative offset counts from the end")
	}
	f.offset = int(n)
	if f.patch, err = hex.DecodeString(rest); err != nil || len(f.patch) == 0 {
		return f, p.fail("%q is not pairs of hexadecimal digits", rest)
	}
	return f, nil
}

func (p *scriptParser) fieldValue(f field, rest string) (field, error) {
	var err error
	switch f.spec.kind {
	case number, data:
		if f.e, err = p.expr(rest, f.spec.kind, f.spec.names); err != nil {
			return f, err
		}
		if f.e.relative && f.name != "pfc_flags" {
			return f, p.fail("only pfc_flags can be added to its default")
		}
		return f, nil
	case list:
		return p.listValue(f, rest)
	}
	f.word = rest
	switch {
	case f.name == "auth":
		if rest == "none" || rest == "*" {
			return f, nil
		}
		id, err := strconv.ParseUint(rest, 0, 32)
		if err != nil || !p.security[uint32(id)] {
			return f, p.fail("no security context %s: it needs a line \"security %s\" before", rest, rest)
		}
	case f.name == "verification":
		if _, err := parseVerification(rest); err != nil {
			return f, p.fail("%v", err)
		}
		for _, item := range strings.Split(rest, ",") {
			if parts := strings.Split(item, ":"); parts[0] == "pcontext" && parts[1] == "other" {
				p.need("interface other")
			}
		}
	case f.spec.words != nil && !slices.Contains(f.spec.words, rest):
		return f, p.fail("%s is one of %s", f.name, strings.Join(f.spec.words, ", "))
	}
	return f, nil
}

func (p *scriptParser) listValue(f field, rest string) (field, error) {
	if rest == "none" {
		f.none = true
		return f, nil
	}
	var err error
	if f.name == "p_result" {
		if f.res, err = parseResult(rest); err != nil {
			return f, p.fail("%v", err)
		}
		return f, nil
	}
	if f.ctx, err = parseContext(rest); err != nil {
		return f, p.fail("%v", err)
	}
	for _, r := range append([]syntaxRef{f.ctx.abstract}, f.ctx.transfer...) {
		if r.name == "other" || r.name == "secure" {
			p.need("interface " + r.name)
		}
	}
	return f, nil
}

// A patternByte is one byte of a pattern: a value, any byte, or any number of them.
type patternByte struct {
	b    byte
	any  bool
	many bool
}

// parsePattern reads pairs of hexadecimal digits, ".." for any byte and "*" for any number of them.
func parsePattern(words []string) ([]patternByte, error) {
	var out []patternByte
	for _, w := range words {
		if w == "*" {
			out = append(out, patternByte{many: true})
			continue
		}
		if len(w)%2 != 0 {
			return nil, fmt.Errorf("%q is not pairs of digits or dots", w)
		}
		for i := 0; i < len(w); i += 2 {
			if w[i:i+2] == ".." {
				out = append(out, patternByte{any: true})
				continue
			}
			n, err := strconv.ParseUint(w[i:i+2], 16, 8)
			if err != nil {
				return nil, fmt.Errorf("%q is not pairs of digits or dots", w)
			}
			out = append(out, patternByte{b: byte(n)})
		}
	}
	if out == nil {
		return nil, errors.New("no bytes")
	}
	return out, nil
}

// matches reports whether b matches the pattern.
func matches(pattern []patternByte, b []byte) bool {
	// The last "*" met, and where in b its match begins.
	star, from := -1, 0
	i, j := 0, 0
	for j < len(b) {
		switch {
		case i < len(pattern) && pattern[i].many:
			star, from = i, j
			i++
		case i < len(pattern) && (pattern[i].any || pattern[i].b == b[j]):
			i++
			j++
		case star >= 0:
			from++
			i, j = star+1, from
		default:
			return false
		}
	}
	for i < len(pattern) && pattern[i].many {
		i++
	}
	return i == len(pattern)
}
