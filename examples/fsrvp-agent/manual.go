package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
)

// generate prints what packages have besides the program, made of the table of settings: its manual
// page, the completion for bash, or a configuration file with each setting in a comment.
func generate(what string, stdout io.Writer) error {
	var text string
	switch what {
	case "man":
		text = manual()
	case "bash":
		_, flags := newFlags()
		words := map[string][]string{}
		for _, s := range settings() {
			words[s.name] = s.words
		}
		text = program.Completion(flags, words, slices.Sorted(maps.Keys(commands)))
	case "config":
		text = sampleConfig()
	default:
		return program.Usage(fmt.Errorf("-generate %s: it must be man, bash or config", what))
	}
	_, err := io.WriteString(stdout, text)
	return err
}

func manual() string {
	_, flags := newFlags()
	p := program.NewPage("fsrvp-agent", 8)
	p.Section("SYNOPSIS")
	p.Verbatim("fsrvp-agent -config FILE [-check] [FLAG ...]\nfsrvp-agent [FLAG ...]\nfsrvp-agent COMMAND [-config FILE | -state DIR] [-json]")
	p.Section("DESCRIPTION")
	p.Text(`
fsrvp-agent is a File Share Shadow Copy Agent (MS-FSRVP): for its clients, as backup programs, it takes shadow copies of this machine's
shares, exposes them as shares, and deletes them; over TCP, or behind Samba's smbd at the pipe FssagentRpc.

It prints "listening ..." for each listener once that accepts, logs on standard error, and tells a service manager by NOTIFY_SOCKET that it
is ready. /usr/share/doc/fsrvp-agent/README.md is the operator's manual.`)
	p.Section("SETTINGS")
	p.Text(`
Each setting is a flag, -name VALUE, and a line of the configuration file, name = VALUE. Flags go before the file. Those marked (flag) are
for the command line alone; those marked (reload) are taken over on SIGHUP.`)
	group := ""
	for _, s := range settings() {
		if s.group != group {
			group = s.group
			p.Subsection(group)
		}
		f := *flags.Lookup(s.name)
		if s.flagOnly {
			f.Usage += " (flag)"
		}
		if s.reload {
			f.Usage += " (reload)"
		}
		p.Flag(&f)
	}
	p.Section("CONFIGURATION FILE")
	p.Text(`
A line is "name = value". The value is all that follows, without quotes, escapes or comments behind it: accounts are written as Windows
writes them. Switches are yes or no. A setting that may be given several times has a line for each value. Lines that begin
with # are comments. The file must not be writable by others than its owner.

fsrvp-agent -config FILE -check names each mistake with its line and what to do.`)
	p.Section("COMMANDS")
	p.Verbatim(strings.TrimSpace(commandsHelp))
	p.Section("SIGNALS")
	p.Item("SIGTERM, SIGINT", "",
		"End the agent when the calls under way have ended, or \"drain\" is over. Persistent sets stay. A second one ends it at once.")
	p.Item("SIGHUP", "", "Reads the configuration file again. What cannot be taken over is named in the log; with a mistake in the file nothing changes. "+
		"Keytabs and files of accounts are read whenever they have changed, without a signal.")
	p.Section("EXIT STATUS")
	p.Text("0 when the work is done, and for -h and -version; 1 when it failed; 2 when the settings have a mistake or the command was called wrongly; 3 when the agent's " +
		"table is lost or damaged, so that it has not started and nothing was deleted.")
	p.Section("FILES")
	p.Item("/etc/fsrvp/agent.conf", "",
		"The configuration of the packages' service, and of the commands where neither -config nor -state is given.")
	p.Item("STATE/agent.db, STATE/agent.db.id", "", "The agent's table, and whose it is. Back both up.")
	p.Item("STATE/admin.sock", "", "The socket of the commands, for root and the agent's user.")
	p.Section("SEE ALSO")
	p.Text("fsrvp-backup(1), fsrvp-conformance(1), fsrvp-decode(1), smb.conf(5), rpcclient(1)")
	return p.String()
}

// sampleConfig is the configuration file of the packages: an agent behind Samba, and every other
// setting in a comment.
func sampleConfig() string {
	_, flags := newFlags()
	on := map[string][]string{
		"shares": {"samba"}, "expose": {"samba"}, "listen": {"samba:/run/samba/ncalrpc"}, "state": {"/var/lib/fsrvp"}, "metrics": {"127.0.0.1:9464"},
	}
	var b bytes.Buffer
	b.WriteString(`# The configuration of fsrvp-agent(8), a line "name = value" each. It is for a file server with Samba as it is.
# fsrvp-agent -config /etc/fsrvp/agent.conf -check      names its mistakes
# systemctl reload fsrvp-agent                          takes over what is marked (reload)
`)
	group := ""
	for _, s := range settings() {
		if s.flagOnly {
			continue
		}
		if s.group != group {
			group = s.group
			fmt.Fprintf(&b, "\n\n## %s\n", group)
		}
		f := flags.Lookup(s.name)
		usage := strings.ReplaceAll(f.Usage, "`", "")
		if s.reload {
			usage += " (reload)"
		}
		b.WriteByte('\n')
		for _, line := range wrap(usage, 100) {
			fmt.Fprintf(&b, "# %s\n", line)
		}
		for _, v := range on[s.name] {
			fmt.Fprintf(&b, "%s = %s\n", s.name, v)
		}
		if on[s.name] == nil {
			fmt.Fprintf(&b, "#%s = %s\n", s.name, sampleValue(&s, f.DefValue))
		}
	}
	return b.String()
}

// sampleValue is what a line in a comment has: the default, or one that shows what a value looks like.
func sampleValue(s *setting, def string) string {
	samples := map[string]string{
		"share": "data=/srv/data", "smb-conf": "/etc/samba/smb.conf", "previous-versions": "/srv/data/.previous", "snapshot-arg": "-n",
		"volume": "/srv/data", "snapshot-dir": "/srv/snapshots", "epmapper": "tcp:0.0.0.0:135", "name": "files.example.com", "machine": "files.example.com", "cluster": "/srv/cluster/fsrvp", "owner": "data=node1.example.com",
		"keytab": "/etc/krb5.keytab", "ntlm-users": "/etc/fsrvp/users", "allow": `EXAMPLE\backup`, "case-sensitive-realm": "EXAMPLE.COM",
	}
	switch {
	case samples[s.name] != "":
		return samples[s.name]
	case s.toggle():
		return "no"
	}
	return def
}

// wrap breaks a text into lines of at most n bytes, where words let it.
func wrap(text string, n int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > n:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
