package story

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// Timers of the standard (MS-FSRVP 3.1.2, 3.1.4).
const (
	DefaultShortTimeout = 180 * time.Second
	DefaultLongTimeout  = 1800 * time.Second
)

// Config says what a recording does not. Nil means the defaults.
type Config struct {
	// ShortTimeout is the server's Message Sequence Timer after SetContext, Start, Commit, Expose
	// and what failed. Zero means DefaultShortTimeout.
	ShortTimeout time.Duration
	// LongTimeout is that after Add, Prepare and GetShareMapping. Zero means DefaultLongTimeout.
	LongTimeout time.Duration
	// End is when the recording ended, where that was later than its last call. Zero means the last
	// call.
	End time.Time
}

// A Status is that of a shadow copy set (MS-FSRVP 3.1.1.2).
type Status uint8

// The statuses.
const (
	None Status = iota // before StartShadowCopySet, or not known
	Started
	Added
	CreationInProgress
	Committed
	Exposed
	Recovered
	Gone // deleted
)

// String returns the standard's name; Gone is not one of them.
func (s Status) String() string {
	return [...]string{"None", "Started", "Added", "CreationInProgress", "Committed", "Exposed", "Recovered",
		"Gone"}[min(s, Gone)]
}

// creating reports whether the set keeps others from being made.
func (s Status) creating() bool { return s >= Started && s <= Exposed }

// An Outcome is how a set ended.
type Outcome uint8

// The outcomes.
const (
	Underway  Outcome = iota // the recording ends before the set does
	Released                 // recovered, and all its exposed shares were deleted
	Kept                     // recovered, with exposed shares left for later
	Aborted                  // by AbortShadowCopySet
	TimedOut                 // by the Message Sequence Timer
	Displaced                // by another SetContext
	Lost                     // the server no longer has it, and the recording does not show why
	Refused                  // there is no set: SetContext or StartShadowCopySet failed
)

// String returns a word: "released".
func (o Outcome) String() string {
	return [...]string{"underway", "released", "kept", "aborted", "timed out", "displaced", "lost",
		"refused"}[min(o, Refused)]
}

// Succeeded reports whether the set served its purpose.
func (o Outcome) Succeeded() bool { return o == Released || o == Kept }

// A Set is the story of one shadow copy set, or of an attempt that came to none.
type Set struct {
	ID       fsrvp.SetID // zero for an attempt
	ClientID fsrvp.SetID // what the client named it in StartShadowCopySet
	Server   string      // address, without the port
	Clients  []string    // addresses of those that named it, without ports
	Users    []string
	Context  *fsrvp.ContextValue // nil where it is not known
	Shares   []Share
	// Midway says that the recording lacks the beginning.
	Midway  bool
	Events  []Event // by time
	Status  Status  // in the end
	Outcome Outcome
	// Cause is the event that explains an outcome that is no success. It is nil where there is
	// none.
	Cause *Event

	timer   timer
	ended   *Event // that made the set go away
	deleted int    // mappings

	known, unrecovered bool // the server knew it; it was never recovered
}

// A Share is one that is, or was to be, in the set.
type Share struct {
	Name    string // as the client wrote it
	CopyID  fsrvp.CopyID
	Exposed string // the name of the exposed share, where GetShareMapping said it
}

// timer is a Message Sequence Timer that runs.
type timer struct {
	at    time.Time // when it runs out; zero while it is stopped
	after string    // the method that set it
	span  time.Duration
}

// An Event is one step of the story.
type Event struct {
	Time time.Time
	// Call is the call; nil for what no call of the set shows.
	Call *transcript.Exchange
	// Status is that of the set after it.
	Status Status
	// Text says what a failure or what no call shows means: a sentence without its full stop. It is
	// empty for a call that succeeded.
	Text string
	// Section is where MS-FSRVP says so: "3.1.4.5". It may be empty.
	Section string
}

// Failed reports whether the event is a call that did not succeed.
func (e *Event) Failed() bool { return e.Call != nil && e.Text != "" }

// Took is the time from the request to the answer; zero for other events.
func (e *Event) Took() time.Duration {
	if e.Call == nil || e.Call.ResponseTime.IsZero() {
		return 0
	}
	return max(e.Call.ResponseTime.Sub(e.Call.Time), 0)
}

// Result names what the call returned: "ok", the status's or the fault's name, "no answer", "?"
// where the answer could not be read. It is empty for other events.
func (e *Event) Result() string {
	switch {
	case e.Call == nil:
		return ""
	case e.Call.Fault != nil:
		return "fault " + e.Call.Fault.Status.String()
	case e.Call.Response != nil && e.Call.Response.Status().IsSuccess():
		return "ok"
	case e.Call.Response != nil:
		return e.Call.Response.Status().Name()
	case e.Call.ResponseTime.IsZero():
		return "no answer"
	}
	return "?"
}

// reason is the text with its section.
func (e *Event) reason() string {
	if e.Section == "" {
		return e.Text
	}
	return e.Text + " (MS-FSRVP " + e.Section + ")"
}

// Begin is when the first event was.
func (s *Set) Begin() time.Time {
	if len(s.Events) == 0 {
		return time.Time{}
	}
	return s.Events[0].Time
}

// End is when the last event ended.
func (s *Set) End() time.Time {
	var end time.Time
	for i := range s.Events {
		if t := s.Events[i].Time.Add(s.Events[i].Took()); t.After(end) {
			end = t
		}
	}
	return end
}

// Matches reports whether a set goes by a name: its id or the client's, with or without braces, or
// the beginning of one of them, at least four digits.
func (s *Set) Matches(id string) bool {
	id = strings.ToLower(strings.Trim(id, "{}"))
	if len(id) < 4 {
		return false
	}
	return s.ID != (fsrvp.SetID{}) && strings.HasPrefix(bare(s.ID), id) ||
		s.ClientID != (fsrvp.SetID{}) && strings.HasPrefix(bare(s.ClientID), id)
}

func bare(id fsrvp.SetID) string { return strings.ToLower(strings.Trim(id.String(), "{}")) }

// Verdict says in one sentence, without its full stop, how the set ended, and why.
func (s *Set) Verdict() string {
	why := ""
	if s.Cause != nil {
		why = ": " + s.Cause.reason()
		if s.Cause.Failed() {
			why = ": " + s.Cause.Call.Opnum().String() + " failed with " + s.Cause.Result() + ": " + s.Cause.reason()
		}
	}
	switch s.Outcome {
	case Released:
		if s.unrecovered {
			return "complete: its exposed shares were deleted, and RecoveryCompleteShadowCopySet was not called"
		}
		return "complete: the set was recovered and its exposed shares were deleted"
	case Kept:
		left := len(s.Shares) - s.deleted
		if left <= 0 {
			return "complete: the set was recovered; what became of its exposed shares is not in the recording"
		}
		return fmt.Sprintf("complete: the set was recovered; %s left for later",
			plural(left, "exposed share was", "exposed shares were"))
	case Aborted:
		return "aborted by the client" + why
	case TimedOut:
		return "timed out" + why
	case Displaced:
		return "displaced" + why
	case Lost:
		return "lost" + why
	case Refused:
		return "refused" + why
	}
	return fmt.Sprintf("underway when the recording ends, %v", s.Status) + why
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// share returns the one of a name, which it adds where there is none.
func (s *Set) share(name string) *Share {
	i := slices.IndexFunc(s.Shares, func(sh Share) bool { return sameShare(sh.Name, name) })
	if i < 0 {
		s.Shares = append(s.Shares, Share{Name: name})
		i = len(s.Shares) - 1
	}
	return &s.Shares[i]
}

// has reports whether a share of the set goes by a name.
func (s *Set) has(name string) bool {
	return slices.ContainsFunc(s.Shares, func(sh Share) bool { return sameShare(sh.Name, name) })
}

// sameShare compares two names of shares of one server, which goes by several names.
func sameShare(a, b string) bool { return strings.EqualFold(shareName(a), shareName(b)) }

// shareName returns a name without its host.
func shareName(unc string) string {
	if n, err := fsrvp.ParseShareName(unc); err == nil {
		return n.Share
	}
	return strings.TrimRight(unc, `\`)
}
