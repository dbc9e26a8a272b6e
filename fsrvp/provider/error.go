package provider

import (
	"fmt"
	"strings"
)

// An Error says where a run failed. A run that failed in several places returns them joined
// (errors.Join): errors.As finds the first, errors.Is any. Err is what the server said (*fsrvp.Error), a
// fault, an error of the transport, a writer's error, or the context's.
type Error struct {
	Phase  Phase
	Server string // the server that it happened on, if any
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
	fmt.Fprintf(&b, ": %v", e.Err)
	return b.String()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }
