package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// A printer prints lines as the user wants them.
type printer struct {
	w     io.Writer
	json  *json.Encoder // nil for a table
	brief bool
	err   error
}

func newPrinter(w io.Writer, o *options) *printer {
	p := &printer{w: w, brief: o.brief}
	if o.json {
		p.json = json.NewEncoder(w)
		p.json.SetEscapeHTML(false)
	}
	return p
}

func (p *printer) print(l line) {
	var err error
	switch {
	case p.json != nil:
		err = p.json.Encode(l)
	case l.Verdict == "": // of -list
		_, err = fmt.Fprintf(p.w, "%-10s %-10s %s\n", l.Suite, l.Section, l.Case)
	default:
		_, err = io.WriteString(p.w, l.head())
	}
	if p.json == nil && err == nil && !p.brief {
		_, err = io.WriteString(p.w, l.rest())
	}
	p.err = errors.Join(p.err, err)
}

// head returns the first line of a case in the table, with the reason if it did not pass.
func (l *line) head() string {
	took := time.Duration(l.Seconds * float64(time.Second)).Round(time.Millisecond)
	s := fmt.Sprintf("%-7s %9s  %-10s %-10s %s\n", l.Verdict, took, l.Suite, l.Section, l.Case)
	if l.Reason != "" {
		s += indent + oneLine(l.Reason) + "\n"
	}
	return s
}

// indent begins lines that belong to the line above.
const indent = "        "

// rest returns what the text says and what the server did.
func (l *line) rest() string {
	s := indent + "The text: " + l.Demand + "\n"
	if l.Did != "" {
		s += indent + "The server: " + l.Did + "\n"
	}
	return s
}

// oneLine joins the lines of a text.
func oneLine(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ") }

// diff returns the output for a comparison: not standard output if that has the lines of -json.
func (p *printer) diff(stdout, stderr io.Writer) io.Writer {
	if p.json != nil {
		return stderr
	}
	return stdout
}

// A progress shows the running case on a terminal. Otherwise it reports only long waits.
type progress struct {
	w   io.Writer
	bar *progressbar.ProgressBar // nil without a terminal
}

func newProgress(w io.Writer, cases int) *progress {
	p := &progress{w: w}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = progressbar.NewOptions(cases, progressbar.OptionSetWriter(w), progressbar.OptionShowCount(),
			progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(false), progressbar.OptionUseANSICodes(false))
	}
	return p
}

// Errors of the bar are ignored below, since they are no reason to fail.

func (p *progress) begin(name string) {
	if p.bar != nil {
		p.bar.Describe(name)
		_ = p.bar.RenderBlank()
	}
}

// pause makes room for a line of the table.
func (p *progress) pause() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}

func (p *progress) done() {
	if p.bar != nil {
		_ = p.bar.Add(1)
	}
}

func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}

// waits returns the function that reports waits for the server.
func (p *progress) waits(current *string) func(limit time.Duration) {
	return func(limit time.Duration) {
		p.pause()
		fmt.Fprintf(p.w, "%s: the server is blocked; waiting for its timer, for at most %v\n", *current,
			limit.Round(time.Second))
	}
}
