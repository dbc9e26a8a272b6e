package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
)

// need skips the test, or fails it in CI, where a program is missing.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("FSRVP_PEERS") == "require" {
				t.Fatal("missing: ", err)
			}
			t.Skip("missing: ", err)
		}
	}
}

// TestUnits has systemd read the unit, the socket and the drop-ins, with the program where the unit
// says that it is.
func TestUnits(t *testing.T) {
	need(t, "systemd-analyze")
	root := t.TempDir()
	lib := filepath.Join(root, "usr/lib/systemd/system")
	require.NoError(t, os.MkdirAll(lib, 0o755))
	put := func(from, to string, mode os.FileMode) {
		b, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
		require.NoError(t, os.WriteFile(to, b, mode))
	}
	for _, program := range []string{"/usr/bin/fsrvp-agent", "/bin/kill"} {
		put("/bin/true", filepath.Join(root, program), 0o755)
	}
	// The units that the agent's name, as Debian has them.
	for _, target := range []string{"sysinit", "basic", "network", "local-fs", "remote-fs", "multi-user", "sockets",
		"shutdown"} {
		require.NoError(t, os.WriteFile(filepath.Join(lib, target+".target"),
			[]byte("[Unit]\nDescription="+target+"\n"), 0o644))
	}
	for _, slice := range []string{"system.slice", "-.slice"} {
		require.NoError(t, os.WriteFile(filepath.Join(lib, slice), []byte("[Unit]\nDescription="+slice+"\n"), 0o644))
	}
	for _, dropIn := range []string{"", "hardening.conf", "unprivileged.conf"} {
		t.Run("with "+dropIn, func(t *testing.T) {
			put("packaging/fsrvp-agent.service", filepath.Join(lib, "fsrvp-agent.service"), 0o644)
			put("packaging/fsrvp-agent.socket", filepath.Join(lib, "fsrvp-agent.socket"), 0o644)
			if dropIn != "" {
				to := filepath.Join(lib, "fsrvp-agent.service.d", dropIn)
				put(filepath.Join("packaging", dropIn), to, 0o644)
				defer os.Remove(to)
			}
			out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no",
				"--recursive-errors=yes", "--root="+root,
				"fsrvp-agent.service", "fsrvp-agent.socket").CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.Empty(t, string(out))
		})
	}
	// A mistake would have been found.
	b, err := os.ReadFile("packaging/fsrvp-agent.service")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(lib, "fsrvp-agent.service"),
		[]byte(strings.Replace(string(b), "Type=notify", "Type=notified", 1)), 0o644))
	out, _ := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", "--root="+root,
		"fsrvp-agent.service").CombinedOutput()
	require.Contains(t, string(out), "notified")
}

// TestHardening has systemd count what the drop-in leaves open.
func TestHardening(t *testing.T) {
	need(t, "systemd-analyze")
	exposure := func(text string) float64 {
		t.Helper()
		unit := filepath.Join(t.TempDir(), "fsrvp-agent.service")
		require.NoError(t, os.WriteFile(unit, []byte(text), 0o644))
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=yes", "--no-pager",
			unit).CombinedOutput()
		require.NoError(t, err, "%s", out)
		m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
		require.NotNil(t, m, "%s", out)
		var level float64
		_, err = fmt.Sscan(string(m[1]), &level)
		require.NoError(t, err)
		return level
	}
	unit, err := os.ReadFile("packaging/fsrvp-agent.service")
	require.NoError(t, err)
	hardening, err := os.ReadFile("packaging/hardening.conf")
	require.NoError(t, err)
	require.Less(t, exposure(string(unit)+string(hardening)), exposure(string(unit))-2)
}

// TestShellScripts has a shell read the scripts, and compares what the demonstration says with what
// it is.
func TestShellScripts(t *testing.T) {
	for _, script := range []string{"fsrvp-agent.openrc", "demo.sh"} {
		out, err := exec.CommandContext(t.Context(), "sh", "-n", filepath.Join("packaging", script)).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	demo, err := os.ReadFile("packaging/demo.sh")
	require.NoError(t, err)
	require.Contains(t, string(demo), fmt.Sprintf("%x", ntlm.NTHash("secret")))
}

// TestDashboard: each metric that the dashboard names is one that an agent at work has.
func TestDashboard(t *testing.T) {
	b, err := os.ReadFile("packaging/grafana.json")
	require.NoError(t, err)
	var dashboard struct {
		Title  string
		Panels []struct {
			Title, Description string
			Targets            []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(b, &dashboard))
	s := newSite(t)
	sv := startService(t, s, s.config(t, good))
	_, err = sv.dial(t, "secret")
	require.NoError(t, err)
	families := sv.families(t)
	name := regexp.MustCompile(`\b(?:fsrvp|process|go)_[a-z_]+`)
	shown := map[string]bool{}
	for _, p := range dashboard.Panels {
		require.NotEmpty(t, p.Title)
		require.NotEmpty(t, p.Description, p.Title)
		for _, target := range p.Targets {
			metrics := name.FindAllString(target.Expr, -1)
			require.NotEmpty(t, metrics, target.Expr)
			for _, m := range metrics {
				base := regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(m, "")
				require.Truef(t, families[m] != nil || families[base] != nil, "%s, which %q shows, is no metric", m,
					p.Title)
				shown[base] = true
			}
		}
	}
	for f := range families {
		if strings.HasPrefix(f, "fsrvp_") && f != "fsrvp_build_info" {
			require.True(t, shown[f], "no panel shows %s", f)
		}
	}
}

// TestManualOfLog: README.md says what each line of the log means that this program writes.
func TestManualOfLog(t *testing.T) {
	manual, err := os.ReadFile("README.md")
	require.NoError(t, err)
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	line := regexp.MustCompile(`\blog\.(?:Info|Warn|Error)\("([^"]+)"`)
	n := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range line.FindAllSubmatch(b, -1) {
			n++
			msg := string(m[1])
			if strings.HasPrefix(msg, "SIGHUP: ") {
				msg = "SIGHUP: "
			}
			msg, _, _ = strings.Cut(msg, "; run ") // the remedy stands in the table's last column
			require.Contains(t, string(manual), "`"+msg, "%s: nobody says what %q means", file, msg)
		}
	}
	require.Greater(t, n, 10)
}
