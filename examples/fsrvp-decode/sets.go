package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/story"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// chosen returns the sets that have a chosen call; with -failed, those that did not succeed.
func (o *options) chosen() []*story.Set {
	var sets []*story.Set
	calls := o.filter
	calls.failed = false
	for _, s := range story.Tell(o.calls, &o.story) {
		if o.filter.failed && s.Outcome.Succeeded() {
			continue
		}
		for i := range s.Events {
			if e := s.Events[i].Call; e != nil && calls.matches(e, e.Opnum()) {
				sets = append(sets, s)
				break
			}
		}
	}
	return sets
}

// tell prints the sets as the flags say: as one line each, as the story of one, or as a page.
func (o *options) tell(stdout, stderr io.Writer) error {
	sets := o.chosen()
	if o.sets {
		for i, s := range sets {
			if _, err := fmt.Fprintf(stdout, "#%d %s\n", i+1, s.AppendLine(nil)); err != nil {
				return fmt.Errorf("the output cannot be written: %w", err)
			}
		}
		if len(sets) == 0 {
			fmt.Fprintln(stderr, "it has no shadow copy sets that match the flags")
		}
	}
	if o.explain != "" {
		s, err := find(sets, o.explain)
		if err != nil {
			return err
		}
		if _, err := stdout.Write(s.AppendText(nil)); err != nil {
			return fmt.Errorf("the output cannot be written: %w", err)
		}
	}
	if o.html != "" {
		var page bytes.Buffer
		if err := story.WriteHTML(&page, "Shadow copy sets in "+strings.Join(o.files, ", "), sets); err != nil {
			return err
		}
		if err := os.WriteFile(o.html, page.Bytes(), 0o644); err != nil {
			return fmt.Errorf("-html: %w", err)
		}
		fmt.Fprintf(stderr, "wrote %s to %s\n", plural(uint64(len(sets)), "set"), o.html)
	}
	return nil
}

// find returns a set by its id, by the beginning of its id, or by its number in the output of
// -sets.
func find(sets []*story.Set, name string) (*story.Set, error) {
	if digits, ok := strings.CutPrefix(name, "#"); ok {
		if n, err := strconv.Atoi(digits); err == nil && n > 0 && n <= len(sets) {
			return sets[n-1], nil
		}
		return nil, fmt.Errorf("-explain: there is no set %s; -sets with the same flags numbers them", name)
	}
	var found *story.Set
	for _, s := range sets {
		if !s.Matches(name) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("-explain: several sets begin with %s; give more digits, or #N as -sets numbers them", name)
		}
		found = s
	}
	if found == nil {
		return nil, fmt.Errorf("-explain: there is no set %s; -sets lists them", name)
	}
	return found, nil
}

var errTranscript = errors.New("it is a transcript, whose calls are lines already: use -sets, -explain, -html, or fsrvp-replay")

// readTranscript takes the calls of a transcript.
func (o *options) readTranscript(name string, in io.Reader) error {
	if !o.tells() {
		return fmt.Errorf("%s: %w", name, errTranscript)
	}
	for e, err := range transcript.Read(in) {
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		o.calls = append(o.calls, e)
	}
	return nil
}
