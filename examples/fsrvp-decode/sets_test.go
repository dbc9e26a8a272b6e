package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

const (
	torture  = captures + "07_smbtorture_np_smb2_all10.pcapng" // its server's timer is 2 s
	sealedNP = captures + "03_rpcclient_np_krb5_seal.pcapng"
)

// TestSets lists the sets of smbtorture's run against a real Samba.
func TestSets(t *testing.T) {
	out, summary := decodeFile(t, "-timers", "2s,2s", "-sets", torture)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 13)
	require.True(t, strings.HasPrefix(lines[12],
		`#13 2026-11-22 20:21:53.543 9d1fc6ce-70c8-4e6e-923d-76af2ff0a8d0 10.99.0.3 > 10.99.0.2 \\FS.FSRVP.TEST\fsrvp_share | `+
			"SetContext 151µs Start 396µs Add 319µs Add! 530µs Prepare 203µs Commit 3ms (timed out) Expose! 566µs | "+
			"timed out: no call came for 2s after CommitShadowCopySet: "), lines[12])
	require.Contains(t, summary, "119 calls: 18 failed")

	out, _ = decodeFile(t, "-timers", "2s,2s", "-sets", "-failed", "-method", "expose", "-since", "2026-11-22 20:21:50",
		torture)
	require.Equal(t, 1, strings.Count(out, "\n"))
	require.Contains(t, out, "#1 2026-11-22 20:21:53.543 9d1fc6ce-")
	out, summary = decodeFile(t, "-sets", "-client", "10.1.1.1", torture)
	require.Empty(t, out)
	require.Contains(t, summary, "it has no shadow copy sets that match the flags")
}

func TestExplain(t *testing.T) {
	for _, name := range []string{"9d1fc6ce", "{9D1FC6CE-70C8-4e6e-923d-76af2ff0a8d0}", "#13"} {
		out, _ := decodeFile(t, "-timers", "2s,2s", "-explain", name, torture)
		require.Contains(t, out, "Shadow copy set 9d1fc6ce-70c8-4e6e-923d-76af2ff0a8d0 on 10.99.0.2\n")
		require.Contains(t, out,
			"+2.006  *  no call came for 2s after CommitShadowCopySet: the Message Sequence Timer ran out")
		require.Contains(t, out,
			"the set was gone: the Message Sequence Timer had run out 503ms before (MS-FSRVP 3.1.2)")
	}
	// With the standard's timer it says what is seen.
	out, _ := decodeFile(t, "-explain", "9d1fc6ce", torture)
	require.Contains(t, out,
		"outcome   lost: the server had no set of this id any more, though nothing in the recording has ended it: "+
			"its Message Sequence Timer ran out earlier than 2.503s after CommitShadowCopySet (the standard has 3m0s), it was restarted, or calls are missing here")
	for name, want := range map[string]string{"#14": "there is no set #14", "123456": "there is no set 123456",
		"3e7a84": "several sets begin with 3e7a84"} {
		var stdout, stderr bytes.Buffer
		require.ErrorContains(t, run(t.Context(), []string{"-explain", name, torture}, nil, &stdout, &stderr), want)
	}
}

// TestTranscriptOut writes a capture as a transcript, and tells stories of that.
func TestTranscriptOut(t *testing.T) {
	file := filepath.Join(t.TempDir(), "calls.jsonl")
	out, _ := decodeFile(t, "-keytab", captures+"all.keytab", "-transcript", file, sealedNP)
	require.Empty(t, out)
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	calls, err := transcript.ReadAll(f)
	require.NoError(t, err)
	require.Len(t, calls, 15)
	want, _ := decodeFile(t, "-keytab", captures+"all.keytab", "-sets", sealedNP)
	require.Contains(t, want, "complete: the set was recovered and its exposed shares were deleted")
	got, _ := decodeFile(t, "-sets", file)
	require.Equal(t, want, got)

	stdout, stderr := decodeFile(t, "-transcript", "-", sealedNP)
	require.Empty(t, stdout)
	require.Equal(t, 15, strings.Count(stderr, "left out: "), "without the key")
	var o, e bytes.Buffer
	require.ErrorContains(t, run(t.Context(), []string{file}, nil, &o, &e), "it is a transcript")
	require.ErrorContains(t, run(t.Context(), []string{"-sets", "-json", file}, nil, &o, &e), "one without the others")
	require.ErrorContains(t, run(t.Context(), []string{"-sets", "-timers", "2", file}, nil, &o, &e), "two durations")
}

func TestHTML(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.html")
	_, summary := decodeFile(t, "-timers", "2s,2s", "-html", file, torture)
	require.Contains(t, summary, "wrote 13 sets to "+file)
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, 13, strings.Count(string(b), "<details "))
}

// TestFilters counts the calls that each filter chooses.
func TestFilters(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want int
	}{
		{nil, 119},
		{[]string{"-client", "10.99.0.3"}, 119},
		{[]string{"-client", "10.99.0.3:1"}, 0},
		{[]string{"-server", "10.99.0.2:445"}, 119},
		{[]string{"-server", "10.99.0.3"}, 0},
		{[]string{"-user", "administrator"}, 119},
		{[]string{"-user", `FSRVP\Administrator`}, 119},
		{[]string{"-user", "backup"}, 0},
		{[]string{"-set", "{9d1fc6ce-70c8-4e6e-923d-76af2ff0a8d0}"}, 6},
		{[]string{"-set", "9d1fc6ce", "-method", "add,Commit"}, 3},
		{[]string{"-method", "GetShareMapping", "-method", "5"}, 15},
		{[]string{"-method", "AddToShadowCopySet", "-status", "object_already_exists"}, 10},
		{[]string{"-status", "0x80070057"}, 6},
		{[]string{"-status", "E_INVALIDARG", "-method", "Expose"}, 1},
		{[]string{"-status", "ZERO"}, 101},
		{[]string{"-failed"}, 18},
		{[]string{"-share", "fsrvp_share", "-method", "IsPathSupported"}, 14},
		{[]string{"-share", `\\FS.FSRVP.TEST\fsrvp_share`}, 43},
		{[]string{"-share", "other"}, 0},
		{[]string{"-since", "2026-11-22T20:21:51Z", "-until", "2026-11-22T21:21:53.5+01:00"}, 0},
		{[]string{"-status", "fault,unanswered"}, 0},
	} {
		out, _ := decodeFile(t, append(tt.args, torture)...)
		if tt.args != nil && tt.args[0] == "-since" {
			for line := range strings.Lines(out) {
				require.Regexp(t, `^2026-11-22 20:21:5[12]`, line)
			}
			require.NotEmpty(t, out)
			continue
		}
		require.Equal(t, tt.want, strings.Count(out, "\n"), "%q", tt.args)
	}
	// Calls that cannot be read are chosen by what is known of them.
	out, _ := decodeFile(t, "-failed", "-method", "Commit", sealedNP)
	require.Equal(t, 1, strings.Count(out, "\n"))
	out, _ = decodeFile(t, "-share", "fsrvp_share", sealedNP)
	require.Empty(t, out)
	for args, want := range map[string]string{"-method=x": "-method is", "-since=x": "it must be 2006-01-02",
		"-status=": "a name is missing"} {
		var o, e bytes.Buffer
		require.ErrorContains(t, run(t.Context(), []string{args, torture}, nil, &o, &e), want)
	}
}

// TestReadme runs the commands of the README's story, and compares what they print.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(b), "\n## A story from end to end\n")
	require.True(t, ok)
	n := 0
	for {
		var command, output string
		if _, rest, ok = strings.Cut(rest, "    $ fsrvp-decode "); !ok {
			break
		}
		command, rest, _ = strings.Cut(rest, "\n\n")
		output, rest, _ = strings.Cut(rest, "\n\n")
		args := strings.Fields(command)
		args[len(args)-1] = captures + args[len(args)-1]
		got, _ := decodeFile(t, args...)
		var want strings.Builder
		for line := range strings.Lines(output + "\n") {
			want.WriteString(strings.TrimRight(strings.TrimPrefix(line, "    "), " "))
		}
		require.Equal(t, want.String(), got, command)
		n++
	}
	require.Equal(t, 2, n)
}
