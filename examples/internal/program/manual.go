package program

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// summaries describe the commands in one line, for their manual pages.
var summaries = map[string]string{
	"fsrvp-agent":       "File Server VSS Agent: takes, exposes and deletes shadow copies of shares",
	"fsrvp-backup":      "consistent backups of directories and SMB shares through shadow copies",
	"fsrvp-conformance": "checks a server of MS-FSRVP, case by case",
	"fsrvp-decode":      "prints the FSRVP calls in packet captures",
	"fsrvp-replay":      "plays recorded FSRVP calls again, against a server or as one",
}

// generate prints the files that packages have besides the command itself: "man", its manual page,
// or "bash", the completion of its flags. It makes both from the flags and the output of -h.
func generate(fs *flag.FlagSet, what string, stdout io.Writer) error {
	switch what {
	case "man":
		_, err := io.WriteString(stdout, manual(fs))
		return err
	case "bash":
		_, err := io.WriteString(stdout, Completion(fs, nil, nil))
		return err
	}
	return Usage(fmt.Errorf("-generate %s: it must be man or bash", what))
}

// manual returns the manual page of a command.
func manual(fs *flag.FlagSet) string {
	var help, flags bytes.Buffer
	fs.SetOutput(&help)
	fs.Usage()
	fs.SetOutput(&flags)
	fs.PrintDefaults()
	before, after, _ := strings.Cut(help.String(), flags.String())
	synopsis, description, _ := strings.Cut(before, "\n\n")

	p := NewPage(fs.Name(), 1)
	p.Section("SYNOPSIS")
	p.Verbatim(strings.TrimPrefix(synopsis, "usage: "))
	if description = strings.TrimSpace(description); description != "" {
		p.Section("DESCRIPTION")
		p.Verbatim(description)
	}
	p.Section("OPTIONS")
	fs.VisitAll(p.Flag)
	if after = strings.TrimSpace(after); after != "" {
		p.Section("NOTES")
		p.Verbatim(after)
	}
	p.Section("EXIT STATUS")
	p.Text("0 when the work is done, and for -h and -version; 1 when it failed; 2 when the command was called wrongly.")
	return p.String()
}

// A Page is a manual page that is being written, for the macros man of roff.
type Page struct{ b strings.Builder }

// NewPage begins the page of a command of this module.
func NewPage(name string, section int) *Page {
	p := new(Page)
	fmt.Fprintf(&p.b, ".\\\" Made from the flags of %s by -generate man.\n", name)
	fmt.Fprintf(&p.b, ".TH %s %d \"\" go\\-fsrvp\n", strings.ToUpper(roff(name)), section)
	p.Section("NAME")
	fmt.Fprintf(&p.b, "%s \\- %s\n", roff(name), roff(cmp.Or(summaries[name], "a command of go-fsrvp")))
	return p
}

// Section begins a section.
func (p *Page) Section(title string) { fmt.Fprintf(&p.b, ".SH \"%s\"\n", roff(title)) }

// Subsection begins a part of a section.
func (p *Page) Subsection(title string) { fmt.Fprintf(&p.b, ".SS \"%s\"\n", roff(title)) }

// Text adds paragraphs, separated by empty lines.
func (p *Page) Text(text string) {
	for _, par := range strings.Split(strings.TrimSpace(text), "\n\n") {
		p.b.WriteString(".PP\n")
		p.lines(par)
	}
}

// Verbatim adds lines unchanged.
func (p *Page) Verbatim(text string) {
	p.b.WriteString(".PP\n.nf\n")
	p.lines(text)
	p.b.WriteString(".fi\n")
}

// Item adds a term, with the name of its value if it has one, and its meaning.
func (p *Page) Item(term, value, text string) {
	fmt.Fprintf(&p.b, ".TP\n\\fB%s\\fR", roff(term))
	if value != "" {
		fmt.Fprintf(&p.b, " \\fI%s\\fR", roff(value))
	}
	p.b.WriteByte('\n')
	p.lines(text)
}

// Flag adds a flag with its default.
func (p *Page) Flag(f *flag.Flag) {
	value, usage := flag.UnquoteUsage(f)
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
		usage += fmt.Sprintf(" (default %s)", f.DefValue)
	}
	p.Item("-"+f.Name, value, usage)
}

func (p *Page) lines(text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \n")
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			p.b.WriteString(`\&`)
		}
		p.b.WriteString(roff(line))
		p.b.WriteByte('\n')
	}
}

// String returns the page.
func (p *Page) String() string { return p.b.String() }

// roff escapes what roff would take for its own.
func roff(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, `"`, `\(dq`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(s)
}

// Completion returns a script by which bash completes a command's flags and their values. Words are the values of flags, by
// their names; "<file>" and "<dir>" are names of such. A flag that is not in words completes what its usage calls its value. Commands
// are what may come first.
func Completion(fs *flag.FlagSet, words map[string][]string, commands []string) string {
	var flags []string
	byHow := map[string][]string{}
	fs.VisitAll(func(f *flag.Flag) {
		flags = append(flags, "-"+f.Name)
		how := completes(f, words[f.Name])
		byHow[how] = append(byHow[how], "-"+f.Name)
	})
	flags = append(flags, "-h", "-version")
	var b strings.Builder
	function := "_" + strings.ReplaceAll(fs.Name(), "-", "_")
	fmt.Fprintf(&b, "# Completion of %s's flags for bash, made from them by -generate bash.\n%s() {\n", fs.Name(), function)
	b.WriteString("\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n\tCOMPREPLY=()\n\tcase $prev in\n")
	hows := make([]string, 0, len(byHow))
	for how := range byHow {
		if how != "" {
			hows = append(hows, how)
		}
	}
	slices.Sort(hows)
	for _, how := range hows {
		fmt.Fprintf(&b, "\t%s)\n%s\t\treturn\n\t\t;;\n", strings.Join(byHow[how], "|"), how)
	}
	b.WriteString("\tesac\n")
	if len(commands) > 0 {
		fmt.Fprintf(&b, "\tif ((COMP_CWORD == 1)) && [[ $cur != -* ]]; then\n\t\tmapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\")\n\t\treturn\n\tfi\n",
			strings.Join(commands, " "))
	}
	fmt.Fprintf(&b, "\tif [[ $cur == -* ]]; then\n\t\tmapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\")\n\telse\n%s\tfi\n}\ncomplete -F %s %s\n",
		strings.Join(flags, " "), compgen("-f"), function, fs.Name())
	return b.String()
}

// compgen has names of files or directories completed.
func compgen(kind string) string {
	return "\t\tcompopt -o filenames 2>/dev/null\n\t\tmapfile -t COMPREPLY < <(compgen " + kind + " -- \"$cur\")\n"
}

// completes returns the lines that complete the value of a flag; none for one that has no value.
func completes(f *flag.Flag, words []string) string {
	name, _ := flag.UnquoteUsage(f)
	switch name := strings.ToLower(name); {
	case name == "":
		return ""
	case slices.Contains(words, "<file>"), words == nil && strings.Contains(name, "file"):
		return compgen("-f")
	case slices.Contains(words, "<dir>"), words == nil && (name == "directory" || name == "dir"):
		return compgen("-d")
	case words != nil:
		return fmt.Sprintf("\t\tmapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\")\n", strings.Join(words, " "))
	}
	return "\t\t: # whatever it is\n"
}
