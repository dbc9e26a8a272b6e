package provider

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// ErrSilent is in the error of a server that answered neither a call nor a new connection, see
// Config.ProbeAfter.
var ErrSilent = errors.New("the server is silent")

// An Error says where a run failed. A run that failed in several places returns them joined
// (errors.Join): errors.As finds the first, errors.Is any. Err is what the server said
// (*fsrvp.Error), a fault, an error of the transport, a writer's error, or the context's.
type Error struct {
	Phase  Phase
	Server string // the server that it happened on, if any, by a name that Run was given where one reaches it
	Share  string // the share that it was about, if one
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

// reason is err's text without what the sentence around it has said: the server, and the packages
// of this module that only passed the error on.
func reason(err error, server string) string {
	text := fmt.Sprint(err)
	if server != "" {
		var answer *fsrvp.Error
		if errors.As(err, &answer) {
			// The name that it was dialled by may be another one.
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

// causes returns the errors that are joined in err; none for nil.
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
