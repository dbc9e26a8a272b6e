package fsrvptest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseKnown(t *testing.T) {
	known, err := ParseKnown("# a comment\n\nAdd/Twice\tthe answer is ZERO\r\nAbort/Twice\t\n")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"Add/Twice": "the answer is ZERO", "Abort/Twice": ""}, known)
	for text, want := range map[string]string{
		"Add/Twice":                 `line 1 of the known failures: "Add/Twice" must be`,
		"\nno/such case\treason":    `line 2 of the known failures: "no/such case\treason" must be`,
		"Add/Twice\t1\nAdd/Twice\t": "line 2 of the known failures: Add/Twice occurs twice",
	} {
		_, err := ParseKnown(text)
		require.ErrorContains(t, err, want)
	}
}

// TestJudge compares each verdict with each thing that can be known of a case.
func TestJudge(t *testing.T) {
	passed, failed, notApplicable := Result{Verdict: Passed}, Result{Verdict: Failed,
		Reason: "the answer is ZERO"}, Result{Verdict: NotApplicable, Reason: "no client"}
	is := func(list string) map[string]string { return map[string]string{"Add/Twice": list} }
	for name, tt := range map[string]struct {
		target        Target
		res           Result
		problem, note string
	}{
		"passes":               {Target{}, passed, "", ""},
		"fails":                {Target{}, failed, "the answer is ZERO", ""},
		"fails as known":       {Target{Known: is("is ZERO")}, failed, "", "known failure: the answer is ZERO"},
		"fails somehow":        {Target{Known: is("")}, failed, "", "known failure: the answer is ZERO"},
		"fails otherwise":      {Target{Known: is("is E_FAIL")}, failed, "the answer is ZERO\nThe known failure is another one: is E_FAIL", ""},
		"no longer fails":      {Target{Known: is("is ZERO")}, passed, "passes, and is listed as a known failure (is ZERO)", ""},
		"not applicable":       {Target{}, notApplicable, "", "not applicable: no client"},
		"listed":               {Target{Inapplicable: is("one address")}, notApplicable, "", "not applicable: no client"},
		"not listed":           {Target{Inapplicable: map[string]string{}}, notApplicable, "not applicable, and not listed as such: no client", ""},
		"listed, and passes":   {Target{Inapplicable: is("one address")}, passed, "applicable, and listed as not (one address); the verdict is pass ", ""},
		"listed, and fails":    {Target{Inapplicable: is("one address")}, failed, "applicable, and listed as not (one address); the verdict is fail the answer is ZERO", ""},
		"known, and no longer": {Target{Known: is("is ZERO")}, notApplicable, "", "not applicable: no client"},
	} {
		problem, note := tt.target.judge(&Case{Name: "Add/Twice"}, tt.res)
		require.Equal(t, tt.problem, problem, name)
		require.Equal(t, tt.note, note, name)
	}
	require.Equal(t, []string{`the list of known failures has "Add/Thrice", which is not a case`},
		(&Target{Known: map[string]string{"Add/Thrice": "", "Add/Twice": ""}}).unknownNames())
}
