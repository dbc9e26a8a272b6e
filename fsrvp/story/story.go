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

// Config has facts that a recording lacks. Nil means the defaults.
type Config struct {
	// ShortTimeout is the server's Message Sequence Timer after SetContext, Start, Commit, Expose
	// and failures. Zero means [DefaultShortTimeout].
	ShortTimeout time.Duration
	// LongTimeout is the same timer after Add, Prepare and GetShareMapping. Zero means
	// [DefaultLongTimeout].
	LongTimeout time.Duration
	// End is the end of the recording, if that was later than its last call. Zero means the last
	// call.
	End time.Time
}

// A Status is the status of a shadow copy set (MS-FSRVP 3.1.1.2).
type Status uint8

// The statuses.
const (
	None Status = iota // before StartShadowCopySet, or unknown
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

// creating reports whether the set prevents the creation of others.
func (s Status) creating() bool { return s >= Started && s <= Exposed }

// An Outcome says how a set ended.
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

// A Set is the story of one shadow copy set, or of an attempt that did not lead to one.
type Set struct {
	ID       fsrvp.SetID // zero for an attempt
	ClientID fsrvp.SetID // the client's id in StartShadowCopySet
	Server   string      // address, without the port
	Clients  []string    // addresses of the clients that named it, without ports
	Users    []string
	Context  *fsrvp.ContextValue // nil if unknown
	Shares   []Share
	// Midway means that the recording lacks the beginning.
	Midway  bool
	Events  []Event // by time
	Status  Status  // at the end
	Outcome Outcome
	// Cause is the event that explains an outcome other than success, or nil.
	Cause *Event

	timer   timer
	ended   *Event // the event that ended the set
	deleted int    // mappings

	known, unrecovered bool // the server knew the set; it was never recovered
}

// A Share is a share that is, or was to be, in the set.
type Share struct {
	Name    string // in the client's spelling
	CopyID  fsrvp.CopyID
	Exposed string // the name of the exposed share, if GetShareMapping returned it
}

// timer is a running Message Sequence Timer.
type timer struct {
	at    time.Time // when it runs out; zero if it is stopped
	after string    // the method that set it
	span  time.Duration
}

// An Event is one step of the story.
type Event struct {
	Time time.Time
	// Call is the call, or nil if no call of the set shows the event.
	Call *transcript.Exchange
	// Status is the status of the set after the event.
	Status Status
	// Text explains a failure, or an event that no call shows, in a sentence without its full stop.
	// It is empty for a call that succeeded.
	Text string
	// Section is the section of MS-FSRVP that says so, "3.1.4.5". It may be empty.
	Section string
}

// Failed reports whether the event is a call that did not succeed.
func (e *Event) Failed() bool { return e.Call != nil && e.Text != "" }

// Took returns the time from the request to the answer, or zero for other events.
func (e *Event) Took() time.Duration {
	if e.Call == nil || e.Call.ResponseTime.IsZero() {
		return 0
	}
	return max(e.Call.ResponseTime.Sub(e.Call.Time), 0)
}

// Result returns the result of the call: "ok", the name of the status or fault, "no answer", or "?"
// if the answer could not be read. It is empty for other events.
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

// reason returns the text with its section.
func (e *Event) reason() string {
	if e.Section == "" {
		return e.Text
	}
	return e.Text + " (MS-FSRVP " + e.Section + ")"
}

// Begin returns the time of the first event.
func (s *Set) Begin() time.Time {
	if len(s.Events) == 0 {
		return time.Time{}
	}
	return s.Events[0].Time
}

// End returns the time when the last event ended.
func (s *Set) End() time.Time {
	var end time.Time
	for i := range s.Events {
		if t := s.Events[i].Time.Add(s.Events[i].Took()); t.After(end) {
			end = t
		}
	}
	return end
}

// Matches reports whether id is the set's id or the client's, with or without braces, or the
// beginning of one of them with at least four digits.
func (s *Set) Matches(id string) bool {
	id = strings.ToLower(strings.Trim(id, "{}"))
	if len(id) < 4 {
		return false
	}
	return s.ID != (fsrvp.SetID{}) && strings.HasPrefix(bare(s.ID), id) ||
		s.ClientID != (fsrvp.SetID{}) && strings.HasPrefix(bare(s.ClientID), id)
}

func bare(id fsrvp.SetID) string { return strings.ToLower(strings.Trim(id.String(), "{}")) }

// Verdict returns a sentence, without its full stop, that says how the set ended, and why.
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

// share returns the share with this name, and adds it if there is none.
func (s *Set) share(name string) *Share {
	i := slices.IndexFunc(s.Shares, func(sh Share) bool { return sameShare(sh.Name, name) })
	if i < 0 {
		s.Shares = append(s.Shares, Share{Name: name})
		i = len(s.Shares) - 1
	}
	return &s.Shares[i]
}

// has reports whether the set has a share with this name.
func (s *Set) has(name string) bool {
	return slices.ContainsFunc(s.Shares, func(sh Share) bool { return sameShare(sh.Name, name) })
}

// sameShare compares two names of shares on one server, which may have several names.
func sameShare(a, b string) bool { return strings.EqualFold(shareName(a), shareName(b)) }

// shareName returns a name without its host.
func shareName(unc string) string {
	if n, err := fsrvp.ParseShareName(unc); err == nil {
		return n.Share
	}
	return strings.TrimRight(unc, `\`)
}
