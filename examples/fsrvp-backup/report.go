package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// A report tells a person what happens, and keeps what a summary needs.
type report struct {
	w      io.Writer
	onTerm bool
	bar    *progressbar.ProgressBar

	strict bool // a problem is an error

	mu      sync.Mutex
	began   time.Time
	frozen  time.Time
	summary summary
}

// summary is what -json prints.
type summary struct {
	Out           string          `json:"out"`
	Shares        []shareSummary  `json:"shares"`
	Files         int64           `json:"files"`
	Bytes         int64           `json:"bytes"`
	Skipped       []string        `json:"skipped,omitempty"` // sockets, which tar has no place for
	Problems      []*problem      `json:"problems,omitempty"`
	FreezeSeconds float64         `json:"freeze_seconds"`
	Phases        []phaseSummary  `json:"phases"`
	Writers       []writerSummary `json:"writers,omitempty"`
	Seconds       float64         `json:"seconds"`
}

type shareSummary struct {
	Share   string       `json:"share"`
	Server  string       `json:"server,omitempty"`
	Exposed string       `json:"exposed,omitempty"`
	SetID   fsrvp.SetID  `json:"set_id"`
	CopyID  fsrvp.CopyID `json:"copy_id"`
	Created time.Time    `json:"created"`
	Files   int64        `json:"files"`
	Bytes   int64        `json:"bytes"`
}

type phaseSummary struct {
	Phase   provider.Phase `json:"phase"`
	Seconds float64        `json:"seconds"`
}

func newReport(w io.Writer) *report {
	r := &report{w: w, began: time.Now()}
	if f, ok := w.(*os.File); ok {
		r.onTerm = term.IsTerminal(int(f.Fd()))
	}
	return r
}

// event is the provider's progress.
func (r *report) event(e provider.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Kind {
	case provider.Waiting:
		fmt.Fprintf(r.w, "waiting %v: %v\n", e.Elapsed.Round(time.Millisecond), e.Err)
	case provider.Queued:
		fmt.Fprintf(r.w, "waiting   for another backup of this host on %s\n", e.Server)
	case provider.Slow:
		fmt.Fprintf(r.w, "waiting   for %s, for %v so far (%s)\n", e.Server, e.Elapsed.Round(time.Second), e.Phase)
	case provider.PhaseBegan:
		if e.Phase == provider.PhaseFreeze {
			r.frozen = e.Time
		}
		if e.Phase == provider.PhaseThaw {
			r.summary.FreezeSeconds = e.Time.Sub(r.frozen).Seconds()
		}
	case provider.PartEnded:
		if e.Writer != "" {
			r.writerPartLocked(e)
		}
	case provider.PhaseEnded:
		r.summary.Phases = append(r.summary.Phases, phaseSummary{e.Phase, e.Elapsed.Seconds()})
		result := "done"
		if e.Err != nil {
			result = "failed"
		}
		fmt.Fprintf(r.w, "%-9s %-6s %10s\n", e.Phase, result, e.Elapsed.Round(10*time.Microsecond))
	}
}

// warn says what is no reason to fail.
func (r *report) warn(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.w, "warning   %v\n", err)
}

// begin is the start of one copy's way into the archive.
func (r *report) begin(c provider.Copy, src source) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := src.describe(c)
	r.summary.Shares = append(r.summary.Shares, sum)
	fmt.Fprintf(r.w, "reading   %s\n          taken %s\n", cmp.Or(sum.Exposed, "the copy of "+sum.Share),
		c.Created.Local().Format("2006-01-02 15:04:05.000"))
	if r.onTerm {
		// The size is not known before everything is read: a walk ahead would read all directories
		// twice.
		r.bar = progressbar.NewOptions64(-1, progressbar.OptionSetWriter(r.w), progressbar.OptionShowBytes(true),
			progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
	}
}

func (r *report) end() {
	if r.bar != nil {
		_ = r.bar.Finish() // a bar that cannot be drawn is no reason to fail
		r.bar = nil
	}
}

// bytes counts what was read of a file.
func (r *report) bytes(n int64) {
	share := &r.summary.Shares[len(r.summary.Shares)-1]
	share.Bytes += n
	r.summary.Bytes += n
	if r.bar != nil {
		_ = r.bar.Add64(n)
	}
}

// file counts a file of any kind that is in the archive.
func (r *report) file(*node) {
	r.summary.Shares[len(r.summary.Shares)-1].Files++
	r.summary.Files++
}

// problem takes a problem of the share that is being read. It returns the error of -strict.
func (r *report) problem(p *problem) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.Kind == kindSocket {
		r.summary.Skipped = append(r.summary.Skipped, p.Path)
		fmt.Fprintf(r.w, "left out  %s: %s\n", printable(p.Path), p.Reason)
		return nil
	}
	p.Share = r.summary.Shares[len(r.summary.Shares)-1].Share
	return r.problemLocked(p)
}

// early takes a problem of a time when no share was being read yet. With -strict it fails the
// backup later.
func (r *report) early(p *problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problemLocked(p)
}

func (r *report) problemLocked(p *problem) error {
	r.summary.Problems = append(r.summary.Problems, newProblem(p))
	if r.strict {
		return fmt.Errorf("%s: %s: %s (-strict)", printable(p.Path), p.Kind, p.Reason)
	}
	return nil
}

// newProblem completes a problem for JSON, which has no place for bytes that are not UTF-8.
func newProblem(p *problem) *problem {
	if !utf8.ValidString(p.Path) {
		p.Bytes = []byte(p.Path)
	}
	return p
}

// printable is a name as a terminal may have it.
func printable(name string) string {
	if q := strconv.Quote(name); q != `"`+name+`"` {
		return q
	}
	return name
}

// strictError is the error of -strict for problems of the time before reading.
func (r *report) strictError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.strict || len(r.summary.Problems) == 0 {
		return nil
	}
	p := r.summary.Problems[0]
	return fmt.Errorf("%s: %s: %s (-strict)", printable(p.Path), p.Kind, p.Reason)
}

// verdict lists what is not in the archive as it was, and returns the error for the exit status 3
// then.
func (r *report) verdict(out string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.summary.Problems)
	if n == 0 {
		return nil
	}
	fmt.Fprintf(r.w, "not in %s as it was:\n", out)
	for _, p := range r.summary.Problems {
		where := ""
		if len(r.summary.Shares) > 1 {
			where = p.Share + ": "
		}
		fmt.Fprintf(r.w, "  %-10s %s%s: %s\n", p.Kind, where, printable(p.Path), p.Reason)
	}
	return &program.Exit{Status: 3, Err: fmt.Errorf("%s is written, but %s not in it as it was", out,
		plural(n, "file is", "files are"))}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func (r *report) done(out string) {
	r.summary.Seconds = time.Since(r.began).Seconds()
	fmt.Fprintf(r.w, "wrote     %s: %d files, %d bytes, in %v\n", out, r.summary.Files, r.summary.Bytes,
		time.Since(r.began).Round(time.Millisecond))
}

func (r *report) writeJSON(w io.Writer, out string) error {
	r.summary.Out = out
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(&r.summary)
}
