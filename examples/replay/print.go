package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A printer prints results one per line: for people, or as JSON.
type printer struct {
	stdout, stderr io.Writer
	json           bool

	mu  sync.Mutex
	err error
}

// line prints one result, which has both forms.
func (p *printer) line(v fmt.Stringer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	if p.json {
		err = json.NewEncoder(p.stdout).Encode(v)
	} else {
		_, err = fmt.Fprintln(p.stdout, v.String()) // v may be an error, whose other text is longer
	}
	p.err = errors.Join(p.err, err)
}

// summary prints the numbers: as JSON after the results, for people beside them.
func (p *printer) summary(v fmt.Stringer) {
	if p.json {
		p.line(v)
		return
	}
	fmt.Fprintln(p.stderr, v)
}

// Err returns why results are missing.
func (p *printer) Err() error {
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("the output cannot be written: %w", p.err)
}

// explain adds what to try to errors that a person can do something about.
func explain(err error) string {
	msg := err.Error()
	switch {
	case errors.Is(err, fsrvp.ErrAccessDenied):
		msg += "\n  The account needs to be in BUILTIN\\Administrators or BUILTIN\\Backup Operators of the file server."
	case errors.Is(err, dcerpc.ErrAccessDenied), errors.Is(err, dcerpc.ErrSecurityPackage):
		msg += "\n  The server refused the security of the call. Try another -mechanism, and -level privacy."
	}
	return msg
}
