package fsrvptest

import (
	"fmt"
	"testing"
)

// Run runs every case as a subtest, named by suite, section and case. Dial is called once, and the target is
// used by one goroutine; what dial opens it closes by tb.Cleanup.
//
// What the target lacks is skipped with the reason, and so are its known failures; a known failure that passes fails the
// test, for the list to be mended.
func Run(t *testing.T, dial func(tb testing.TB) Target) {
	target := dial(t)
	known := map[string]bool{}
	for _, c := range Cases() {
		known[c.Name] = true
		t.Run(fmt.Sprintf("%s/%s/%s", c.Suite, c.Section, c.Name), func(t *testing.T) {
			res := c.Run(t.Context(), &target)
			reason, expected := target.Known[c.Name]
			switch {
			case res.Verdict == NotApplicable:
				t.Skipf("not applicable: %s", res.Reason)
			case res.Verdict == Failed && expected:
				t.Skipf("known failure (%s): %s", reason, res.Reason)
			case res.Verdict == Failed:
				t.Errorf("%s\n%s", c.Demand, res.Reason)
			case expected:
				t.Errorf("passes, and is listed as a known failure (%s)", reason)
			}
		})
	}
	for name := range target.Known {
		if !known[name] {
			t.Errorf("the list of known failures has %q, which is no case", name)
		}
	}
}
