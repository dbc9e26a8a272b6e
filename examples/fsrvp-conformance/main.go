// Command fsrvp-conformance checks an MS-FSRVP server case by case, and prints what the text says
// and what the server did.
//
//	fsrvp-conformance -server fs1.example.com -share '\\fs1.example.com\vms' -user backup@EXAMPLE.COM -keytab backup.keytab
//
// README.md in this directory explains all of it, for people who do not write Go. Nobody else may
// use the server meanwhile, since it makes only one set at a time. The cases delete everything that
// they make. A case that needs something that the flags do not name (other shares, an unprivileged
// account) is n/a, never a pass.
//
// It exits with 1 if a case fails or is blocked (with -compare, only if it was neither before), and
// with 2 if it could not begin.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

func main() {
	program.Main("fsrvp-conformance", func(ctx context.Context, args []string) error {
		failed, err := run(ctx, args, os.Stdout, os.Stderr)
		return program.Verdict(failed, err)
	})
}

// shuffle puts cases into the order of a seed.
func shuffle(cases []fsrvptest.Case, seed int64) {
	r := rand.New(rand.NewPCG(uint64(seed), 0))
	r.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
}

// run runs the cases and reports whether the verdict is bad.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (failed bool, err error) {
	if len(args) > 0 && (args[0] == "-rpc" || args[0] == "--rpc") {
		return runRPC(ctx, args[1:], stdout, stderr)
	}
	o, err := parse(args, stdout)
	if err != nil {
		return false, err
	}
	cases, err := o.cases()
	if err != nil {
		return false, err
	}
	p := newPrinter(stdout, o)
	if o.list {
		for _, c := range cases {
			p.print(lineOf(&c))
		}
		return false, p.err
	}
	conns, err := o.connect(ctx)
	defer func() { err = errors.Join(err, conns.Close()) }()
	if err != nil {
		return false, err
	}
	if err := o.target.Check(ctx); err != nil {
		return false, explain(err)
	}
	if o.check {
		fmt.Fprintf(stdout, "%s can be checked with %s\n", o.server, o.target.Share)
		return false, nil
	}
	outputs, err := openOutputs(o)
	if err != nil {
		return false, err
	}
	lines := runCases(ctx, o, cases, p, newProgress(stderr, len(cases)), outputs)
	err = errors.Join(p.err, outputs.finish(lines))
	if ctx.Err() != nil {
		return true, errors.Join(err, errors.New("interrupted"))
	}
	summary(stderr, lines)
	if o.old != nil {
		return compare(p.diff(stdout, stderr), o.old, lines), err
	}
	return bad(lines), err
}

// runCases runs the cases until the context ends.
func runCases(ctx context.Context, o *options, cases []fsrvptest.Case, p *printer, progress *progress,
	outputs *outputs) (lines []line) {
	defer progress.end()
	var current string
	o.target.OnWait = progress.waits(&current)
	for _, c := range cases {
		if ctx.Err() != nil {
			break
		}
		current = c.Name
		progress.begin(c.Name)
		res := c.Run(ctx, &o.target)
		l := lineOf(&c)
		l.judge(&res, o.target.Known)
		lines = append(lines, l)
		outputs.calls(&c, &res, o)
		progress.pause()
		p.print(l)
		progress.done()
	}
	return lines
}

// summary counts the verdicts.
func summary(w io.Writer, lines []line) {
	counts := map[string]int{}
	for _, l := range lines {
		counts[l.Verdict]++
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d blocked, %d known failures, %d not applicable\n",
		counts[verdictPass], counts[verdictFail], counts[verdictBlocked], counts[verdictKnown], counts[verdictNA])
}

// bad reports whether a case failed or could not be checked.
func bad(lines []line) bool {
	for _, l := range lines {
		if l.bad() {
			return true
		}
	}
	return false
}

// The verdicts of lines: those of package fsrvptest, and known failures.
const (
	verdictPass    = "pass"
	verdictFail    = "fail"
	verdictNA      = "n/a"
	verdictBlocked = "blocked"
	verdictKnown   = "known"
)

// A line is one case of the table.
type line struct {
	Suite     fsrvptest.Suite `json:"suite"`
	Section   string          `json:"section"`
	Case      string          `json:"case"`
	Demand    string          `json:"demand"`            // what the text says
	Verdict   string          `json:"verdict,omitempty"` // pass, fail, n/a, blocked, known
	Reason    string          `json:"reason,omitempty"`
	BlockedBy string          `json:"blocked_by,omitempty"`
	Did       string          `json:"did,omitempty"` // the calls and answers
	Seconds   float64         `json:"seconds"`
}

func lineOf(c *fsrvptest.Case) line {
	return line{Suite: c.Suite, Section: c.Section, Case: c.Name, Demand: c.Demand}
}

// judge sets the verdict of a result in view of the known failures.
func (l *line) judge(res *fsrvptest.Result, known map[string]string) {
	l.Verdict, l.Reason, l.BlockedBy, l.Did, l.Seconds = res.Verdict.String(), res.Reason, res.BlockedBy, res.Did, res.Took.Seconds()
	reason, expected := known[l.Case]
	switch {
	case expected && res.Verdict == fsrvptest.Failed && strings.Contains(res.Reason, reason):
		l.Verdict = verdictKnown
	case expected && res.Verdict == fsrvptest.Passed:
		l.Verdict, l.Reason = verdictFail, "passes, and -known lists it ("+reason+")"
	}
}

func (l *line) bad() bool { return l.Verdict == verdictFail || l.Verdict == verdictBlocked }
