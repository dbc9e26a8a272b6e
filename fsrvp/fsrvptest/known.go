package fsrvptest

import (
	"fmt"
	"strings"
)

// ParseKnown reads a list for Target.Known: lines with a case's name, a tab, and a part of the
// reason that the case gives, which may be empty. Empty lines, and lines that begin with #, are
// ignored.
func ParseKnown(text string) (map[string]string, error) {
	cases := caseNames()
	known := map[string]string{}
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimRight(line, "\r"); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, symptom, ok := strings.Cut(line, "\t")
		if !ok || !cases[name] {
			return nil, fmt.Errorf("fsrvptest: line %d of the known failures: %q must be a case's name, a tab and a reason", i+1, line)
		}
		if _, twice := known[name]; twice {
			return nil, fmt.Errorf("fsrvptest: line %d of the known failures: %s occurs twice", i+1, name)
		}
		known[name] = symptom
	}
	return known, nil
}

func caseNames() map[string]bool {
	names := map[string]bool{}
	for _, c := range Cases() {
		names[c.Name] = true
	}
	return names
}
