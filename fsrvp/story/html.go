package story

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
	"time"
)

//go:embed page.html
var page string

// WriteHTML writes sets as one self-contained page, without scripts: a chart with a row for each
// set, and below it the timeline of each. The title is shown at the top.
func WriteHTML(w io.Writer, title string, sets []*Set) error {
	t, err := template.New("page").Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(w, newPage(title, sets))
}

// A pageData is the data of the page. Numbers are in the chart's units.
type pageData struct {
	Title          string
	Width, Height  float64
	Axis           []tick
	Rows           []row
	Good, Bad      int
	Open           int
	From, Duration string
}

// Statuses returns the statuses that bars may show.
func (*pageData) Statuses() []Status {
	return []Status{None, Started, Added, CreationInProgress, Committed, Exposed, Recovered}
}

type tick struct {
	X     float64
	Label string
}

// A row is one set.
type row struct {
	Anchor, Name, Who, Class, Outcome, Verdict string
	Y, TextY                                   float64
	Bars                                       []bar
	Marks                                      []mark
	Facts                                      []fact
	Lines                                      []line
}

// A bar is the time that a set was in one status.
type bar struct {
	X, Y, W, H    float64
	Status, Title string
}

// A mark is an event to look at.
type mark struct {
	X, Y         float64
	Class, Title string
}

type fact struct{ Name, Value string }

// A line is one event in the table.
type line struct {
	At, What, Took, Result, Status, Class, Reason string
	Offset                                        float64 // when it began, in percent of the life of the set
}

// The chart's measures.
const (
	chartLeft, chartWidth = 250, 950
	rowHeight             = 26
	barHeight             = 12
	axisHeight            = 30
)

func newPage(title string, sets []*Set) *pageData {
	p := &pageData{Title: title, Width: chartLeft + chartWidth + 45}
	var begin, end time.Time
	for _, s := range sets {
		if begin.IsZero() || s.Begin().Before(begin) {
			begin = s.Begin()
		}
		if s.End().After(end) {
			end = s.End()
		}
	}
	span := max(end.Sub(begin), time.Millisecond)
	x := func(t time.Time) float64 { return tenth(chartLeft + chartWidth*float64(t.Sub(begin))/float64(span)) }
	p.From, p.Duration = begin.UTC().Format(timeForm), round(span).String()
	for i := range 6 {
		at := time.Duration(float64(span) * float64(i) / 5)
		p.Axis = append(p.Axis, tick{x(begin.Add(at)), "+" + clock(at)})
	}
	for i, s := range sets {
		y := float64(axisHeight + i*rowHeight)
		r := row{
			Anchor: fmt.Sprintf("set%d", i+1), Name: s.Name(), Who: strings.Join(s.Clients, ", ") + " > " + s.Server,
			Outcome: s.Outcome.String(), Verdict: s.Verdict(), Y: y, TextY: y + barHeight + 2,
		}
		if r.Name == "-" {
			r.Name = "attempt without a set"
		}
		switch {
		case s.Outcome.Succeeded():
			r.Class = "good"
			p.Good++
		case s.Outcome == Underway && s.Cause == nil:
			r.Class = "open"
			p.Open++
		default:
			r.Class = "bad"
			p.Bad++
		}
		r.draw(s, x)
		r.tell(s)
		p.Rows = append(p.Rows, r)
	}
	p.Height = axisHeight + float64(len(sets)*rowHeight) + 10
	return p
}

// draw puts the set into the chart: bars for its statuses, and marks for failures and for events
// that no call shows.
func (r *row) draw(s *Set, x func(time.Time) float64) {
	top := r.Y + 4
	for i := range s.Events {
		e := &s.Events[i]
		from, to := e.Time, s.End()
		if i+1 < len(s.Events) {
			to = s.Events[i+1].Time
		}
		if e.Status != Gone {
			r.Bars = append(r.Bars, bar{x(from), top, max(tenth(x(to)-x(from)), 1), barHeight, e.Status.String(),
				e.Status.String() + ", " + round(to.Sub(from)).String()})
		}
		switch {
		case e.Call == nil:
			r.Marks = append(r.Marks, mark{x(from), top, "event", e.Text})
		case e.Failed():
			r.Marks = append(r.Marks, mark{x(from), top, "failed", e.What() + ": " + e.Result() + ": " + e.Text})
		}
	}
}

// tell makes the facts and the table.
func (r *row) tell(s *Set) {
	add := func(name, value string) {
		if value != "" {
			r.Facts = append(r.Facts, fact{name, value})
		}
	}
	add("Client", strings.Join(s.Clients, ", "))
	add("Server", s.Server)
	add("User", strings.Join(s.Users, ", "))
	if s.Context != nil {
		add("Context", s.Context.String())
	}
	for _, sh := range s.Shares {
		value := sh.Name
		if sh.Exposed != "" {
			value += " as " + sh.Exposed
		}
		add("Share", value)
	}
	begin, end := s.Begin(), s.End()
	add("Time", fmt.Sprintf("%s UTC, for %v", begin.UTC().Format(timeForm), round(end.Sub(begin))))
	if s.Midway {
		add("Note", "the beginning is not in the recording")
	}
	span := max(end.Sub(begin), time.Millisecond)
	for i := range s.Events {
		e := &s.Events[i]
		l := line{
			At: "+" + clock(e.Time.Sub(begin)), What: e.What(), Result: e.Result(), Reason: e.reason(),
			Offset: tenth(100 * float64(e.Time.Sub(begin)) / float64(span)),
		}
		if e.Took() > 0 {
			l.Took = round(e.Took()).String()
		}
		if e.Status != None {
			l.Status = e.Status.String()
		}
		switch {
		case e.Call == nil:
			l.Class, l.What = "event", "no call"
		case e.Failed():
			l.Class = "failed"
		}
		r.Lines = append(r.Lines, l)
	}
}

func tenth(f float64) float64 { return math.Round(f*10) / 10 }
