// Command fsrvp-conformance checks a server of MS-FSRVP, case by case, and prints a table of them.
//
//	go run ./examples/fsrvp-conformance -server fs1.example.com -share '\\fs1.example.com\vms' -user backup@EXAMPLE.COM -keytab backup.keytab
//
// The server has to be free: the cases take its one creation at a time. They delete whatever they made. What the flags
// do not offer (other shares, an unprivileged account) makes the cases that need it n/a, never a pass.
//
// It exits with 1 when a case fails, and with 2 when it could not begin.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-fsrvp/go-fsrvp/examples/internal/credentials"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/repeated"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

const usage = `usage: fsrvp-conformance -server HOST -share '\\HOST\share' [-same-volume UNC] [-other-volume UNC] [-hidden UNC]
                   [-profile windows|strict] [-lacks CAPABILITY] [-known FILE] [-run RE] [-list] [-json]
                   ` + credentials.Usage + `

`

func main() {
	program.Main("fsrvp-conformance", func(ctx context.Context, args []string) error {
		failed, err := run(ctx, args, os.Stdout, os.Stderr)
		return program.Verdict(failed, err)
	})
}

type options struct {
	server  string
	target  fsrvptest.Target
	profile string
	lacks   repeated.Strings
	known   string
	run     string
	list    bool
	json    bool
	cred    *credentials.Flags
}

func parse(args []string, stdout io.Writer) (*options, error) {
	var o options
	flags := flag.NewFlagSet("fsrvp-conformance", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage); flags.PrintDefaults() }
	flags.StringVar(&o.server, "server", "", "the `host` to check")
	flags.StringVar(&o.target.Share, "share", "", `a share of it, as \\HOST\share`)
	flags.StringVar(&o.target.SameVolume, "same-volume", "", "another share on the same volume")
	flags.StringVar(&o.target.OtherVolume, "other-volume", "", "a share on another volume")
	flags.StringVar(&o.target.Hidden, "hidden", "", "a share with a dollar at the end of its name")
	flags.StringVar(&o.target.Unsupported, "unsupported", "", "a share that cannot be copied")
	flags.DurationVar(&o.target.SequenceTimeout, "sequence-timeout", 0, "the server's Message Sequence Timer, if it is short enough to wait for")
	flags.StringVar(&o.profile, "profile", "windows", "expect the answers of Windows, or those of the standard's text: windows, strict")
	flags.Var(&o.lacks, "lacks", "a `capability` that the server has not got; may be given several times")
	flags.StringVar(&o.known, "known", "", "`file` of known failures: lines of a case's name, tab, a part of the reason that is printed, or nothing")
	flags.StringVar(&o.run, "run", "", "run the cases whose suite/section/name matches this `regexp` alone")
	flags.BoolVar(&o.list, "list", false, "list the cases and what they demand, and end")
	flags.BoolVar(&o.json, "json", false, "print one JSON object a line in place of the table")
	o.cred = credentials.Register(flags)
	if err := program.Parse(flags, args, stdout); err != nil {
		return nil, err
	}
	switch {
	case flags.NArg() > 0:
		return nil, fmt.Errorf("%q is no flag; -h lists them", flags.Arg(0))
	case o.list:
	case o.server == "":
		return nil, errors.New("-server is missing")
	case o.target.Share == "":
		return nil, fmt.Errorf(`-share is missing: a share to take shadow copies of, as \\%s\share`, o.server)
	}
	switch o.profile {
	case "windows":
	case "strict":
		o.target.Profile = agent.Strict
	default:
		return nil, fmt.Errorf("-profile is %q; it has to be windows or strict", o.profile)
	}
	o.target.Lacks = map[fsrvptest.Capability]string{}
	for _, c := range o.lacks {
		switch c := fsrvptest.Capability(c); c {
		case fsrvptest.Writable, fsrvptest.RetryLimit, fsrvptest.AutoRelease:
			o.target.Lacks[c] = "as -lacks says"
		default:
			return nil, fmt.Errorf("-lacks is %q; it has to be one of %q, %q, %q", c, fsrvptest.Writable, fsrvptest.RetryLimit, fsrvptest.AutoRelease)
		}
	}
	var err error
	o.target.Known, err = readKnown(o.known)
	return &o, err
}

// readKnown reads the list of known failures.
func readKnown(file string) (map[string]string, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("-known: %w", err)
	}
	known, err := fsrvptest.ParseKnown(string(b))
	if err != nil {
		return nil, fmt.Errorf("-known %s: %w; -list names the cases", file, err)
	}
	return known, nil
}

// run runs the cases and tells whether one has failed.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (failed bool, err error) {
	o, err := parse(args, stdout)
	if err != nil {
		return false, err
	}
	match, err := regexp.Compile(o.run)
	if err != nil {
		return false, fmt.Errorf("-run: %w", err)
	}
	var cases []fsrvptest.Case
	for _, c := range fsrvptest.Cases() {
		if match.MatchString(fmt.Sprintf("%s/%s/%s", c.Suite, c.Section, c.Name)) {
			cases = append(cases, c)
		}
	}
	if len(cases) == 0 {
		return false, fmt.Errorf("no case matches -run %q; -list names them", o.run)
	}
	p := newPrinter(stdout, o.json)
	if o.list {
		for _, c := range cases {
			p.print(line{Suite: c.Suite, Section: c.Section, Case: c.Name, Reason: c.Demand})
		}
		return false, p.flush()
	}
	access, err := o.cred.Access()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, access.Close()) }()
	for _, c := range []*fsrvp.Service{&o.target.Client, &o.target.SameHost} {
		client, err := fsrvp.Dial(ctx, o.server, access.Client)
		if err != nil {
			return false, err
		}
		defer client.Close()
		*c = client
	}
	counts := map[string]int{}
	for _, c := range cases {
		if ctx.Err() != nil {
			return true, errors.Join(p.flush(), errors.New("interrupted"))
		}
		res := c.Run(ctx, &o.target)
		l := line{Suite: c.Suite, Section: c.Section, Case: c.Name, Verdict: res.Verdict.String(), Reason: res.Reason, Seconds: res.Took.Seconds()}
		reason, expected := o.target.Known[c.Name]
		switch {
		case expected && res.Verdict == fsrvptest.Failed && strings.Contains(res.Reason, reason):
			l.Verdict = "known"
		case expected && res.Verdict == fsrvptest.Passed:
			l.Verdict, l.Reason = "fail", "passes, and -known lists it ("+reason+")"
		}
		failed = failed || l.Verdict == "fail"
		counts[l.Verdict]++
		p.print(l)
	}
	if err := p.flush(); err != nil {
		return failed, err
	}
	fmt.Fprintf(stderr, "%d passed, %d failed, %d known failures, %d not applicable\n",
		counts["pass"], counts["fail"], counts["known"], counts["n/a"])
	return failed, nil
}

// A line is one case of the table.
type line struct {
	Suite   fsrvptest.Suite `json:"suite"`
	Section string          `json:"section"`
	Case    string          `json:"case"`
	Verdict string          `json:"verdict,omitempty"` // pass, fail, known, n/a
	Reason  string          `json:"reason,omitempty"`
	Seconds float64         `json:"seconds"`
}

type printer struct {
	json  *json.Encoder
	table *tabwriter.Writer
	err   error
}

func newPrinter(w io.Writer, asJSON bool) *printer {
	if asJSON {
		return &printer{json: json.NewEncoder(w)}
	}
	return &printer{table: tabwriter.NewWriter(w, 52, 8, 2, ' ', 0)}
}

func (p *printer) print(l line) {
	var err error
	if p.json != nil {
		err = p.json.Encode(l)
	} else {
		verdict := l.Verdict
		if verdict != "" {
			verdict = fmt.Sprintf("%-5s %8s  ", verdict, time.Duration(l.Seconds*float64(time.Second)).Round(time.Millisecond))
		}
		reason := strings.ReplaceAll(l.Reason, "\n", " ")
		_, err = fmt.Fprintf(p.table, "%-10s %-10s %s\t%s%s\n", l.Suite, l.Section, l.Case, verdict, reason)
		if err == nil && l.Verdict != "" {
			err = p.table.Flush() // each line when its case has ended: some take long
		}
	}
	p.err = errors.Join(p.err, err)
}

func (p *printer) flush() error {
	if p.table != nil {
		p.err = errors.Join(p.err, p.table.Flush())
	}
	return p.err
}
