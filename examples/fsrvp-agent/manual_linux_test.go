package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func generated(t *testing.T, what string) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-generate", what}, &out, io.Discard))
	return out.String()
}

// TestGenerated: the manual page, the completion and the configuration file of packages have every
// setting.
func TestGenerated(t *testing.T) {
	page, script, config := generated(t, "man"), generated(t, "bash"), generated(t, "config")
	for _, s := range settings() {
		require.Contains(t, page, "\n\\fB\\-"+strings.ReplaceAll(s.name, "-", "\\-")+"\\fR", s.name)
		require.Contains(t, script, "-"+s.name)
		require.Equal(t, !s.flagOnly, strings.Contains(config, "\n"+s.name+" = ") ||
			strings.Contains(config, "\n#"+s.name+" = "), s.name)
	}
	for name := range commands {
		require.Contains(t, script, name)
		require.Contains(t, page, "fsrvp\\-agent "+name)
	}
	require.Error(t, run(t.Context(), []string{"-generate", "music"}, io.Discard, io.Discard))
}

// TestManualPage has man read the page, and warn of nothing.
func TestManualPage(t *testing.T) {
	need(t, "man", "groff")
	path := filepath.Join(t.TempDir(), "fsrvp-agent.8")
	require.NoError(t, os.WriteFile(path, []byte(generated(t, "man")), 0o600))
	cmd := exec.CommandContext(t.Context(), "man", "--warnings", "-E", "UTF-8", "-Tutf8", "-l", path)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANROFFSEQ=", "MANWIDTH=80")
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	require.NoError(t, err, problems.String())
	require.Empty(t, problems.String())
	require.Contains(t, string(out), `DOMAIN\user`)
}

// TestSampleConfig: the packages' configuration file has no mistakes, and neither has any line of
// it that somebody turns on.
func TestSampleConfig(t *testing.T) {
	sample := generated(t, "config")
	on := func(t *testing.T, text string) *options {
		t.Helper()
		path := filepath.Join(t.TempDir(), "agent.conf")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		o, flags := newFlags()
		require.NoError(t, readConfig(path, flags, o))
		return o
	}
	o := on(t, sample)
	require.NoError(t, o.check(nil))
	require.Equal(t, "samba", o.shares)
	n := 0
	for line := range strings.Lines(sample) {
		name, _, ok := strings.Cut(strings.TrimPrefix(line, "#"), " = ")
		if !strings.HasPrefix(line, "#") || strings.HasPrefix(line, "# ") || strings.HasPrefix(line, "##") || !ok {
			continue
		}
		n++
		t.Run(name, func(t *testing.T) {
			require.NotNil(t, settingNamed(name))
			turned := on(t, strings.Replace(sample, line, strings.TrimPrefix(line, "#"), 1))
			require.Len(t, turned.from.lines[name], 1)
		})
	}
	require.Greater(t, n, 20)
}
