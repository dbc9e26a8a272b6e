package story

import (
	"fmt"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// startOverWait is the time for which Windows lets nobody start a set after the Abort of one that
// was Added or Exposed (MS-FSRVP 3.1.4.3, note 6).
const startOverWait = 30 * time.Minute

// callTimeout is the time that a client waits for an answer (MS-FSRVP 3.2.2).
const callTimeout = 180 * time.Second

// section returns the section that specifies a method.
func section(op fsrvp.Opnum) string { return fmt.Sprintf("3.1.4.%d", op+1) }

// explain says why a call did not succeed. The set may be nil.
func (s *server) explain(ev *Event, set *Set, client string) {
	e := ev.Call
	if e.Succeeded() {
		return
	}
	ev.Section = section(e.Opnum())
	switch {
	case e.Fault != nil:
		ev.Text, ev.Section = "RPC itself refused the call, so that no method ran: "+e.Fault.Error(), ""
	case e.Response == nil && !e.ResponseTime.IsZero():
		ev.Text, ev.Section = "the answer cannot be read", ""
		if e.Error != "" {
			ev.Text += ": " + e.Error
		}
	case e.Response == nil:
		ev.Text, ev.Section = fmt.Sprintf("no answer is in the recording; a client waits for %v", callTimeout), "3.2.2"
		if e.Error != "" {
			ev.Text += " (" + e.Error + ")"
		}
	default:
		s.status(ev, set, client)
	}
}

// status explains the status of a method.
func (s *server) status(ev *Event, set *Set, client string) {
	e := ev.Call
	op, status := e.Opnum(), e.Response.Status()
	if set != nil && (unknownSet(status) || status == fsrvp.ErrBadState || status == fsrvp.ErrObjectNotFound) &&
		s.missing(ev, set) {
		return
	}
	switch status {
	case fsrvp.ErrAccessDenied:
		ev.Section = "3.1.4"
		ev.Text = "the methods are for members of the server's Administrators and Backup Operators"
		if e.User != "" {
			ev.Text = e.User + " may not do this: " + ev.Text
		}
		if e.Level < dcerpc.LevelIntegrity {
			ev.Text += ", and want calls that RPC signs or seals, which this one was not"
		}
	case fsrvp.ErrInvalidArg:
		ev.Text = s.invalidArg(e, set)
	case fsrvp.ErrShadowCopySetIDMismatch, fsrvp.ErrBadID:
		ev.Text = "the server has no shadow copy set of this id"
	case fsrvp.ErrBadState:
		ev.Text = s.badState(op, set)
	case fsrvp.ErrObjectNotFound:
		ev.Text = "the server knows no such set, copy or share"
		if op == fsrvp.OpAddToShadowCopySet {
			ev.Text = fmt.Sprintf("%s is not a share of this server", transcript.ShareOf(e.Request))
		}
	case fsrvp.ErrNotSupported:
		ev.Text = fmt.Sprintf("the server can make no shadow copies of the volume that %s is on", transcript.ShareOf(e.Request))
		if op == fsrvp.OpIsPathShadowCopied {
			ev.Text += ", or cannot say (Samba answers so always)"
		}
	case fsrvp.ErrObjectAlreadyExists:
		ev.Text = fmt.Sprintf("%s, or another share of its volume, is in the set already", transcript.ShareOf(e.Request))
	case fsrvp.ErrNotExposed:
		ev.Text = "the set is not exposed yet: ExposeShadowCopySet comes before GetShareMapping"
	case fsrvp.ErrShadowCopySetInProgress:
		s.inProgress(ev, client)
	case fsrvp.ErrUnsupportedContext:
		ev.Text = "the server does not make shadow copies in this context"
		if req, ok := e.Request.(*fsrvp.SetContextRequest); ok {
			if req.Context.AutoRecovery() && req.Context.NoAutoRecovery() {
				ev.Text = "AUTO_RECOVERY and NO_AUTO_RECOVERY exclude each other"
			} else {
				ev.Text = fmt.Sprintf("the server does not make shadow copies in the context %v", req.Context)
			}
		}
	case fsrvp.ErrTimeout:
		ev.Text = fmt.Sprintf("the snapshots were not finished within the %v that the client gave; the set stays in CreationInProgress, "+
			"and another CommitShadowCopySet waits on", waitOf(e.Request))
	case fsrvp.ErrWaitTimeout:
		ev.Text = fmt.Sprintf("the server was not ready within the %v that the client gave", waitOf(e.Request))
	case fsrvp.ErrWaitFailed:
		ev.Text = "the work failed on the server; its log says why"
	case fsrvp.ErrOutOfMemory:
		ev.Text, ev.Section = "the server has no memory, or no room in its table of sets", "3.1.4"
	default:
		ev.Text, ev.Section = "the server failed; its log says why", "2.2.4"
	}
}

// unknownSet reports whether servers answer this status for a set that they do not have.
func unknownSet(s fsrvp.Status) bool {
	switch s {
	case fsrvp.ErrInvalidArg, fsrvp.ErrShadowCopySetIDMismatch, fsrvp.ErrBadID:
		return true
	}
	return false
}

// missing explains a call about a set that the server no longer has.
func (s *server) missing(ev *Event, set *Set) bool {
	e := ev.Call
	if set.Status != Gone && !s.expired(set, e.Time) && !s.lost(e, set) {
		return false
	}
	ev.Status = Gone
	switch {
	case set.ended == nil:
		return false
	case set.ended.Call != nil:
		ev.Text = fmt.Sprintf("the set was gone: %v had ended it %v before", set.ended.Call.Opnum(),
			since(e, set.ended.Time))
	case set.Outcome == TimedOut:
		ev.Text = fmt.Sprintf("the set was gone: the Message Sequence Timer had run out %v before",
			since(e, set.ended.Time))
		ev.Section = set.ended.Section
	case set.Outcome == Displaced:
		ev.Text = fmt.Sprintf("the set was gone: another SetContext had deleted it %v before", since(e, set.ended.Time))
		ev.Section = set.ended.Section
	default:
		ev.Text = "the set was gone"
	}
	return true
}

// lost ends a set that the server says it does not have, although nothing in the recording has
// ended it.
func (s *server) lost(e *transcript.Exchange, set *Set) bool {
	if !set.Status.creating() || set.Midway {
		return false
	}
	switch e.Response.Status() {
	case fsrvp.ErrShadowCopySetIDMismatch, fsrvp.ErrBadID:
	case fsrvp.ErrInvalidArg:
		switch e.Opnum() {
		case fsrvp.OpAddToShadowCopySet, fsrvp.OpGetShareMapping, fsrvp.OpDeleteShareMapping:
			return false // the status may be about other arguments
		}
	default:
		return false
	}
	text := "the server had no set of this id any more, though nothing in the recording has ended it"
	if t := set.timer; !t.at.IsZero() {
		text += fmt.Sprintf(": its Message Sequence Timer ran out earlier than %v after %s (the standard has %v), it was restarted, or calls are missing here",
			round(e.Time.Sub(t.at.Add(-t.span))), t.after, t.span)
	}
	s.end(set, Event{Time: e.Time, Status: Gone, Section: "3.1.2", Text: text}, Lost)
	return true
}

func since(e *transcript.Exchange, t time.Time) time.Duration { return round(e.Time.Sub(t)) }

// invalidArg explains E_INVALIDARG, the answer to many things.
func (s *server) invalidArg(e *transcript.Exchange, set *Set) string {
	share := transcript.ShareOf(e.Request)
	copyID := copyOf(e.Request)
	switch {
	case nullID(e.Request):
		return "an id in it is null"
	case set == nil:
		if share != "" {
			return fmt.Sprintf("%s is not a share of this server", share)
		}
		return "an argument is not valid"
	case e.Opnum() == fsrvp.OpAddToShadowCopySet:
		return fmt.Sprintf("%s is not a share of this server, or the server has no set of this id", share)
	case copyID != (fsrvp.CopyID{}) && !set.Midway && !set.hasCopy(copyID):
		return fmt.Sprintf("the set has no shadow copy %v", copyID)
	case share != "" && !set.Midway && !set.has(share):
		return fmt.Sprintf("%s was not added to the set", share)
	case set.Midway:
		return "the server has no set of this id; how it began is not in the recording"
	}
	return "the server has no set of this id"
}

// hasCopy reports whether a share of the set is in a copy.
func (s *Set) hasCopy(id fsrvp.CopyID) bool {
	for _, sh := range s.Shares {
		if sh.CopyID == id {
			return true
		}
	}
	return false
}

// badState explains an FSRVP_E_BAD_STATE.
func (s *server) badState(op fsrvp.Opnum, set *Set) string {
	if op == fsrvp.OpStartShadowCopySet {
		if s.ending != "" {
			return "no context is set: " + s.ending + " has reset it, and SetContext comes first"
		}
		return "no context is set: SetContext comes first"
	}
	want := map[fsrvp.Opnum]string{
		fsrvp.OpAddToShadowCopySet:            "Started or Added",
		fsrvp.OpPrepareShadowCopySet:          "Added",
		fsrvp.OpCommitShadowCopySet:           "Added",
		fsrvp.OpExposeShadowCopySet:           "Committed",
		fsrvp.OpGetShareMapping:               "Exposed",
		fsrvp.OpRecoveryCompleteShadowCopySet: "Exposed",
		fsrvp.OpDeleteShareMapping:            "Exposed or Recovered",
	}[op]
	switch {
	case set == nil || want == "" && op != fsrvp.OpAbortShadowCopySet:
		return "the call does not fit the server's state"
	case op == fsrvp.OpAbortShadowCopySet:
		return fmt.Sprintf("the set is %v: a recovered set cannot be aborted, its copies are removed by DeleteShareMapping", set.Status)
	case set.Status == None:
		return fmt.Sprintf("the method wants a set that is %s", want)
	}
	return fmt.Sprintf("the set is %v, and the method wants one that is %s", set.Status, want)
}

// inProgress explains FSRVP_E_SHADOW_COPY_SET_IN_PROGRESS.
func (s *server) inProgress(ev *Event, client string) {
	set := s.creation
	if set != nil && set.Status.creating() && !set.timer.at.IsZero() && set.timer.at.Before(ev.Time) {
		set = nil // its time is over
	}
	switch {
	case set != nil && set.Status.creating() && !contains(set.Clients, client):
		ev.Text = fmt.Sprintf("the client %s%s has set %v in creation, since %v: one set at a time is made on a server",
			strings.Join(set.Clients, ", "), by(strings.Join(set.Users, ", "),
				nil), set.ID, round(ev.Time.Sub(set.Begin())))
	case set != nil && set.Status.creating() && ev.Call.Opnum() == fsrvp.OpStartShadowCopySet:
		ev.Text = fmt.Sprintf("set %v of the same client is still in creation, %v", set.ID, set.Status)
	case set != nil && set.Status.creating():
		ev.Text = "the client has started over too often while a set was in creation; Windows lets it five times"
	case s.holder != "" && s.holder != client:
		ev.Text = fmt.Sprintf("the context of the client %s is set: one set at a time is made on a server", s.holder)
	case !s.aborted.IsZero() && ev.Time.Sub(s.aborted) < startOverWait:
		ev.Text = fmt.Sprintf("a set that was Added or Exposed was aborted %v ago: Windows starts no other one for %v after that (note 6)",
			round(ev.Time.Sub(s.aborted)), startOverWait)
	default:
		ev.Text = "another set is in creation on the server, by a client that is not in the recording or whose set has not timed out yet"
	}
}

func contains(list []string, v string) bool {
	for _, s := range list {
		if s == v {
			return true
		}
	}
	return false
}

// text says that the timer ran out.
func (t *timer) text(set *Set) string {
	s := fmt.Sprintf("no call came for %v after %s: the Message Sequence Timer ran out, and the agent deletes the set with its snapshots and shares",
		t.span, t.after)
	switch set.Status {
	case Exposed:
		s += "; RecoveryCompleteShadowCopySet, which stops the timer, had not been called"
	case Started, Added, CreationInProgress, Committed:
		s += fmt.Sprintf("; the set was only %v", set.Status)
	}
	return s
}

// copyOf returns the shadow copy that a request names, as the server calls it.
func copyOf(m fsrvp.Message) fsrvp.CopyID {
	switch m := m.(type) {
	case *fsrvp.GetShareMappingRequest:
		return m.ShadowCopyID
	case *fsrvp.DeleteShareMappingRequest:
		return m.ShadowCopyID
	}
	return fsrvp.CopyID{}
}

// nullID reports whether a required id of a request is null.
func nullID(m fsrvp.Message) bool {
	switch m := m.(type) {
	case *fsrvp.StartShadowCopySetRequest:
		return m.ClientShadowCopySetID == fsrvp.SetID{}
	case *fsrvp.AddToShadowCopySetRequest:
		return m.ClientShadowCopyID == fsrvp.CopyID{} || m.ShadowCopySetID == fsrvp.SetID{}
	case *fsrvp.GetShareMappingRequest:
		return m.ShadowCopyID == fsrvp.CopyID{} || m.ShadowCopySetID == fsrvp.SetID{}
	case *fsrvp.DeleteShareMappingRequest:
		return m.ShadowCopyID == fsrvp.CopyID{} || m.ShadowCopySetID == fsrvp.SetID{}
	case *fsrvp.IsPathSupportedRequest, *fsrvp.IsPathShadowCopiedRequest, *fsrvp.SetContextRequest,
		*fsrvp.GetSupportedVersionRequest:
		return false
	}
	return transcript.SetOf(m) == fsrvp.SetID{}
}

// waitOf returns the time-out that a request has.
func waitOf(m fsrvp.Message) time.Duration {
	switch m := m.(type) {
	case *fsrvp.PrepareShadowCopySetRequest:
		return time.Duration(m.TimeOutInMilliseconds) * time.Millisecond
	case *fsrvp.CommitShadowCopySetRequest:
		return time.Duration(m.TimeOutInMilliseconds) * time.Millisecond
	case *fsrvp.ExposeShadowCopySetRequest:
		return time.Duration(m.TimeOutInMilliseconds) * time.Millisecond
	}
	return 0
}

// round rounds a duration to a few digits.
func round(d time.Duration) time.Duration {
	switch {
	case d < 0:
		return 0
	case d < time.Millisecond:
		return d.Round(time.Microsecond)
	case d < 10*time.Second:
		return d.Round(time.Millisecond)
	case d < 10*time.Minute:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}
