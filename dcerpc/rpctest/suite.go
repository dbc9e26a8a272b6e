package rpctest

import (
	"bufio"
	"context"
	"embed"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

//go:embed scripts/server/*.txtar scripts/client/*.txtar
var scripts embed.FS

// Scripts returns the conversations that test servers, in the order of their files. The scripts are
// shared: they must not be changed.
func Scripts() []*Script { return serverScripts() }

// ClientScripts returns the conversations that test clients.
func ClientScripts() []*Script { return clientScripts() }

var (
	serverScripts = sync.OnceValue(func() []*Script { return load("scripts/server", servers) })
	clientScripts = sync.OnceValue(func() []*Script { return load("scripts/client", clients) })
)

// load parses the archives of a folder. They are part of the package, and its tests parse them.
func load(dir string, side side) []*Script {
	var all []*Script
	files, err := fs.ReadDir(scripts, dir)
	if err != nil {
		panic(err)
	}
	for _, f := range files {
		b, err := scripts.ReadFile(path.Join(dir, f.Name()))
		if err != nil {
			panic(err)
		}
		parsed, err := parse(f.Name(), b, side)
		if err != nil {
			panic(err)
		}
		all = append(all, parsed...)
	}
	return all
}

// RunAll runs scripts against a target, up to parallel of them at once, and yields their results in
// the order of the scripts, each as soon as it is known. If the caller stops, or the context ends,
// running scripts are interrupted; all have ended when the iteration returns.
func RunAll(ctx context.Context, scripts []*Script, target *Target, parallel int) iter.Seq2[*Script, Result] {
	return func(yield func(*Script, Result) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		results := make([]chan Result, len(scripts))
		for i := range results {
			results[i] = make(chan Result, 1)
		}
		var next atomic.Int64
		for range max(1, min(parallel, len(scripts))) {
			wg.Go(func() {
				for i := next.Add(1) - 1; int(i) < len(scripts); i = next.Add(1) - 1 {
					results[i] <- scripts[i].Run(ctx, target)
				}
			})
		}
		for i, s := range scripts {
			if !yield(s, <-results[i]) {
				return
			}
		}
	}
}

// Run runs all scripts for servers, up to parallel of them at once, and reports them as subtests.
// known lists the known failures; see [ParseKnown]. Run returns the numbers of scripts that passed,
// failed as known, and were not applicable.
func Run(t *testing.T, target *Target, known Known, parallel int) (passed, failed, notApplicable int) {
	t.Helper()
	for s, res := range RunAll(t.Context(), Scripts(), target, parallel) {
		t.Run(s.Name, func(t *testing.T) {
			switch verdict, reason := known.Judge(s, res); verdict {
			case Passed:
				passed++
			case NotApplicable:
				notApplicable++
				t.Skip(reason)
			case Failed:
				if res.Verdict == Failed {
					t.Logf("the rule is %s\n%s", s.Rule, strings.Join(res.Transcript, "\n"))
				}
				t.Error(reason)
			case KnownFailure:
				failed++
				t.Skip("fails as expected: " + reason)
			}
		})
	}
	return passed, failed, notApplicable
}

// Known lists the scripts that a target is known to fail, by name, each with a part of the reason,
// which may be empty. A part that begins with "?" marks an intermittent failure.
type Known map[string]string

// Judge returns the verdict in view of the known failures: a script that fails as known gets
// [KnownFailure]; one that passes although it is known to fail has failed, since the list is then
// wrong.
func (k Known) Judge(s *Script, res Result) (Verdict, string) {
	part, listed := k[s.Name]
	part, sometimes := strings.CutPrefix(part, "?")
	switch {
	case !listed || res.Verdict == NotApplicable:
		return res.Verdict, res.Reason
	case res.Verdict == Passed && sometimes:
		return Passed, ""
	case res.Verdict == Passed:
		return Failed, fmt.Sprintf("script %s passes but is listed as failing (%s): take it out of the list", s.Name, part)
	case !strings.Contains(res.Reason, part):
		return Failed, fmt.Sprintf("script %s fails in another way than listed (%s): %s", s.Name, part, res.Reason)
	}
	return KnownFailure, res.Reason
}

// ParseKnown reads a list of known failures: lines with the name of a script, a tab, and a part of
// the reason or nothing; and lines that begin with #, and empty ones, which are ignored. It fails
// if a name is not that of a script, or occurs twice.
func ParseKnown(text string) (Known, error) {
	names := map[string]bool{}
	for _, s := range append(Scripts(), ClientScripts()...) {
		names[s.Name] = true
	}
	k := Known{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimRight(lines.Text(), " \r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, part, _ := strings.Cut(line, "\t")
		if !names[name] {
			return nil, fmt.Errorf("rpctest: line %d: no script %q", n, name)
		}
		if _, ok := k[name]; ok {
			return nil, fmt.Errorf("rpctest: line %d: script %q is there twice", n, name)
		}
		k[name] = part
	}
	return k, lines.Err()
}
