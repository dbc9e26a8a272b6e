package rpctest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A kind is the type of a value.
type kind uint8

const (
	number kind = iota + 1
	data
	list // presentation contexts or results
	word // one of a few names
)

func (k kind) String() string {
	switch k {
	case number:
		return "a number"
	case data:
		return "bytes"
	}
	return "a name"
}

// A value is a number or bytes; if any is set, it is a wildcard.
type value struct {
	kind kind
	num  uint64
	data []byte
	any  bool
}

func numberOf(n uint64) value { return value{kind: number, num: n} }
func dataOf(b []byte) value   { return value{kind: data, data: b} }

// An expr is an expression of a script: a sum of terms, or for bytes their concatenation.
type expr struct {
	text  string
	kind  kind
	terms []term
	// relative makes the value an addition to the default: pfc_flags=+DID_NOT_EXECUTE.
	relative bool
	// capture is the variable that stores the value of the field; fresh requires that it has not
	// had this value before.
	capture string
	fresh   bool
	any     bool
}

// A term is one operand.
type term struct {
	op   byte // '+', '-' or '|'; '+' for the first
	lit  value
	name string // of a variable or function, in place of lit
	args []*expr
	fn   bool
}

// maxData bounds what an expression may evaluate to, in bytes.
const maxData = 8 << 20

// maxTerms bounds the length and depth of an expression.
const maxTerms = 64

// functions are the functions of expressions, with the kinds of their arguments and results.
var functions = map[string]struct {
	args   []kind
	result kind
}{
	"zeros":  {[]kind{number}, data},
	"fill":   {[]kind{data, number}, data},
	"u16":    {[]kind{number}, data},
	"u32":    {[]kind{number}, data},
	"answer": {[]kind{data}, data},
}

// variables are defined by the target; a script may use them without capturing them.
var variables = map[string]kind{
	"max_frag":  number, // the transport's largest fragment
	"auth_type": number, // of the target's first mechanism
	"account":   data,   // the account that its mechanisms log in
	"sec_addr":  data,   // its secondary address, with the NUL
	"opnums":    number, // the number of operations of the interface main
	// Operations, by what they do; see Operations.
	"call": number, "echo": number, "ndr": number, "short": number, "fault": number, "error": number, "panic": number,
	"wait": number, "hold": number, "release": number, "waiting": number, "peer": number,
	"fault.status": number, "fault.flags": number,
}

// parser reads expressions.
type exprParser struct {
	rest  string
	names map[string]uint64 // of numbers
	scope map[string]kind   // of captured variables
	terms int
}

// parseExpr reads the whole of s as an expression of kind k. Names are those of the field.
func parseExpr(s string, k kind, names map[string]uint64, scope map[string]kind) (*expr, error) {
	p := exprParser{rest: s, names: names, scope: scope}
	e := &expr{text: s, kind: k}
	switch {
	case s == "*":
		e.any = true
		return e, nil
	case strings.HasPrefix(s, "?"):
		name := strings.TrimPrefix(s, "?")
		if rest, ok := strings.CutPrefix(name, "?"); ok {
			name, e.fresh = rest, true
		}
		if !isName(name) {
			return nil, fmt.Errorf("%q is not a name of a variable", name)
		}
		if _, ok := variables[name]; ok {
			return nil, fmt.Errorf("$%s is the target's: choose another name", name)
		}
		if have, ok := scope[name]; ok && have != k {
			return nil, fmt.Errorf("$%s is %v, this field %v", name, have, k)
		}
		scope[name], e.capture = k, name
		return e, nil
	case strings.HasPrefix(s, "+") && k == number:
		e.relative, p.rest = true, s[1:]
	}
	terms, err := p.sum(k)
	if err != nil {
		return nil, err
	}
	if p.rest != "" {
		return nil, fmt.Errorf("%q after the expression", p.rest)
	}
	e.terms = terms
	return e, nil
}

// sum reads terms and the operators between them.
func (p *exprParser) sum(k kind) ([]term, error) {
	var terms []term
	op := byte('+')
	for {
		t, err := p.term(k)
		if err != nil {
			return nil, err
		}
		t.op = op
		terms = append(terms, t)
		if p.rest == "" || !strings.ContainsRune("+-|", rune(p.rest[0])) {
			return terms, nil
		}
		op, p.rest = p.rest[0], p.rest[1:]
		if k == data && op != '+' {
			return nil, errors.New("bytes can only be joined, with +")
		}
	}
}

func (p *exprParser) term(k kind) (term, error) {
	if p.terms++; p.terms > maxTerms {
		return term{}, fmt.Errorf("more than %d terms", maxTerms)
	}
	switch {
	case p.rest == "":
		return term{}, fmt.Errorf("%v is missing", k)
	case p.rest[0] == '"':
		return p.quoted(k)
	case p.rest[0] == '$':
		return p.variable(k)
	}
	end := strings.IndexAny(p.rest, "+-|(),")
	if end < 0 {
		end = len(p.rest)
	}
	word := p.rest[:end]
	p.rest = p.rest[end:]
	if strings.HasPrefix(p.rest, "(") {
		return p.call(k, word)
	}
	if digits, ok := strings.CutPrefix(word, "hex:"); ok && k == data {
		b, err := hex.DecodeString(digits)
		if err != nil {
			return term{}, fmt.Errorf("%q: %w", word, err)
		}
		return term{lit: dataOf(b)}, nil
	}
	if k != number {
		return term{}, fmt.Errorf("%q is not %v: write \"text\", hex:0102 or zeros(9)", word, k)
	}
	if n, ok := p.names[word]; ok {
		return term{lit: numberOf(n)}, nil
	}
	n, err := strconv.ParseUint(word, 0, 32)
	if err != nil {
		return term{}, fmt.Errorf("%q is neither a number nor a name of this field", word)
	}
	return term{lit: numberOf(n)}, nil
}

func (p *exprParser) quoted(k kind) (term, error) {
	q, err := strconv.QuotedPrefix(p.rest)
	if err != nil {
		return term{}, fmt.Errorf("%s: bad quoted text", p.rest)
	}
	text, err := strconv.Unquote(q)
	if err != nil {
		return term{}, fmt.Errorf("%s: %w", q, err)
	}
	if k != data {
		return term{}, fmt.Errorf("%s is not %v", q, k)
	}
	p.rest = p.rest[len(q):]
	return term{lit: dataOf([]byte(text))}, nil
}

func (p *exprParser) variable(k kind) (term, error) {
	end := 1
	for end < len(p.rest) && (isNameByte(p.rest[end]) || p.rest[end] == '.') {
		end++
	}
	name := p.rest[1:end]
	have, ok := variables[name]
	if !ok {
		have, ok = p.scope[name]
	}
	switch {
	case !ok:
		return term{}, fmt.Errorf("no variable $%s: nothing before has captured it", name)
	case have != k:
		return term{}, fmt.Errorf("$%s is %v, not %v", name, have, k)
	}
	p.rest = p.rest[end:]
	return term{name: name}, nil
}

func (p *exprParser) call(k kind, name string) (term, error) {
	f, ok := functions[name]
	switch {
	case !ok:
		return term{}, fmt.Errorf("no function %s", name)
	case f.result != k:
		return term{}, fmt.Errorf("%s gives %v, not %v", name, f.result, k)
	}
	t := term{name: name, fn: true}
	for i, arg := range f.args {
		if i > 0 && !strings.HasPrefix(p.rest, ",") {
			return term{}, fmt.Errorf("%s has %d arguments", name, len(f.args))
		}
		p.rest = p.rest[1:]
		terms, err := (p).sum(arg)
		if err != nil {
			return term{}, err
		}
		t.args = append(t.args, &expr{kind: arg, terms: terms})
	}
	if !strings.HasPrefix(p.rest, ")") {
		return term{}, fmt.Errorf("%s is not closed", name)
	}
	p.rest = p.rest[1:]
	return t, nil
}

func isNameByte(c byte) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isName(s string) bool {
	for i := range len(s) {
		if !isNameByte(s[i]) {
			return false
		}
	}
	return s != "" && (s[0] < '0' || s[0] > '9')
}

// uses calls f with each variable of the expression.
func (e *expr) uses(f func(name string)) {
	for _, t := range e.terms {
		if t.name != "" && !t.fn {
			f(t.name)
		}
		for _, a := range t.args {
			a.uses(f)
		}
	}
}

// eval returns the expression's value. vars are the target's and the captured variables; answer
// returns the target's answer to a stub.
func (e *expr) eval(vars map[string]value, answer func([]byte) value) (value, error) {
	if e.any || e.capture != "" {
		return value{kind: e.kind, any: true}, nil
	}
	sum := value{kind: e.kind}
	for i, t := range e.terms {
		v, err := t.eval(vars, answer)
		if err != nil {
			return value{}, err
		}
		switch {
		case v.any:
			return v, nil
		case e.kind == data:
			if len(sum.data)+len(v.data) > maxData {
				return value{}, fmt.Errorf("more than %d bytes", maxData)
			}
			sum.data = append(sum.data, v.data...)
		case i == 0:
			sum.num = v.num
		case t.op == '+':
			sum.num += v.num
		case t.op == '-':
			if v.num > sum.num {
				return value{}, fmt.Errorf("%s is negative", e.text)
			}
			sum.num -= v.num
		default:
			sum.num |= v.num
		}
	}
	return sum, nil
}

func (t *term) eval(vars map[string]value, answer func([]byte) value) (value, error) {
	switch {
	case !t.fn && t.name == "":
		return t.lit, nil
	case !t.fn:
		v, ok := vars[t.name]
		if !ok {
			return value{}, fmt.Errorf("no value of $%s", t.name)
		}
		return v, nil
	}
	var args []value
	for _, a := range t.args {
		v, err := a.eval(vars, answer)
		if err != nil {
			return value{}, err
		}
		args = append(args, v)
	}
	switch t.name {
	case "zeros":
		return filled([]byte{0}, args[0].num)
	case "fill":
		return filled(args[0].data, args[1].num)
	case "u16":
		return dataOf(binary.LittleEndian.AppendUint16(nil, uint16(args[0].num))), nil
	case "u32":
		return dataOf(binary.LittleEndian.AppendUint32(nil, uint32(args[0].num))), nil
	}
	return answer(args[0].data), nil
}

// filled repeats text until there are n bytes.
func filled(text []byte, n uint64) (value, error) {
	switch {
	case n > maxData:
		return value{}, fmt.Errorf("%d bytes, the most is %d", n, maxData)
	case len(text) == 0:
		return value{}, errors.New("nothing to fill with")
	}
	return dataOf(bytes.Repeat(text, int(n)/len(text)+1)[:n]), nil
}
