package fsrvptest

import (
	"fmt"
	"strings"
	"testing"
)

// Run checks the target with [Target.Check], and runs every case as a subtest, named by suite,
// section and case. It calls dial once, and uses the target in one goroutine; dial must close what
// it opens with tb.Cleanup.
//
// Cases that are not applicable are skipped with the reason, and so are known failures; a known
// failure that passes fails the test, so that the list gets corrected.
//
// A case that is about time, such as those of the Message Sequence Timer, fails where a busy
// machine holds up the client. It is run three times before it fails the test.
func Run(t *testing.T, dial func(tb testing.TB) Target) { RunCases(t, Cases(), dial) }

// RunCases is [Run] for some of the cases.
func RunCases(t *testing.T, cases []Case, dial func(tb testing.TB) Target) {
	target := dial(t)
	for _, problem := range target.unknownNames() {
		t.Error(problem)
	}
	if err := target.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%s/%s/%s", c.Suite, c.Section, c.Name), func(t *testing.T) {
			res := c.Run(t.Context(), &target)
			problem, note := target.judge(&c, res)
			for try := 1; try < 3 && problem != "" && res.clocked; try++ {
				t.Logf("try %d: %s\n%s", try, problem, res.Did)
				res = c.Run(t.Context(), &target)
				problem, note = target.judge(&c, res)
			}
			switch {
			case problem != "":
				t.Errorf("MS-FSRVP %s: %s\n%s\n%s", c.Section, c.Demand, problem, res.Did)
			case note != "":
				t.Skip(note)
			}
		})
	}
}

// judge compares a result with the target's lists: it returns a problem, or a note on an expected
// result other than a pass.
func (t *Target) judge(c *Case, res Result) (problem, note string) {
	symptom, known := t.Known[c.Name]
	why, inapplicable := t.Inapplicable[c.Name]
	switch {
	case res.Verdict == Blocked:
		return "blocked by " + res.BlockedBy + ": " + res.Reason, ""
	case res.Verdict == NotApplicable && t.Inapplicable != nil && !inapplicable:
		return "not applicable, and not listed as such: " + res.Reason, ""
	case res.Verdict == NotApplicable:
		return "", "not applicable: " + res.Reason
	case inapplicable:
		return fmt.Sprintf("applicable, and listed as not (%s); the verdict is %s %s", why, res.Verdict, res.Reason), ""
	case res.Verdict == Failed && known && strings.Contains(res.Reason, symptom):
		return "", "known failure: " + res.Reason
	case res.Verdict == Failed && known:
		return fmt.Sprintf("%s\nThe known failure is another one: %s", res.Reason, symptom), ""
	case res.Verdict == Failed:
		return res.Reason, ""
	case known:
		return fmt.Sprintf("passes, and is listed as a known failure (%s)", symptom), ""
	}
	return "", ""
}

// unknownNames reports names in the target's lists that are not cases.
func (t *Target) unknownNames() (problems []string) {
	names := caseNames()
	for what, list := range map[string]map[string]string{"known failures": t.Known,
		"inapplicable cases": t.Inapplicable} {
		for name := range list {
			if !names[name] {
				problems = append(problems, fmt.Sprintf("the list of %s has %q, which is not a case", what, name))
			}
		}
	}
	return problems
}
