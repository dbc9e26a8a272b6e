package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// outputs are the files that -junit and -transcript name.
type outputs struct {
	junit, transcript *os.File // nil without the flag
	server            string
	started           time.Time
	err               error
}

// openOutputs makes the files before the first case, so that a missing directory is reported then.
func openOutputs(o *options) (*outputs, error) {
	out := &outputs{server: o.server, started: time.Now()}
	for flag, f := range map[string]**os.File{"-junit": &out.junit, "-transcript": &out.transcript} {
		name := map[string]string{"-junit": o.junit, "-transcript": o.transcript}[flag]
		if name == "" {
			continue
		}
		var err error
		if *f, err = os.Create(name); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", flag, err), out.close())
		}
	}
	return out, nil
}

func (o *outputs) close() error {
	var errs []error
	for _, f := range []*os.File{o.junit, o.transcript} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// finish writes what is written at the end, and closes the files.
func (o *outputs) finish(lines []line) error {
	if o.junit != nil {
		o.err = errors.Join(o.err, writeJUnit(o.junit, o.server, o.started, lines))
	}
	return errors.Join(o.err, o.close())
}

// A caseHeader is the header of a transcript with the name of its case, which readers ignore.
type caseHeader struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	Case    string `json:"case"`
	Verdict string `json:"verdict"`
}

// calls writes the calls of a case as a separate transcript after those of earlier cases. If a case
// has made no calls, it writes only the header.
func (o *outputs) calls(c *fsrvptest.Case, res *fsrvptest.Result, opt *options) {
	if o.transcript == nil || o.err != nil {
		return
	}
	var b bytes.Buffer
	header, err := json.Marshal(caseHeader{"fsrvp-transcript", 1, c.Name, res.Verdict.String()})
	if err == nil {
		b.Write(append(header, '\n'))
		err = writeCalls(&b, res.Calls, opt)
	}
	if err == nil {
		_, err = o.transcript.Write(b.Bytes())
	}
	if err != nil {
		o.err = fmt.Errorf("-transcript: %w", err)
	}
}

func writeCalls(b *bytes.Buffer, calls []fsrvptest.Call, o *options) error {
	w := transcript.NewWriter(&afterFirstLine{w: b})
	for _, call := range calls {
		e := call.Exchange
		e.Connection = transcript.Connection{Client: call.Caller, Server: o.server, User: o.cred.User,
			Mechanism: o.cred.Mechanism}
		if call.Caller == unprivileged {
			e.User = o.unprivileged.User
		}
		if err := w.Write(&e); err != nil {
			return err
		}
	}
	return nil
}

// unprivileged is the name of that caller in fsrvptest.Call.
const unprivileged = "unprivileged client"

// afterFirstLine leaves out the first line: a header of the transcript's writer.
type afterFirstLine struct {
	w    io.Writer
	past bool
}

func (a *afterFirstLine) Write(p []byte) (int, error) {
	n := len(p)
	if !a.past {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			return n, nil
		}
		a.past, p = true, p[i+1:]
	}
	if _, err := a.w.Write(p); err != nil {
		return 0, err
	}
	return n, nil
}

// The elements of JUnit's XML, as build servers read it.
type (
	junitSuites struct {
		XMLName xml.Name     `xml:"testsuites"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name      string      `xml:"name,attr"`
		Tests     int         `xml:"tests,attr"`
		Failures  int         `xml:"failures,attr"`
		Errors    int         `xml:"errors,attr"`
		Skipped   int         `xml:"skipped,attr"`
		Time      string      `xml:"time,attr"`
		Timestamp string      `xml:"timestamp,attr"`
		Hostname  string      `xml:"hostname,attr"`
		Cases     []junitCase `xml:"testcase"`
	}
	junitCase struct {
		ClassName string        `xml:"classname,attr"`
		Name      string        `xml:"name,attr"`
		Time      string        `xml:"time,attr"`
		Failure   *junitMessage `xml:"failure"`
		Error     *junitMessage `xml:"error"`
		Skipped   *junitMessage `xml:"skipped"`
		Out       string        `xml:"system-out,omitempty"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// writeJUnit writes the lines as JUnit's XML: a suite of tests for each suite, blocked cases as
// errors, known failures and cases that are not applicable as skipped.
func writeJUnit(w io.Writer, server string, started time.Time, lines []line) error {
	var all junitSuites
	bySuite := map[fsrvptest.Suite]int{}
	seconds := map[fsrvptest.Suite]float64{}
	for _, l := range lines {
		i, ok := bySuite[l.Suite]
		if !ok {
			i = len(all.Suites)
			bySuite[l.Suite] = i
			all.Suites = append(all.Suites, junitSuite{
				Name: string(l.Suite), Timestamp: started.UTC().Format("2006-01-02T15:04:05"), Hostname: server,
			})
		}
		s := &all.Suites[i]
		c := junitCase{ClassName: string(l.Suite) + "." + strings.ReplaceAll(l.Section, ".", "_"), Name: l.Case,
			Time: junitTime(l.Seconds)}
		story := fmt.Sprintf("MS-FSRVP %s: %s\n%s", l.Section, l.Demand, l.Did)
		if l.Suite == rpcSuite {
			story = l.Demand + "\n" + l.Did
		}
		switch l.Verdict {
		case verdictFail:
			s.Failures++
			c.Failure = &junitMessage{l.Reason, story}
		case verdictBlocked:
			s.Errors++
			c.Error = &junitMessage{"blocked by " + l.BlockedBy + ": " + l.Reason, story}
		case verdictNA:
			s.Skipped++
			c.Skipped = &junitMessage{Message: "not applicable: " + l.Reason}
		case verdictKnown:
			s.Skipped++
			c.Skipped = &junitMessage{Message: "known failure: " + l.Reason}
		default:
			c.Out = story
		}
		s.Tests++
		seconds[l.Suite] += l.Seconds
		s.Time = junitTime(seconds[l.Suite])
		s.Cases = append(s.Cases, c)
	}
	b, err := xml.MarshalIndent(all, "", "  ")
	if err == nil {
		_, err = io.WriteString(w, xml.Header+string(b)+"\n")
	}
	if err != nil {
		return fmt.Errorf("-junit: %w", err)
	}
	return nil
}

func junitTime(seconds float64) string { return fmt.Sprintf("%.3f", seconds) }
