package replay

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A Rule says which differences do not matter.
type Rule struct {
	method, field string // "*" for any
	was, now      string
}

// ParseRule reads a rule,
//
//	METHOD.FIELD
//	METHOD.FIELD=RECORDED:NOW
//
// METHOD is a method's name, and FIELD a value of Difference.Field: a result's name in the IDL,
// "Return" for the status, or "Fault". RECORDED and NOW are values as [Difference.String] shows
// them; statuses may be numbers or names, with or without "FSRVP_E_" and "E_". Each of the four may
// be "*" for any.
//
//	IsPathSupported.OwnerMachineName                    another machine's name
//	IsPathShadowCopied.Return=FSRVP_E_NOT_SUPPORTED:ZERO  a server that can say what Samba cannot
//	*.CreationTimestamp
func ParseRule(s string) (Rule, error) {
	var r Rule
	target, values, hasValues := strings.Cut(s, "=")
	var ok bool
	if r.method, r.field, ok = strings.Cut(target, "."); !ok || r.method == "" || r.field == "" {
		return r, fmt.Errorf("replay: %q is not a rule; write METHOD.FIELD or METHOD.FIELD=RECORDED:NOW", s)
	}
	if r.method != "*" && !isMethodName(r.method) {
		return r, fmt.Errorf("replay: the rule %q is about a method that FSRVP does not have", s)
	}
	r.was, r.now = "*", "*"
	if hasValues {
		if r.was, r.now, ok = strings.Cut(values, ":"); !ok || r.was == "" || r.now == "" {
			return r, fmt.Errorf("replay: the rule %q lacks RECORDED:NOW after its =", s)
		}
	}
	return r, nil
}

func isMethodName(name string) bool {
	for op := fsrvp.Opnum(0); op.Valid(); op++ {
		if strings.EqualFold(op.String(), name) {
			return true
		}
	}
	return false
}

// String returns the rule as [ParseRule] reads it.
func (r Rule) String() string {
	if r.was == "*" && r.now == "*" {
		return r.method + "." + r.field
	}
	return r.method + "." + r.field + "=" + r.was + ":" + r.now
}

// Tolerates reports whether the rule matches a difference.
func (r Rule) Tolerates(d *Difference) bool {
	return isName(r.method, d.Exchange.Opnum().String()) && isName(r.field, d.Field) &&
		isValue(r.was, d.Recorded) && isValue(r.now, d.Now)
}

func isName(rule, name string) bool { return rule == "*" || strings.EqualFold(rule, name) }

// isValue reports whether a value matches a rule's text.
func isValue(rule string, v any) bool {
	if rule == "*" {
		return true
	}
	var status fsrvp.Status
	switch v := v.(type) {
	case fsrvp.Status:
		status = v
	case *dcerpc.Fault:
		if v == nil {
			return strings.EqualFold(rule, "none")
		}
		if strings.EqualFold(rule, v.Status.String()) {
			return true
		}
		status = fsrvp.Status(v.Status)
	default:
		return strings.EqualFold(rule, strings.Trim(describe(v), `"`))
	}
	if n, err := strconv.ParseUint(rule, 0, 32); err == nil {
		return uint64(status) == n
	}
	for _, prefix := range []string{"", "FSRVP_E_", "E_", "FSSAGENT_E_"} {
		if strings.EqualFold(status.Name(), prefix+rule) {
			return true
		}
	}
	return false
}
