package main

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// A report tells a person what happens, and keeps what a summary needs.
type report struct {
	w      io.Writer
	onTerm bool
	bar    *progressbar.ProgressBar

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
	Skipped       []string        `json:"skipped,omitempty"`
	FreezeSeconds float64         `json:"freeze_seconds"`
	Phases        []phaseSummary  `json:"phases"`
	Writers       []writerSummary `json:"writers,omitempty"`
	Seconds       float64         `json:"seconds"`
}

type shareSummary struct {
	Share   string       `json:"share"`
	Server  string       `json:"server"`
	Exposed string       `json:"exposed"`
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

// begin is the start of one copy's way into the archive.
func (r *report) begin(c provider.Copy) {
	r.summary.Shares = append(r.summary.Shares, shareSummary{
		Share: c.Share, Server: c.Server, Exposed: c.Path, SetID: c.SetID, CopyID: c.CopyID, Created: c.Created,
	})
	fmt.Fprintf(r.w, "reading   %s\n          taken %s of %s\n", c.Path, c.Created.Local().Format("2006-01-02 15:04:05.000"), c.Share)
	if r.onTerm {
		// The size is not known before everything is read: a walk ahead would read all directories twice.
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

// reader counts what is read of a file.
func (r *report) reader(f io.Reader) io.Reader {
	if r.bar == nil {
		return f
	}
	return io.TeeReader(f, r.bar)
}

func (r *report) file(n int64) {
	share := &r.summary.Shares[len(r.summary.Shares)-1]
	share.Files++
	share.Bytes += n
	r.summary.Files++
	r.summary.Bytes += n
}

func (r *report) skipped(name string, mode fs.FileMode) {
	r.summary.Skipped = append(r.summary.Skipped, name)
	fmt.Fprintf(r.w, "left out  %s: tar has no place for %v\n", name, mode.Type())
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
