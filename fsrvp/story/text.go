package story

import (
	"fmt"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// timeForm is the layout of times, in UTC.
const timeForm = "2006-01-02 15:04:05.000"

// AppendLine appends the set in one line, without a newline:
//
//	time {id} client > server shares | methods with their times | how it ended
//
// Methods have their short names, "Add" for AddToShadowCopySet; those that failed have an
// exclamation mark.
func (s *Set) AppendLine(dst []byte) []byte {
	names := make([]string, len(s.Shares))
	for i, sh := range s.Shares {
		names[i] = printable(sh.Name)
	}
	shares := strings.Join(names, " ")
	if shares == "" {
		shares = "-"
	}
	return fmt.Appendf(dst, "%s %s %s > %s %s | %s | %s", s.Begin().UTC().Format(timeForm), s.Name(),
		strings.Join(s.Clients, ","),
		s.Server, shares, strings.Join(s.steps(), " "), s.Verdict())
}

// Name returns the set's id, or "-" for an attempt that did not lead to a set.
func (s *Set) Name() string {
	if s.ID == (fsrvp.SetID{}) {
		return "-"
	}
	return s.ID.String()
}

// steps returns the methods with the times that they took; consecutive calls of one method are one
// step.
func (s *Set) steps() []string {
	type step struct {
		name   string
		n      int
		took   time.Duration
		failed bool
	}
	var list []step
	for i := range s.Events {
		e := &s.Events[i]
		switch {
		case e.Call == nil:
			list = append(list, step{name: "(" + s.Outcome.String() + ")"})
		case !changes(e.Call.Opnum()):
		case len(list) > 0 && list[len(list)-1].name == Short(e.Call.Opnum()) && list[len(list)-1].failed == e.Failed():
			last := &list[len(list)-1]
			last.n++
			last.took += e.Took()
		default:
			list = append(list, step{Short(e.Call.Opnum()), 1, e.Took(), e.Failed()})
		}
	}
	words := make([]string, len(list))
	for i, st := range list {
		w := st.name
		if st.n > 1 {
			w += fmt.Sprintf("×%d", st.n)
		}
		if st.failed {
			w += "!"
		}
		if st.n > 0 {
			w += " " + round(st.took).String()
		}
		words[i] = w
	}
	return words
}

// Short returns a method's name without "ShadowCopySet": "Start", "Add", "RecoveryComplete".
func Short(op fsrvp.Opnum) string {
	name := strings.TrimSuffix(op.String(), "ShadowCopySet")
	return strings.TrimSuffix(name, "To")
}

// AppendText appends the story for people: a heading, and the timeline, with a line for each event
// and another for its explanation.
func (s *Set) AppendText(dst []byte) []byte {
	head := func(name, value string) {
		if value != "" {
			dst = fmt.Appendf(dst, "  %-9s %s\n", name, value)
		}
	}
	if s.ID == (fsrvp.SetID{}) {
		dst = fmt.Appendf(dst, "An attempt to make a shadow copy set on %s\n", s.Server)
	} else {
		dst = fmt.Appendf(dst, "Shadow copy set %v on %s\n", s.ID, s.Server)
	}
	head("client", strings.Join(s.Clients, ", "))
	head("user", printable(strings.Join(s.Users, ", ")))
	if s.Context != nil {
		head("context", s.Context.String())
	}
	for i, sh := range s.Shares {
		name := ""
		if i == 0 {
			name = "shares"
		}
		text := printable(sh.Name)
		if sh.Exposed != "" {
			text += " as " + printable(sh.Exposed)
		}
		head(name, text)
	}
	begin, end := s.Begin(), s.End()
	head("from", fmt.Sprintf("%s UTC, for %v", begin.UTC().Format(timeForm), round(end.Sub(begin))))
	if s.Midway {
		head("", "its beginning is not in the recording")
	}
	head("outcome", s.Verdict())
	dst = append(dst, '\n')
	for i := range s.Events {
		dst = s.Events[i].appendText(dst, begin)
	}
	return dst
}

func (e *Event) appendText(dst []byte, begin time.Time) []byte {
	at := "+" + clock(e.Time.Sub(begin))
	if e.Call == nil {
		return fmt.Appendf(dst, "%12s  *  %s\n", at, printable(e.reason()))
	}
	took := ""
	if d := e.Took(); d > 0 {
		took = round(d).String()
	}
	status := ""
	if e.Status != None {
		status = e.Status.String()
	}
	mark := " "
	if e.Failed() {
		mark = "!"
	}
	line := fmt.Sprintf("%12s  %s  %-58s %-10s %-36s %s", at, mark, printable(e.What()), took, e.Result(), status)
	dst = append(append(dst, strings.TrimRight(line, " ")...), '\n')
	if e.Failed() {
		dst = fmt.Appendf(dst, "%12s     %s\n", "", printable(e.reason()))
	}
	return dst
}

// What returns the method with the parameters that distinguish calls, or the description of an
// event without a call.
func (e *Event) What() string {
	if e.Call == nil {
		return ""
	}
	op := e.Call.Opnum().String()
	switch m := e.Call.Request.(type) {
	case *fsrvp.SetContextRequest:
		return fmt.Sprintf("%s %v", op, m.Context)
	case *fsrvp.PrepareShadowCopySetRequest, *fsrvp.CommitShadowCopySetRequest, *fsrvp.ExposeShadowCopySetRequest:
		return fmt.Sprintf("%s, waits %v", op, waitOf(m))
	}
	if share := transcript.ShareOf(e.Call.Request); share != "" {
		return op + " " + share
	}
	return op
}

// clock formats a duration with milliseconds: "0.004", "12:03.250", "1:00:00.000".
func clock(d time.Duration) string {
	d = max(d, 0)
	h, m, s := int(d/time.Hour), int(d/time.Minute)%60, (d % time.Minute).Seconds()
	switch {
	case h > 0:
		return fmt.Sprintf("%d:%02d:%06.3f", h, m, s)
	case m > 0:
		return fmt.Sprintf("%d:%06.3f", m, s)
	}
	return fmt.Sprintf("%.3f", s)
}

// printable replaces control characters, which must not reach a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7F && r < 0xA0 || r == 0x2028 || r == 0x2029 || r >= 0x202A && r <= 0x202E ||
			r >= 0x2066 && r <= 0x2069 {
			return '�'
		}
		return r
	}, strings.ToValidUTF8(s, "�"))
}
