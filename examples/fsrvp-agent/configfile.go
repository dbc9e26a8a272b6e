package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A configuration file has the flags' own names, one a line:
//
//	# comment
//	listen = samba:/run/samba/ncalrpc
//	allow  = EXAMPLE\backup
//	allow  = S-1-5-21-1-2-3-1104
//	ntlm-winbind = yes
//
// What follows "=" is the value, as it is: without quotes, escapes, or comments behind it, so that
// accounts are written as Windows writes them.

// maxConfig is far more than any configuration has.
const maxConfig = 1 << 20

// defaultConfig is the file that the administrator's commands read where neither -config nor -state
// says anything. The packages' unit names it.
const defaultConfig = "/etc/fsrvp/agent.conf"

// problems are mistakes in the settings, one sentence each, and one at each place.
type problems struct {
	list []error
	at   map[place]bool
}

// add adds a sentence. Where its first argument is a place that something else is wrong at, it is
// left out.
func (p *problems) add(format string, args ...any) {
	if len(args) > 0 {
		if at, ok := args[0].(place); ok {
			if p.at[at] {
				return
			}
			if p.at == nil {
				p.at = map[place]bool{}
			}
			p.at[at] = true
		}
	}
	p.list = append(p.list, fmt.Errorf(format, args...))
}

func (p *problems) err() error { return errors.Join(p.list...) }

// readConfig reads a configuration file into the options that flags belong to. What was given as a
// flag stays.
func readConfig(path string, flags *flag.FlagSet, o *options) error {
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	b, err := readConfigFile(path)
	if err != nil {
		return err
	}
	var bad problems
	o.from = origin{file: path, lines: map[string][]int{}}
	n := 0
	for line := range bytes.Lines(b) {
		n++
		name, value, err := parseLine(string(bytes.TrimRight(line, "\r\n")))
		if err == nil && name != "" {
			err = o.take(flags, given, name, value, n)
		}
		if err != nil {
			bad.add("%s:%d: %w", path, n, err)
		}
	}
	o.from.end = n + 1
	return bad.err()
}

func readConfigFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: there is no such configuration file; name one that exists with -config", path)
	case err != nil:
		return nil, fmt.Errorf("the configuration file cannot be read: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file; name the configuration file itself with -config", path)
	case info.Size() > maxConfig:
		return nil, fmt.Errorf("%s has %d bytes, and a configuration %d at the most; name the right file with -config",
			path, info.Size(), maxConfig)
	case info.Mode().Perm()&0o022 != 0 && runtime.GOOS != "windows":
		return nil, fmt.Errorf("%s can be written by others than its owner (%v), who could run programs as the agent; run chmod go-w on it", path, info.Mode().Perm())
	}
	return os.ReadFile(path)
}

// parseLine returns the name and the value of a line, and no name for one that says nothing.
func parseLine(line string) (name, value string, err error) {
	line = strings.TrimSpace(strings.TrimPrefix(line, "\ufeff"))
	if line == "" || line[0] == '#' || line[0] == ';' {
		return "", "", nil
	}
	i := strings.IndexFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7F || r == utf8.RuneError })
	if i >= 0 {
		return "", "", errors.New("the line has bytes that are no text in UTF-8; write it again in an editor of plain text")
	}
	if line[0] == '[' {
		return "", "", fmt.Errorf("%q looks like a section, and this file has none; remove the line", line)
	}
	name, value, ok := strings.Cut(line, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if bare := strings.TrimLeft(name, "-"); bare != name && bare != "" {
		return "", "", fmt.Errorf("%q begins with a dash, as flags do; write %q", name, bare+" = "+value)
	}
	switch s := settingNamed(name); {
	case !ok && s == nil && strings.ContainsAny(name, " \t:"):
		return "", "", fmt.Errorf("%q has no \"=\"; write it as \"name = value\"", line)
	case name == "":
		return "", "", fmt.Errorf("%q has no name before the \"=\"; write it as \"name = value\"", line)
	case s == nil:
		return "", "", fmt.Errorf("%q is no setting; %s", name, suggestion(name))
	case s.flagOnly && name == "v":
		return "", "", errors.New(`v is for the command line alone; write "log-level = debug"`)
	case s.flagOnly:
		return "", "", fmt.Errorf("%s is for the command line alone; remove the line, and give the agent the flag -%s once", name, name)
	case !ok && s.toggle():
		return "", "", fmt.Errorf(`%s says neither yes nor no; write "%s = yes"`, name, name)
	case !ok || value == "":
		return "", "", fmt.Errorf(`%s has no value; write "%s = VALUE", or remove the line`, name, name)
	case len(value) > 1 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0]:
		return "", "", fmt.Errorf("the value of %s is in quotes, which would be a part of it; write %q", name,
			name+" = "+value[1:len(value)-1])
	case strings.Contains(value, " #") || strings.Contains(value, "\t#"):
		return "", "", fmt.Errorf("what follows \"#\" would be a part of the value of %s; write the comment on a line of its own", name)
	}
	return name, value, nil
}

// take sets a setting to what line n says.
func (o *options) take(flags *flag.FlagSet, given map[string]bool, name, value string, n int) error {
	s := settingNamed(name)
	if lines := o.from.lines[name]; len(lines) > 0 && !s.several() {
		return fmt.Errorf("%s is given twice, and line %d has it already; remove one of the two lines", name, lines[0])
	}
	if s.toggle() {
		switch strings.ToLower(value) {
		case "yes", "true", "on":
			value = "true"
		case "no", "false", "off":
			value = "false"
		default:
			return fmt.Errorf("%s is %q; write yes or no", name, value)
		}
	}
	if given[name] { // a flag goes before the file
		probe := flag.NewFlagSet("", flag.ContinueOnError)
		defaults().register(probe)
		flags = probe
	} else {
		o.from.lines[name] = append(o.from.lines[name], n)
	}
	if err := flags.Set(name, value); err != nil {
		return fmt.Errorf("%s is %q; write a duration with its unit, such as 30s, 5m or 1h30m", name, value)
	}
	return nil
}

// suggestion says what somebody may have meant who wrote the name of a setting that there is not.
func suggestion(name string) string {
	best, nearest := "", 1+len(name)/2
	for _, s := range settings() {
		if d := distance(strings.ToLower(name), s.name); d < nearest && !s.flagOnly {
			best, nearest = s.name, d
		}
	}
	if best == "" {
		return "fsrvp-agent -h lists them"
	}
	return "write " + strconv.Quote(best) + " if that is meant; fsrvp-agent -h lists them all"
}

// distance is Levenshtein's: how many letters must be put in, taken out or changed.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0] // of the row above, one to the left
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// changes returns the names of the settings in which two options differ.
func changes(old, now *options) (names []string) {
	for _, s := range settings() {
		if !slices.Equal(s.values(old), s.values(now)) {
			names = append(names, s.name)
		}
	}
	return names
}
