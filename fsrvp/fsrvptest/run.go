package fsrvptest

import (
	"fmt"
	"strings"
	"testing"
)

// Run runs every case as a subtest, named by suite, section and case. Dial is called once, and the target is
// used by one goroutine; what dial opens it closes by tb.Cleanup.
//
// What the target lacks is skipped with the reason, and so are its known failures; a known failure that passes fails the
// test, for the list to be mended.
func Run(t *testing.T, dial func(tb testing.TB) Target) { RunCases(t, Cases(), dial) }

// RunCases is Run of some of the cases.
func RunCases(t *testing.T, cases []Case, dial func(tb testing.TB) Target) {
	target := dial(t)
	checkNames(t, &target)
	for _, c := range cases {
		t.Run(fmt.Sprintf("%s/%s/%s", c.Suite, c.Section, c.Name), func(t *testing.T) {
			res := c.Run(t.Context(), &target)
			if res.Verdict == Failed && target.Reset != nil {
				next, err := target.Reset(t.Context())
				if err != nil {
					t.Errorf("resetting the server: %v", err)
				}
				target.take(&next)
			}
			report(t, &c, &target, res)
		})
	}
}

// report compares a result with what is known of the target.
func report(t *testing.T, c *Case, target *Target, res Result) {
	symptom, known := target.Known[c.Name]
	why, inapplicable := target.Inapplicable[c.Name]
	switch {
	case res.Verdict == NotApplicable && target.Inapplicable != nil && !inapplicable:
		t.Errorf("not applicable, and not listed as such: %s", res.Reason)
	case res.Verdict == NotApplicable:
		t.Skipf("not applicable: %s", res.Reason)
	case inapplicable:
		t.Errorf("applies (%s %s), and is listed as not applicable (%s)", res.Verdict, res.Reason, why)
	case res.Verdict == Failed && known && strings.Contains(res.Reason, symptom):
		t.Skipf("known failure: %s", res.Reason)
	case res.Verdict == Failed && known:
		t.Errorf("%s\n%s\nThe known failure is another one: %s", c.Demand, res.Reason, symptom)
	case res.Verdict == Failed:
		t.Errorf("%s\n%s", c.Demand, res.Reason)
	case known:
		t.Errorf("passes, and is listed as a known failure (%s)", symptom)
	}
}

// checkNames fails the test where a list of the target names what is no case.
func checkNames(t *testing.T, target *Target) {
	names := map[string]bool{}
	for _, c := range Cases() {
		names[c.Name] = true
	}
	for what, list := range map[string]map[string]string{"known failures": target.Known, "inapplicable cases": target.Inapplicable} {
		for name := range list {
			if !names[name] {
				t.Errorf("the list of %s has %q, which is no case", what, name)
			}
		}
	}
}

// take takes the Services of a server that runs anew.
func (t *Target) take(next *Target) {
	t.Client, t.SameHost, t.Other = next.Client, next.SameHost, next.Other
	t.Unprivileged, t.Unprotected = next.Unprivileged, next.Unprotected
}
