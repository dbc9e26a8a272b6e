package dcerpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"
)

// A mutant is our server with one rule broken: old is replaced by new in a file of this folder.
type mutant struct {
	name, file, old, new string
}

// mutants reads testdata/mutants.txtar.
func mutants(t *testing.T) []mutant {
	a, err := txtar.ParseFile(filepath.Join("testdata", "mutants.txtar"))
	require.NoError(t, err)
	var all []mutant
	seen := map[string]bool{}
	for _, f := range a.Files {
		require.False(t, seen[f.Name], f.Name)
		seen[f.Name] = true
		m := mutant{name: f.Name}
		var old, new []string
		for _, line := range strings.Split(strings.TrimSuffix(string(f.Data), "\n"), "\n") {
			switch {
			case strings.HasPrefix(line, "-"):
				old = append(old, line[1:])
			case strings.HasPrefix(line, "+"):
				new = append(new, line[1:])
			default:
				file, ok := strings.CutPrefix(line, "file: ")
				require.True(t, ok, "%s: %q", f.Name, line)
				m.file = file
			}
		}
		m.old, m.new = strings.Join(old, "\n"), strings.Join(new, "\n")
		all = append(all, m)
	}
	return all
}

// TestMutants builds the server with one rule broken at a time and has the conversations of package
// rpctest notice each breach. Each build takes seconds: without FSRVP_MUTANTS in the environment
// only a few are built, another few each day; all are with FSRVP_MUTANTS=all, or those whose names
// have its value in them. The table itself is always checked against the sources.
func TestMutants(t *testing.T) {
	all := mutants(t)
	require.GreaterOrEqual(t, len(all), 50)
	which := os.Getenv("FSRVP_MUTANTS")
	budget := time.Minute
	if testing.Short() {
		budget = 0
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command here: ", err)
	}
	dir, err := os.Getwd()
	require.NoError(t, err)
	var chosen []mutant
	for _, m := range all {
		b, err := os.ReadFile(m.file)
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(b), m.old),
			"testdata/mutants.txtar: %s: the old text must be in %s once", m.name, m.file)
		if which == "all" || which != "" && strings.Contains(m.name, which) {
			chosen = append(chosen, m)
		}
	}
	if which == "" {
		chosen = ofToday(all)
	}
	start := time.Now()
	caught := 0
	for _, m := range chosen {
		if which == "" && time.Since(start) > budget {
			break
		}
		t.Run(m.name, func(t *testing.T) {
			reason, err := runMutant(t, dir, m)
			require.NoError(t, err)
			require.NotEmpty(t, reason, "no conversation notices")
			t.Log(reason)
			caught++
		})
	}
	t.Logf("%d of %d mutants caught, of %d in the table, in %v", caught, len(chosen), len(all),
		time.Since(start).Round(time.Second))
}

// ofToday are all mutants in an order that depends on the day.
func ofToday(all []mutant) []mutant {
	h := fnv.New32()
	fmt.Fprint(h, time.Now().Format(time.DateOnly))
	n := int(h.Sum32()) % len(all)
	return append(append([]mutant{}, all[n:]...), all[:n]...)
}

// runMutant builds and runs a mutant, and returns why it failed, or nothing.
func runMutant(t *testing.T, dir string, m mutant) (string, error) {
	tmp := t.TempDir()
	b, err := os.ReadFile(m.file)
	require.NoError(t, err)
	changed := filepath.Join(tmp, "changed.go")
	require.NoError(t, os.WriteFile(changed, []byte(strings.Replace(string(b), m.old, m.new, 1)), 0o600))
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(dir, m.file): changed}})
	require.NoError(t, err)
	file := filepath.Join(tmp, "overlay.json")
	require.NoError(t, os.WriteFile(file, overlay, 0o600))

	exe := filepath.Join(tmp, "mutant.exe")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-overlay", file, "-o", exe, "./internal/mutant")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	out, err := exec.CommandContext(ctx, exe).CombinedOutput()
	var status *exec.ExitError
	switch {
	case err == nil:
		return "", nil
	case errors.As(err, &status) && status.ExitCode() != 3:
		return lastLine(string(out)), nil
	}
	return "", fmt.Errorf("%w\n%s", err, out)
}

// lastLine is what a failed program says at the end, or its panic.
func lastLine(out string) string {
	if i := strings.Index(out, "panic:"); i >= 0 {
		out = out[i:]
		out, _, _ = strings.Cut(out, "\n")
		return out
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1]
}
