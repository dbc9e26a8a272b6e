package story

import (
	"cmp"
	"net"
	"slices"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// maxPrelude is the number of calls before StartShadowCopySet that are kept for each client.
const maxPrelude = 64

// Tell returns the stories of the sets in calls, in the order in which the sets begin. The calls
// may be in any order and of several servers; they must not be changed afterwards. Calls that a
// transcript cannot hold are skipped.
//
// It needs memory and time in proportion to the number of calls.
func Tell(calls []*transcript.Exchange, cfg *Config) []*Set {
	t := teller{servers: map[string]*server{}}
	if cfg != nil {
		t.cfg = *cfg
	}
	t.cfg.ShortTimeout = cmp.Or(t.cfg.ShortTimeout, DefaultShortTimeout)
	t.cfg.LongTimeout = cmp.Or(t.cfg.LongTimeout, DefaultLongTimeout)
	sorted := slices.DeleteFunc(slices.Clone(calls), func(e *transcript.Exchange) bool { return e.Check() != nil })
	slices.SortStableFunc(sorted, func(a, b *transcript.Exchange) int { return a.Time.Compare(b.Time) })
	for _, e := range sorted {
		if e.End().After(t.cfg.End) {
			t.cfg.End = e.End()
		}
		t.server(host(e.Server)).call(e)
	}
	for _, s := range t.servers {
		s.close()
	}
	slices.SortStableFunc(t.sets, func(a, b *Set) int {
		return cmp.Or(a.Begin().Compare(b.Begin()), cmp.Compare(a.Server, b.Server))
	})
	return t.sets
}

// A teller visits each call once.
type teller struct {
	cfg     Config
	servers map[string]*server
	sets    []*Set
}

// A server is what is known about a server: its state, if it follows the standard.
type server struct {
	*teller
	name     string
	sets     map[fsrvp.SetID]*Set
	creation *Set                // the last one that was started
	holder   string              // the client whose SetContext is in effect; empty for none
	ending   string              // the call that ended the last one's
	preludes map[string]*prelude // by client
	current  map[string]*Set     // by client: the last set that it named
	aborted  time.Time           // the last Abort of a set that was Added or Exposed
}

// A prelude is the calls that a client has made before it started a set.
type prelude struct {
	events  []Event
	context *fsrvp.ContextValue
	users   []string
	failed  bool
}

func (t *teller) server(name string) *server {
	s := t.servers[name]
	if s == nil {
		s = &server{teller: t, name: name, sets: map[fsrvp.SetID]*Set{}, preludes: map[string]*prelude{},
			current: map[string]*Set{}}
		t.servers[name] = s
	}
	return s
}

// call takes one call.
func (s *server) call(e *transcript.Exchange) {
	client := e.Host()
	ev := Event{Time: e.Time, Call: e}
	switch req := e.Request.(type) {
	case *fsrvp.GetSupportedVersionRequest, *fsrvp.IsPathSupportedRequest, *fsrvp.IsPathShadowCopiedRequest:
		s.explain(&ev, nil, client)
		if set := s.current[client]; set != nil && set.Status != Gone {
			s.add(set, ev)
			return
		}
		s.before(client, ev)
	case *fsrvp.SetContextRequest:
		s.setContext(req, ev, client)
	case *fsrvp.StartShadowCopySetRequest:
		s.start(req, ev, client)
	default:
		s.aboutSet(ev, client)
	}
}

// before keeps a call that may belong to a later set.
func (s *server) before(client string, ev Event) *prelude {
	p := s.preludes[client]
	if p == nil {
		p = &prelude{}
		s.preludes[client] = p
	}
	if len(p.events) == maxPrelude {
		p.events = slices.Delete(p.events, 0, 1)
	}
	p.events = append(p.events, ev)
	note(&p.users, ev.Call.User)
	return p
}

// setContext takes a SetContext, which may delete another set (MS-FSRVP 3.1.4.2).
func (s *server) setContext(req *fsrvp.SetContextRequest, ev Event, client string) {
	s.explain(&ev, nil, client)
	if !ev.Call.Succeeded() {
		s.before(client, ev).failed = true
		return
	}
	s.overtaken(ev, client)
	s.holder, s.ending = client, ""
	p := s.before(client, ev)
	p.context = &req.Context
	p.failed = false
	delete(s.current, client)
}

// overtaken ends the set in creation if a SetContext has nevertheless succeeded.
func (s *server) overtaken(ev Event, client string) {
	set := s.creation
	if set == nil || !set.Status.creating() {
		return
	}
	if s.expired(set, ev.Time) {
		return
	}
	gone := Event{Time: ev.Time, Status: Gone, Section: "3.1.4.2"}
	outcome := Displaced
	switch {
	case slices.Contains(set.Clients, client):
		gone.Text = "a SetContext came from the client's own address " + client + by(ev.Call.User, set.Users) +
			" while the set was " + set.Status.String() +
			": the agent takes it for a client that starts over, and deletes the unfinished set; two jobs on one host do this to each other"
	default:
		outcome = Lost
		gone.Text = "a SetContext of another client, " + client + by(ev.Call.User,
			nil) + ", succeeded while the set was " +
			set.Status.String() + ": the server no longer had the set, and no call of the recording shows why"
	}
	s.end(set, gone, outcome)
}

// by names a user, if it is known and not one of the others.
func by(user string, others []string) string {
	if user == "" || slices.Contains(others, user) {
		return ""
	}
	return " (" + user + ")"
}

// start takes a StartShadowCopySet.
func (s *server) start(req *fsrvp.StartShadowCopySetRequest, ev Event, client string) {
	resp, _ := ev.Call.Response.(*fsrvp.StartShadowCopySetResponse)
	if !ev.Call.Succeeded() {
		s.explain(&ev, nil, client)
		s.before(client, ev).failed = true
		return
	}
	set := s.newSet(resp.ShadowCopySetID, client)
	set.ClientID = req.ClientShadowCopySetID
	if p := s.preludes[client]; p != nil {
		set.Events, set.Context = p.events, p.context
		for _, u := range p.users {
			note(&set.Users, u)
		}
		delete(s.preludes, client)
	}
	set.Status = Started
	s.creation = set
	s.arm(set, ev.Call, s.cfg.ShortTimeout)
	s.add(set, ev)
}

func (s *server) newSet(id fsrvp.SetID, client string) *Set {
	set := &Set{ID: id, Server: s.name, Clients: []string{client}}
	s.sets[id] = set
	s.current[client] = set
	s.teller.sets = append(s.teller.sets, set)
	return set
}

// add adds an event to a set's timeline. An event that no call shows may be earlier than the last
// one.
func (s *server) add(set *Set, ev Event) {
	if ev.Status == None {
		ev.Status = set.Status
	}
	if ev.Call != nil {
		note(&set.Clients, ev.Call.Host())
		note(&set.Users, ev.Call.User)
	}
	i := len(set.Events)
	for i > 0 && set.Events[i-1].Time.After(ev.Time) {
		i--
	}
	set.Events = slices.Insert(set.Events, i, ev)
}

// aboutSet takes a call that names a set.
func (s *server) aboutSet(ev Event, client string) {
	id := transcript.SetOf(ev.Call.Request)
	set := s.sets[id]
	if set == nil {
		set = s.newSet(id, client)
		set.Midway = true
		if p := s.preludes[client]; p != nil {
			set.Events = p.events
			delete(s.preludes, client)
		}
	}
	s.current[client] = set
	if ev.Call.Succeeded() {
		s.advance(set, ev)
		return
	}
	s.explain(&ev, set, client)
	if !untouched(ev.Call) && set.Status.creating() {
		s.arm(set, ev.Call, s.cfg.ShortTimeout)
	}
	s.add(set, ev)
}

// untouched reports whether a call that failed left the timer as it was.
func untouched(e *transcript.Exchange) bool {
	return e.Opnum() == fsrvp.OpDeleteShareMapping || e.Response == nil || unknownSet(e.Response.Status())
}

// advance takes a call about a set that succeeded (MS-FSRVP 3.1.4).
func (s *server) advance(set *Set, ev Event) {
	set.known = true
	if set.Status == Gone && set.ended != nil && set.ended.Call == nil {
		// The server still had the set.
		set.Events = slices.DeleteFunc(set.Events, func(e Event) bool { return e.Call == nil && e.Status == Gone })
		set.ended, set.Outcome = nil, Underway
	}
	e := ev.Call
	switch req := e.Request.(type) {
	case *fsrvp.AddToShadowCopySetRequest:
		set.Status = max(set.Status, Added)
		if set.Status == Gone {
			set.Status = Added
		}
		if resp, ok := e.Response.(*fsrvp.AddToShadowCopySetResponse); ok {
			set.share(string(req.ShareName)).CopyID = resp.ShadowCopyID
		}
		s.arm(set, e, s.cfg.LongTimeout)
	case *fsrvp.PrepareShadowCopySetRequest:
		s.reach(set, Added)
		s.arm(set, e, s.cfg.LongTimeout)
	case *fsrvp.CommitShadowCopySetRequest:
		s.reach(set, Committed)
		s.arm(set, e, s.cfg.ShortTimeout)
	case *fsrvp.ExposeShadowCopySetRequest:
		s.reach(set, Exposed)
		s.arm(set, e, s.cfg.ShortTimeout)
	case *fsrvp.GetShareMappingRequest:
		s.reach(set, Exposed)
		if resp, ok := e.Response.(*fsrvp.GetShareMappingResponse); ok && resp.ShareMapping1 != nil {
			sh := set.share(string(req.ShareName))
			sh.CopyID, sh.Exposed = req.ShadowCopyID, resp.ShareMapping1.ShadowCopyShareName.String
		}
		if set.Status == Exposed {
			s.arm(set, e, s.cfg.LongTimeout)
		}
	case *fsrvp.RecoveryCompleteShadowCopySetRequest:
		set.Status = Recovered
		set.timer = timer{}
		s.reset(set, e)
	case *fsrvp.AbortShadowCopySetRequest:
		if set.Status == Added || set.Status == Exposed {
			s.aborted = e.Time
		}
		s.reset(set, e)
		s.end(set, ev, Aborted)
		return
	case *fsrvp.DeleteShareMappingRequest:
		set.deleted++
		set.share(string(req.ShareName))
		if set.deleted >= len(set.Shares) && !set.Midway {
			if set.Status != Recovered {
				set.unrecovered = true
				s.reset(set, e)
			}
			s.end(set, ev, Released)
			return
		}
	}
	s.add(set, ev)
}

// reach moves a set on to a status, unless it is already past it.
func (s *server) reach(set *Set, to Status) {
	if set.Status < to || set.Status == Gone {
		set.Status = to
	}
}

// reset ends a creation: the context is no longer set.
func (s *server) reset(set *Set, e *transcript.Exchange) {
	if s.creation == set || s.creation == nil {
		s.creation, s.holder, s.ending = nil, "", e.Opnum().String()
	}
}

// arm starts the Message Sequence Timer.
func (s *server) arm(set *Set, e *transcript.Exchange, span time.Duration) {
	set.timer = timer{at: e.End().Add(span), after: e.Opnum().String(), span: span}
}

// expired ends a set whose timer has run out before a time.
func (s *server) expired(set *Set, at time.Time) bool {
	if !set.Status.creating() || set.timer.at.IsZero() || !set.timer.at.Before(at) {
		return false
	}
	s.end(set, Event{Time: set.timer.at, Status: Gone, Section: "3.1.2", Text: set.timer.text(set)}, TimedOut)
	return true
}

// end takes the event that ends a set.
func (s *server) end(set *Set, ev Event, outcome Outcome) {
	ev.Status = Gone
	set.Status, set.Outcome, set.timer = Gone, outcome, timer{}
	set.ended = &ev
	s.add(set, ev)
	if s.creation == set {
		s.creation, s.holder = nil, ""
		if outcome == TimedOut {
			s.ending = "the Message Sequence Timer"
		}
	}
}

// close sets the outcomes of the remaining sets.
func (s *server) close() {
	for _, set := range s.sets {
		switch {
		case set.Status == Recovered:
			set.Outcome = Kept
		case set.Status == Gone, s.expired(set, s.cfg.End):
		case set.Midway && !set.known:
			set.Outcome = Lost
		}
		set.Cause = set.cause()
	}
	for client, p := range s.preludes {
		if !p.failed {
			continue
		}
		set := &Set{Server: s.name, Clients: []string{client}, Users: p.users, Context: p.context, Events: p.events,
			Outcome: Refused}
		set.Cause = set.cause()
		s.teller.sets = append(s.teller.sets, set)
	}
}

// cause returns the event that explains how the set ended: the one that ended it without a call of
// its client, or the first call that failed and did not succeed later.
func (s *Set) cause() *Event {
	if s.Outcome.Succeeded() {
		return nil
	}
	for i := range s.Events {
		if e := &s.Events[i]; e.Call == nil && e.Status == Gone {
			return e
		}
	}
	for i := range s.Events {
		if e := &s.Events[i]; e.Failed() && changes(e.Call.Opnum()) && !s.repeated(i) {
			return e
		}
	}
	return nil
}

// changes reports whether a method is a step of a set's life.
func changes(op fsrvp.Opnum) bool {
	switch op {
	case fsrvp.OpGetSupportedVersion, fsrvp.OpIsPathSupported, fsrvp.OpIsPathShadowCopied:
		return false
	}
	return true
}

// repeated reports whether the call of an event succeeded later, or, for a share that is added
// twice, before.
func (s *Set) repeated(i int) bool {
	e := s.Events[i].Call
	others := s.Events[i+1:]
	if e.Opnum() == fsrvp.OpAddToShadowCopySet {
		others = s.Events
	}
	return slices.ContainsFunc(others, func(other Event) bool {
		return other.Call != nil && other.Call.Opnum() == e.Opnum() && other.Call.Succeeded() &&
			sameShare(transcript.ShareOf(other.Call.Request), transcript.ShareOf(e.Request))
	})
}

// note adds a value to a list unless it is already there.
func note(list *[]string, v string) {
	if v != "" && !slices.Contains(*list, v) {
		*list = append(*list, v)
	}
}

// host returns an address without its port.
func host(address string) string {
	if h, _, err := net.SplitHostPort(address); err == nil {
		return h
	}
	return address
}
