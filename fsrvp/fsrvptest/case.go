package fsrvptest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Suite is the origin of a case.
type Suite string

// The suites.
const (
	Standard   Suite = "MS-FSRVP"
	FileServer Suite = "FileServer" // Microsoft's Windows protocol test suites
	Smbtorture Suite = "smbtorture" // Samba's rpc.fsrvp
)

// A Case checks one thing that a server must do.
type Case struct {
	Suite   Suite
	Section string // of MS-FSRVP 16.0, "3.1.4.2"
	Name    string // unique, "SetContext/AnotherClient"
	// Demand is the requirement of the text, in a sentence.
	Demand string

	run func(*trial)
}

// Cases returns all cases, in the order of the standard's sections, then those of other suites. The
// caller owns the slice.
func Cases() []Case {
	return slices.Concat(
		accessCases(), versionCases(), setContextCases(), startCases(), addCases(), commitCases(), exposeCases(), recoveryCases(),
		abortCases(), pathSupportedCases(), pathCopiedCases(), getMappingCases(), deleteMappingCases(), prepareCases(), timerCases(),
		storeCases(), fileServerCases(), smbtortureCases(),
	)
}

// A Verdict says how a case ended.
type Verdict uint8

// The verdicts.
const (
	Passed Verdict = iota + 1
	Failed
	// NotApplicable: the target lacks what the case needs.
	NotApplicable
	// Blocked: the case could not begin, because of something that an earlier one left on the
	// server.
	Blocked
)

// String returns "pass", "fail", "n/a" or "blocked".
func (v Verdict) String() string {
	switch v {
	case Passed:
		return "pass"
	case Failed:
		return "fail"
	case NotApplicable:
		return "n/a"
	case Blocked:
		return "blocked"
	}
	return fmt.Sprintf("Verdict(%d)", uint8(v))
}

// A Result says how a case ended, and why it did not pass.
type Result struct {
	Verdict Verdict
	Reason  string
	// BlockedBy is the name of the case that left the server blocked, if the verdict is Blocked.
	BlockedBy string
	// Did describes in one line the calls and the answers of the server.
	Did string
	// Calls are all calls, including those of the clean-up.
	Calls []Call
	Took  time.Duration

	clocked bool // what the case finds depends on how long something takes
}

const defaultCaseTimeout = 5 * time.Minute

// Run runs the case on a target, and deletes what it made there, by all ids that the server
// answered, expected or not. If the server stays blocked, Run resets it with Target.Reset or waits
// for its Message Sequence Timer; if that does not help, the case has failed, and the next ones are
// Blocked until the server is free. The Target remembers that, so use one Target for all cases of a
// run.
//
// With its clean-up, Run may take longer than Target.CaseTimeout.
func (c *Case) Run(ctx context.Context, target *Target) Result {
	begin := time.Now()
	if target.memory == nil {
		target.memory = new(memory)
	}
	limit := target.CaseTimeout
	if limit == 0 {
		limit = defaultCaseTimeout
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tr := newTrial(limited, ctx, c.Name, target)
	defer tr.hangUp()
	res := tr.attempt(c.run)
	res.Did = did(tr.calls)
	err := tr.cleanUp()
	if res.Verdict == Failed && tr.Reset != nil {
		ctx, cancel := tr.removal()
		defer cancel()
		if err = tr.reset(ctx); err != nil {
			err = &blockedError{err}
		}
	}
	switch {
	case err != nil && res.Verdict == Failed:
		res.Reason += "; clean-up: " + err.Error()
	case err != nil && res.Verdict != Blocked:
		res.Verdict, res.Reason = Failed, "clean-up: "+err.Error()
	}
	if blocked := new(blockedError); errors.As(err, &blocked) && res.Verdict != Blocked {
		tr.memory.blockedBy, tr.memory.why = c.Name, blocked
	}
	if res.Verdict == Failed && tr.Reset == nil {
		tr.memory.left = c.Name
	}
	res.Calls, res.Took = tr.calls, time.Since(begin)
	res.clocked = tr.clocked || tr.SequenceTimeout > 0
	return res
}

// unblock ends the case as blocked if an earlier one has left the server in a state in which none
// can begin. It is called before the first call that needs a free server.
func (tr *trial) unblock() {
	if tr.memory.blockedBy == "" {
		return
	}
	tr.cleaning, tr.touched = true, true
	defer func() { tr.cleaning = false }()
	ctx, cancel := tr.removal()
	defer cancel()
	if tr.force(ctx) == nil {
		tr.memory.blockedBy, tr.memory.why = "", nil
		return
	}
	tr.touched = false // this case has nothing to clean up
	panic(Result{Verdict: Blocked, BlockedBy: tr.memory.blockedBy,
		Reason: fmt.Sprintf("%s has left the server in this state: %v", tr.memory.blockedBy, tr.memory.why)})
}

// attempt runs f, which ends early by a panic with a verdict.
func (tr *trial) attempt(f func(*trial)) (res Result) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case Result:
			res = r
		default:
			panic(r)
		}
	}()
	f(tr)
	return Result{Verdict: Passed}
}
