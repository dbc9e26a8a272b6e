package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// readOld reads an earlier output of -json.
func readOld(file string) (map[string]line, error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("-compare: %w", err)
	}
	defer f.Close()
	old := map[string]line{}
	for d, n := json.NewDecoder(f), 1; ; n++ {
		var l line
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("-compare %s: object %d is not a line of -json: %w", file, n, err)
		}
		if l.Case == "" || l.Verdict == "" {
			return nil, fmt.Errorf("-compare %s: object %d has no case or no verdict; it must be an output of -json",
				file, n)
		}
		old[l.Case] = l
	}
	if len(old) == 0 {
		return nil, fmt.Errorf("-compare %s: there is nothing in it", file)
	}
	return old, nil
}

// compare prints the changed verdicts, and reports whether one is worse: a case newly fails or is
// blocked, or one that passed is no longer applicable.
func compare(w io.Writer, old map[string]line, lines []line) (worse bool) {
	changes := 0
	for _, l := range lines {
		before, ok := old[l.Case]
		if !ok {
			before.Verdict = "not there"
		}
		if before.Verdict == l.Verdict {
			continue
		}
		changes++
		mark := "        "
		if l.bad() && !before.bad() || l.Verdict == verdictNA &&
			(before.Verdict == verdictPass || before.Verdict == verdictKnown) {
			worse, mark = true, "worse   "
		}
		fmt.Fprintf(w, "%s%s: was %s, is %s", mark, l.Case, before.Verdict, l.Verdict)
		if l.Reason != "" {
			fmt.Fprintf(w, ": %s", oneLine(l.Reason))
		}
		fmt.Fprintln(w)
	}
	if changes == 0 {
		fmt.Fprintf(w, "all %d verdicts are as before\n", len(lines))
	}
	return worse
}
