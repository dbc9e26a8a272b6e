package provider

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// ErrSilent means that a server answered neither a call nor a new connection; see ProbeAfter in
// [Config].
var ErrSilent = errors.New("the server is silent")

// An Error says where a run failed. If a run failed in several places, it returns the Errors joined
// ([errors.Join]): [errors.As] finds the first, and [errors.Is] any. Err is the server's answer
// (*fsrvp.Error), a fault, an error of the transport, a writer's error, or the context's.
type Error struct {
	Phase  Phase
	Server string // the server, if any, preferably by a name that was passed to Run
	Share  string // the share, if any
	Writer string // the writer that failed, if one
	Err    error
}

// Error returns a sentence such as "commit on fs1: …" or "start on fs1, share \\fs1\vms: …".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Phase))
	if e.Server != "" {
		fmt.Fprintf(&b, " on %s", e.Server)
	}
	if e.Writer != "" {
		fmt.Fprintf(&b, ", writer %s", e.Writer)
	}
	if e.Share != "" {
		fmt.Fprintf(&b, ", share %s", e.Share)
	}
	fmt.Fprintf(&b, ": %s", reason(e.Err, e.Server))
	return b.String()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// reason returns err's text without the parts that the surrounding sentence has: the server, and
// prefixes of packages that only passed the error on.
func reason(err error, server string) string {
	text := fmt.Sprint(err)
	if server != "" {
		var answer *fsrvp.Error
		if errors.As(err, &answer) {
			// It may have been dialed by another name.
			text = strings.Replace(text, answer.Op.String()+" on "+answer.Server+": ", answer.Op.String()+": ", 1)
		}
		text = strings.Replace(text, "fsrvp: dial "+server+": ", "", 1)
		text = strings.Replace(text, " on "+server+": ", ": ", 1)
	}
	for _, p := range []string{"fsrvp: ", "dcerpc: ", "provider: "} {
		text = strings.TrimPrefix(text, p)
		text = strings.ReplaceAll(text, ": "+p, ": ")
	}
	return text
}

// causes returns the errors joined in err; none for nil.
func causes(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, causes(e)...)
	}
	return out
}
