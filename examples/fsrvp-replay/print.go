package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
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

// summary prints the numbers: as JSON after the results, for people on standard error.
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
