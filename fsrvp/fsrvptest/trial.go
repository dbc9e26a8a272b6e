package fsrvptest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// A trial is one run of a case. Its helpers end the case if the server does not do what it must.
type trial struct {
	Target // with witnesses around its services
	name   string
	ctx    context.Context
	whole  context.Context // without the limit of the case
	lines  []fsrvp.Service // the services themselves

	calls    []Call
	cleaning bool
	clocked  bool // see Result
	// What the calls may have left; see note.
	touched, doubtful bool
	left              []*leftover
	contexts          []fsrvp.Service // the callers that have set a context
	clientIDs         []fsrvp.SetID

	// what the server held before a case of the Message Sequence Timer
	before holding
	// take back changes of rights
	unmark []func(context.Context) error
}

// newTrial prepares a run of a case. The context whole is ctx without the limit of the case.
func newTrial(ctx, whole context.Context, name string, target *Target) *trial {
	tr := &trial{Target: *target, name: name, ctx: ctx, whole: whole}
	for caller, s := range map[string]*fsrvp.Service{
		callerClient: &tr.Client, callerSameHost: &tr.SameHost, callerOther: &tr.Other, callerUnprivileged: &tr.Unprivileged,
	} {
		tr.lines = append(tr.lines, *s)
		*s = tr.witness(caller, *s)
	}
	tr.Levels = make(map[dcerpc.AuthLevel]fsrvp.Service, len(target.Levels))
	for level, s := range target.Levels {
		tr.lines = append(tr.lines, s)
		tr.Levels[level] = tr.witness(levelName(level), s)
	}
	return tr
}

// hangUp ends all connections. The next calls connect again.
func (tr *trial) hangUp() {
	for _, s := range tr.lines {
		hangUp(s)
	}
}

// A made is a set that a case has made.
type made struct {
	id     fsrvp.SetID
	by     fsrvp.Service
	shares []string
	copies []fsrvp.CopyID // of each share
}

// long is a wait that runs out only if the server hangs.
const long = 2 * time.Minute

func (tr *trial) fail(format string, args ...any) {
	panic(Result{Verdict: Failed, Reason: fmt.Sprintf(format, args...)})
}

// check ends the case if ok is false.
func (tr *trial) check(ok bool, format string, args ...any) {
	if !ok {
		tr.fail(format, args...)
	}
}

// needs ends the case as not applicable if the target lacks something.
func (tr *trial) needs(have bool, what string) {
	if !have {
		panic(Result{Verdict: NotApplicable, Reason: "the target has no " + what})
	}
}

// can ends the case as not applicable if the target lacks a capability.
func (tr *trial) can(c Capability) {
	if reason, lacks := tr.Lacks[c]; lacks {
		panic(Result{Verdict: NotApplicable, Reason: fmt.Sprintf("the target lacks %s: %s", c, reason)})
	}
}

// ok ends the case if a call failed.
func (tr *trial) ok(err error, what string) {
	if err != nil {
		tr.fail("%s: %v", what, err)
	}
}

// status ends the case if a call did not answer one of the wanted statuses, or was not answered.
func (tr *trial) status(err error, what string, want ...fsrvp.Status) {
	var got fsrvp.Status
	if err != nil && !errors.As(err, &got) {
		tr.fail("%s: %v", what, err)
	}
	for _, w := range want {
		if got == w {
			return
		}
	}
	names := make([]string, len(want))
	for i, w := range want {
		names[i] = w.Name()
	}
	tr.fail("%s: the answer is %s, and must be %s", what, got.Name(), strings.Join(names, " or "))
}

// byProfile returns the answer for the target's profile.
func (tr *trial) byProfile(windows, strict fsrvp.Status) fsrvp.Status {
	if tr.Profile == agent.Strict {
		return strict
	}
	return windows
}

// unknownSet returns the answer to the id of no set.
func (tr *trial) unknownSet() fsrvp.Status {
	return tr.byProfile(fsrvp.ErrInvalidArg, fsrvp.ErrShadowCopySetIDMismatch)
}

// setContext calls SetContext, which must succeed.
func (tr *trial) setContext(by fsrvp.Service, c fsrvp.ContextValue) {
	tr.ok(tr.trySetContext(by, c), fmt.Sprintf("SetContext(%v)", c))
}

func (tr *trial) trySetContext(by fsrvp.Service, c fsrvp.ContextValue) error {
	return by.SetContext(tr.ctx, c)
}

// start calls StartShadowCopySet, which must succeed.
func (tr *trial) start(by fsrvp.Service) *made {
	id, err := tr.tryStart(by)
	tr.ok(err, "StartShadowCopySet")
	return &made{id: id, by: by}
}

func (tr *trial) tryStart(by fsrvp.Service) (fsrvp.SetID, error) {
	return by.StartShadowCopySet(tr.ctx, fsrvp.NewSetID())
}

// add adds shares to a set.
func (tr *trial) add(m *made, shares ...string) {
	for _, share := range shares {
		id, err := tr.tryAdd(m, share)
		tr.ok(err, "AddToShadowCopySet "+share)
		m.shares, m.copies = append(m.shares, share), append(m.copies, id)
	}
}

func (tr *trial) tryAdd(m *made, share string) (fsrvp.CopyID, error) {
	return m.by.AddToShadowCopySet(tr.ctx, fsrvp.NewCopyID(), m.id, share)
}

// bring makes a set of shares, by default of Share, and brings it to a status.
func (tr *trial) bring(c fsrvp.ContextValue, to agent.SetStatus, shares ...string) *made {
	tr.setContext(tr.Client, c)
	m := tr.start(tr.Client)
	if to == agent.Started {
		return m
	}
	if len(shares) == 0 {
		shares = []string{tr.Share}
	}
	tr.add(m, shares...)
	if to == agent.Added {
		return m
	}
	tr.ok(m.by.PrepareShadowCopySet(tr.ctx, m.id, long), "PrepareShadowCopySet")
	return tr.onward(m, agent.Added, to)
}

// onward brings a set from one status to a later one.
func (tr *trial) onward(m *made, from, to agent.SetStatus) *made {
	if from == agent.Added && to != agent.Added {
		tr.ok(m.by.CommitShadowCopySet(tr.ctx, m.id, long), "CommitShadowCopySet")
		from = agent.Committed
	}
	if from == agent.Committed && to != agent.Committed {
		tr.ok(m.by.ExposeShadowCopySet(tr.ctx, m.id, long), "ExposeShadowCopySet")
		from = agent.Exposed
	}
	if from == agent.Exposed && to != agent.Exposed {
		tr.ok(m.by.RecoveryCompleteShadowCopySet(tr.ctx, m.id), "RecoveryCompleteShadowCopySet")
	}
	return m
}

// mapping calls GetShareMapping for the i-th share of a set, which must succeed with a name.
func (tr *trial) mapping(m *made, i int) *fsrvp.ShareMapping {
	answer, err := m.by.GetShareMapping(tr.ctx, m.copies[i], m.id, m.shares[i], 1)
	tr.ok(err, "GetShareMapping "+m.shares[i])
	tr.check(answer != nil && answer.Exposed != "", "GetShareMapping %s: no ShadowCopyShareName", m.shares[i])
	return answer
}

// bare returns the bare name of the share in a mapping: servers return that, although the standard
// says UNC.
func bare(exposed string) string {
	if name, err := fsrvp.ParseShareName(exposed); err == nil {
		return name.Share
	}
	return exposed
}

// exposed returns the bare name of the share that exposes the i-th share of a set.
func (tr *trial) exposed(m *made, i int) string { return bare(tr.mapping(m, i).Exposed) }

// delete calls DeleteShareMapping for the i-th share of a set.
func (tr *trial) delete(m *made, i int) error {
	return m.by.DeleteShareMapping(tr.ctx, m.id, m.copies[i], m.shares[i])
}

// parse parses a UNC path of the target.
func (tr *trial) parse(unc string) fsrvp.ShareName {
	n, err := fsrvp.ParseShareName(unc)
	tr.ok(err, "the target's share")
	return n
}

// absent returns the UNC path of a share that the server does not have.
func (tr *trial) absent() string { return `\\` + tr.parse(tr.Share).Host + `\fsrvptest-absent` }

// foreign returns the UNC path of a share of another host.
func (tr *trial) foreign() string {
	if tr.Foreign != "" {
		return tr.Foreign
	}
	return `\\fsrvptest-elsewhere\` + tr.parse(tr.Share).Share
}

// A holding is the number of things that a server holds.
type holding struct{ snapshots, shares int }

// held counts what the server holds, if the target can tell.
func (tr *trial) held() (h holding, known bool) {
	if tr.Held == nil {
		return h, false
	}
	snapshots, shares, err := tr.Held(tr.ctx)
	tr.ok(err, "counting snapshots and shares")
	return holding{snapshots, shares}, true
}

// leavesNothing runs f and checks, if the target can tell, that it leaves no snapshots or exposed
// shares.
func (tr *trial) leavesNothing(f func()) {
	before, known := tr.held()
	f()
	if !known {
		return
	}
	after, _ := tr.held()
	tr.check(after.snapshots == before.snapshots, "%d snapshots are left", after.snapshots-before.snapshots)
	tr.check(after.shares == before.shares, "%d exposed shares are left", after.shares-before.shares)
}
