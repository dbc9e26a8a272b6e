package program

import (
	"bytes"
	"flag"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// flags is a command's flag set, with a usage text.
func flags() *flag.FlagSet {
	fs := flag.NewFlagSet("fsrvp-test", flag.ContinueOnError)
	fs.String("keytab", "", "a `file` of keys, as klist -k \"shows\" it; it's a DOMAIN\\user's")
	fs.String("out-dir", "", "write into this `directory`")
	fs.Int("size", 3, "a `number`")
	fs.Bool("json", false, "print JSON")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(),
			"usage: fsrvp-test [-json] FILE\n       fsrvp-test -size N\n\nWhat it does.\n.Not a macro\n\n")
		fs.PrintDefaults()
	}
	return fs
}

func TestManual(t *testing.T) {
	var out bytes.Buffer
	require.ErrorIs(t, Parse(flags(), []string{"-generate", "man"}, &out), flag.ErrHelp)
	page := out.String()
	for _, want := range []string{
		".TH FSRVP\\-TEST 1", ".SH \"SYNOPSIS\"\n.PP\n.nf\nfsrvp\\-test [\\-json] FILE", ".SH \"DESCRIPTION\"", "\\&.Not a macro",
		".TP\n\\fB\\-keytab\\fR \\fIfile\\fR\n", `DOMAIN\euser\(aqs`, "\\fB\\-json\\fR\nprint JSON", "a number (default 3)",
	} {
		require.Contains(t, page, want)
	}
	require.Equal(t, 1, strings.Count(page, "print JSON"))
	require.Error(t, Parse(flags(), []string{"-generate", "music"}, &out))
}

func TestCompletion(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	script := Completion(flags(), map[string][]string{"size": {"1", "2", "22"}}, []string{"list", "show"})
	complete := func(words ...string) string {
		t.Helper()
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = "'" + w + "'"
		}
		cmd := exec.CommandContext(t.Context(), "bash", "-uc", script+fmt.Sprintf(`
cd %s; mkdir -p subdir; touch some.keytab
COMP_WORDS=(%s); COMP_CWORD=%d; COMPREPLY=()
_fsrvp_test 2>/dev/null
echo "${COMPREPLY[*]}"`, dir, strings.Join(quoted, " "), len(words)-1))
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return strings.TrimSpace(string(out))
	}
	for _, c := range []struct {
		words []string
		want  string
	}{
		{[]string{"fsrvp-test", "-ke"}, "-keytab"},
		{[]string{"fsrvp-test", "-keytab", "some"}, "some.keytab"},
		{[]string{"fsrvp-test", "-out-dir", "s"}, "subdir"},
		{[]string{"fsrvp-test", "-size", "2"}, "2 22"},
		{[]string{"fsrvp-test", ""}, "list show"},
		{[]string{"fsrvp-test", "list", "some"}, "some.keytab"},
		{[]string{"fsrvp-test", "-json", "-v"}, "-version"},
	} {
		require.Equal(t, c.want, complete(c.words...), "%q", c.words)
	}
}
