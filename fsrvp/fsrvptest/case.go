package fsrvptest

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// A Suite is where a case comes from.
type Suite string

// The suites.
const (
	Standard   Suite = "MS-FSRVP"
	FileServer Suite = "FileServer" // Microsoft's Windows protocol test suites
	Smbtorture Suite = "smbtorture" // Samba's rpc.fsrvp
)

// A Case is one thing that a server has to do.
type Case struct {
	Suite   Suite
	Section string // of MS-FSRVP, "3.1.4.2"
	Name    string // unique, "SetContext/AnotherClient"
	// Demand is what the server has to do, in a sentence.
	Demand string

	run func(*trial)
}

// Cases returns all cases, in the order of the standard's sections; then those of other suites. The slice is the caller's.
func Cases() []Case {
	return slices.Concat(
		accessCases(), versionCases(), setContextCases(), startCases(), addCases(), commitCases(), exposeCases(), recoveryCases(),
		abortCases(), pathSupportedCases(), pathCopiedCases(), getMappingCases(), deleteMappingCases(), prepareCases(), timerCases(),
		storeCases(), fileServerCases(), smbtortureCases(),
	)
}

// A Verdict is how a case ended.
type Verdict uint8

// The verdicts.
const (
	Passed Verdict = iota + 1
	Failed
	NotApplicable
)

// String returns "pass", "fail" or "n/a".
func (v Verdict) String() string {
	switch v {
	case Passed:
		return "pass"
	case Failed:
		return "fail"
	case NotApplicable:
		return "n/a"
	}
	return fmt.Sprintf("Verdict(%d)", uint8(v))
}

// A Result is how a case ended, and why where it did not pass.
type Result struct {
	Verdict Verdict
	Reason  string
	Took    time.Duration
}

const defaultCaseTimeout = 5 * time.Minute

// Run runs the case on a target, and deletes what it made there. A case that cannot clean up has failed.
func (c *Case) Run(ctx context.Context, target *Target) Result {
	begun := time.Now()
	limit := target.CaseTimeout
	if limit == 0 {
		limit = defaultCaseTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tr := &trial{Target: target, ctx: ctx}
	res := tr.attempt(c.run)
	if err := tr.cleanUp(); err != nil && res.Verdict != Failed {
		res = Result{Verdict: Failed, Reason: "clean-up: " + err.Error()}
	}
	res.Took = time.Since(begun)
	return res
}

// attempt runs f, which ends early by a verdict that it panics with.
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
