package main

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/examples/internal/repeated"
)

// A setting is one of the agent's. The table of settings is the one place that knows them: the
// flags, the lines of a configuration file, what -check looks at, the manual page and the
// completion of shells are made of it.
type setting struct {
	name  string
	group string // the heading in the manual page
	// usage is what -h says. A word in backquotes stands for the value, as in package flag.
	usage string
	// field returns where the value is kept: a *string, *bool, *time.Duration or *repeated.Strings,
	// whose value is the default.
	field func(o *options) any
	// check returns what is wrong with one value, and what to write instead: the end of a sentence
	// that begins with the setting and the value. Nil: any will do.
	check func(value string) error
	// reload says that SIGHUP takes a new value over.
	reload bool
	// flagOnly says that the setting is for the command line alone.
	flagOnly bool
	// words are the values that there are, for completion; "file" and "dir" in angle brackets are
	// names of such.
	words []string
}

// options are the values of the settings.
type options struct {
	config      string
	checkOnly   bool
	listen      repeated.Strings
	share       repeated.Strings
	shares      string
	snapshots   string
	snapDir     repeated.Strings
	snapArg     repeated.Strings
	snapTimeout time.Duration
	volume      repeated.Strings
	expose      string
	state       string
	cluster     string
	owners      repeated.Strings
	accept      bool
	keytab      string
	ntlmUsers   string
	winbind     bool
	allow       repeated.Strings
	exact       repeated.Strings
	requirePAC  bool
	names       repeated.Strings
	machine     string
	plainHidden bool
	profile     string
	timeout     time.Duration
	keep        bool
	epmapper    string
	requireRPC  bool
	smbConf     string
	programs    bool
	previous    string
	drain       time.Duration
	metrics     string
	logLevel    string
	verbose     bool

	from origin
}

// The groups of settings, in the order of the manual page.
const (
	groupConfig   = "Configuration"
	groupShares   = "What can be copied, and how copies are exposed"
	groupSnapshot = "How snapshots are taken"
	groupListen   = "Where clients come in"
	groupAccess   = "Who may call"
	groupState    = "The agent's table"
	groupProtocol = "The protocol"
	groupRun      = "Operation"
)

const severalTimes = "; may be given several times"

// settings returns the table, in the order of -h and of the manual page.
func settings() []setting {
	return []setting{
		{
			name: "config", group: groupConfig, flagOnly: true, words: []string{"<file>"},
			usage: "read settings from this `file`, a line \"name = value\" each, named as the flags; flags go before it. SIGHUP reads it again",
			field: func(o *options) any { return &o.config },
		},
		{
			name: "check", group: groupConfig, flagOnly: true,
			usage: "look for mistakes in the settings, print them and end: with 0 when there are none, and 2 otherwise",
			field: func(o *options) any { return &o.checkOnly },
		},

		{
			name: "share", group: groupShares, check: checkShare,
			usage: "a share and its directory, `NAME=DIR`" + severalTimes,
			field: func(o *options) any { return &o.share },
		},
		{
			name: "shares", group: groupShares, check: oneOf("samba"), words: []string{"samba"},
			usage: "`samba`: the shares are those of this machine's Samba",
			field: func(o *options) any { return &o.shares },
		},
		{
			name: "expose", group: groupShares, check: checkExpose, words: []string{"samba", "directory:"},
			usage: "how copies are exposed: `directory:DIR`, or samba, as shares of Samba",
			field: func(o *options) any { return &o.expose },
		},
		{
			name: "smb-conf", group: groupShares, check: checkFile, words: []string{"<file>"},
			usage: "Samba's configuration `file`, if it is not the usual one",
			field: func(o *options) any { return &o.smbConf },
		},
		{
			name: "samba-programs", group: groupShares,
			usage: "run a program of Samba's for every step; without it a helper on python3-samba, where that is installed, does the same in less time",
			field: func(o *options) any { return &o.programs },
		},
		{
			name: "plain-hidden-names", group: groupShares,
			usage: `expose a hidden share always as share$@{id}; without it as share$@{id}$ where a client names it \\host\share$\`,
			field: func(o *options) any { return &o.plainHidden },
		},
		{
			name: "previous-versions", group: groupShares, check: checkAbsolute, words: []string{"<dir>"},
			usage: "with -expose samba, keep links in this `directory` by which shadow_copy2 lists copies as previous versions",
			field: func(o *options) any { return &o.previous },
		},

		{
			name: "snapshots", group: groupSnapshot, check: checkSnapshots,
			words: append(snapshotKinds(), "command:"),
			usage: "how snapshots are taken: auto, zfs, btrfs, snapper, reflink, copy, or `command:PROGRAM`, which package command documents",
			field: func(o *options) any { return &o.snapshots },
		},
		{
			name: "snapshot-arg", group: groupSnapshot,
			usage: "an `argument` of the program of -snapshots command:PROGRAM" + severalTimes,
			field: func(o *options) any { return &o.snapArg },
		},
		{
			name: "snapshot-timeout", group: groupSnapshot, check: notNegative,
			usage: "how long that program may run, a `duration`; 0: five minutes",
			field: func(o *options) any { return &o.snapTimeout },
		},
		{
			name: "volume", group: groupSnapshot, check: checkDir, words: []string{"<dir>"},
			usage: "a `directory` that is one volume with all that is below it, for reflink, copy and command" + severalTimes,
			field: func(o *options) any { return &o.volume },
		},
		{
			name: "snapshot-dir", group: groupSnapshot, check: checkAbsolute, words: []string{"<dir>"},
			usage: "keep snapshots in this `directory`, where it is on the volume's file system, and not in .fsrvp at its root (with zfs, mount them in it)" + severalTimes,
			field: func(o *options) any { return &o.snapDir },
		},

		{
			name: "listen", group: groupListen, check: checkListen, words: []string{"tcp:", "samba:/run/samba/ncalrpc",
				"systemd"},
			usage: "`tcp:HOST:PORT`; samba:NCALRPC_DIR, the \"ncalrpc dir\" of this machine's Samba; or systemd, the TCP sockets that systemd passes" + severalTimes,
			field: func(o *options) any { return &o.listen },
		},
		{
			name: "epmapper", group: groupListen, check: checkTCP, words: []string{"tcp:"},
			usage: "also be the endpoint mapper, at `tcp:HOST:135`, for clients that ask for the port",
			field: func(o *options) any { return &o.epmapper },
		},
		{
			name: "name", group: groupListen, check: checkHostName,
			usage: "a `name` or address of this server, besides the host's own and those in the keytab" + severalTimes,
			field: func(o *options) any { return &o.names },
		},
		{
			name: "machine", group: groupListen, check: checkHostName,
			usage: "the `name` of this server that clients are told to connect to; none: with -shares samba its \"netbios name\", else the name that a client has used",
			field: func(o *options) any { return &o.machine },
		},
		{
			name: "owner", group: groupListen, check: checkOwner,
			usage: "in a cluster, the node that clients of a share have to connect to, `SHARE=HOST`: its host name, or an address of it, also one that CTDB moves between nodes; *=HOST is for all other shares; without it a client may come to any node" + severalTimes,
			field: func(o *options) any { return &o.owners },
		},

		{
			name: "keytab", group: groupAccess, reload: true, check: checkKeytab, words: []string{"<file>"},
			usage: "`file` of the service's Kerberos keys, host/ principals; none: no Kerberos",
			field: func(o *options) any { return &o.keytab },
		},
		{
			name: "require-pac", group: groupAccess, reload: true,
			usage: "refuse Kerberos tickets without SIDs; in an Active Directory all have them",
			field: func(o *options) any { return &o.requirePAC },
		},
		{
			name: "ntlm-users", group: groupAccess, reload: true, check: checkHashFile, words: []string{"<file>"},
			usage: "`file` of lines DOMAIN\\user, tab, NT hash in hex; none: no NTLM",
			field: func(o *options) any { return &o.ntlmUsers },
		},
		{
			name: "ntlm-winbind", group: groupAccess,
			usage: "have NTLM checked by this machine's winbindd",
			field: func(o *options) any { return &o.winbind },
		},
		{
			name: "allow", group: groupAccess, reload: true, check: checkAllow,
			usage: "an `account` (DOMAIN\\user, user@REALM) or SID that may call, besides BUILTIN\\Administrators and Backup Operators; in an Active Directory a SID is best" + severalTimes,
			field: func(o *options) any { return &o.allow },
		},
		{
			name: "case-sensitive-realm", group: groupAccess, reload: true, check: checkRealm,
			usage: "a Kerberos `realm` whose names of accounts have case, as MIT's: -allow compares them exactly" + severalTimes,
			field: func(o *options) any { return &o.exact },
		},
		{
			name: "require-rpc-security", group: groupAccess,
			usage: "behind Samba, also demand security of RPC's own inside the SMB session",
			field: func(o *options) any { return &o.requireRPC },
		},

		{
			name: "state", group: groupState, check: checkAbsolute, words: []string{"<dir>"},
			usage: "`directory` of the agent's table",
			field: func(o *options) any { return &o.state },
		},
		{
			name: "cluster", group: groupState, check: checkAbsolute, words: []string{"<dir>"},
			usage: "the table is in this `directory`, on the file system of a CTDB cluster, and the agents of all nodes share it; what -state names is each node's own",
			field: func(o *options) any { return &o.cluster },
		},
		{
			name: "accept-state", group: groupState, flagOnly: true,
			usage: "start although the state is lost, or older than the copies that this agent has made: what it does not know stays, as orphans",
			field: func(o *options) any { return &o.accept },
		},

		{
			name: "profile", group: groupProtocol, check: oneOf("windows", "strict"), words: []string{"windows",
				"strict"},
			usage: "answer as Windows does, or strictly as the standard is written: `windows or strict`",
			field: func(o *options) any { return &o.profile },
		},
		{
			name: "keep-exposed", group: groupProtocol,
			usage: "keep a set that is exposed until its shares are deleted, as Samba's agent does, for clients that never call RecoveryComplete",
			field: func(o *options) any { return &o.keep },
		},
		{
			name: "sequence-timeout", group: groupProtocol, check: notNegative,
			usage: "a `duration` that replaces every value of the Message Sequence Timer; for tests",
			field: func(o *options) any { return &o.timeout },
		},

		{
			name: "log-level", group: groupRun, reload: true, check: oneOf(logLevels()...), words: logLevels(),
			usage: "what is logged: `error, warn, info or debug`; info is a line for each set that is made or goes, and each failure, debug is all",
			field: func(o *options) any { return &o.logLevel },
		},
		{
			name: "v", group: groupRun, flagOnly: true, reload: true,
			usage: "log every call, as log-level debug does",
			field: func(o *options) any { return &o.verbose },
		},
		{
			name: "metrics", group: groupRun, check: checkAddress, words: []string{"127.0.0.1:9464"},
			usage: "serve /metrics, for Prometheus, and /healthz at this `HOST:PORT`, by HTTP and to everybody who can reach it; none: nowhere",
			field: func(o *options) any { return &o.metrics },
		},
		{
			name: "drain", group: groupRun, reload: true, check: notNegative,
			usage: "a `duration`: how long calls under way may take to end after a signal",
			field: func(o *options) any { return &o.drain },
		},
	}
}

// defaults returns options without a setting.
func defaults() *options {
	return &options{snapshots: "auto", profile: "windows", logLevel: "info", drain: 30 * time.Second}
}

// register declares the flags, whose values are o's.
func (o *options) register(flags *flag.FlagSet) {
	for _, s := range settings() {
		switch p := s.field(o).(type) {
		case *string:
			flags.StringVar(p, s.name, *p, s.usage)
		case *bool:
			flags.BoolVar(p, s.name, *p, s.usage)
		case *time.Duration:
			flags.DurationVar(p, s.name, *p, s.usage)
		case *repeated.Strings:
			flags.Var(p, s.name, s.usage)
		default:
			panic(fmt.Sprintf("setting %s is kept in a %T", s.name, p))
		}
	}
}

// values returns the values of a setting that are not its default: one, or those of one that may be
// given several times.
func (s *setting) values(o *options) []string {
	switch p := s.field(o).(type) {
	case *repeated.Strings:
		return slices.Clone(*p)
	case *string:
		if *p != "" && *p != *s.field(defaults()).(*string) {
			return []string{*p}
		}
	case *bool:
		if *p {
			return []string{"yes"}
		}
	case *time.Duration:
		if *p != *s.field(defaults()).(*time.Duration) {
			return []string{p.String()}
		}
	}
	return nil
}

// copy has a setting's value taken over.
func (s *setting) copy(to, from *options) {
	switch p := s.field(to).(type) {
	case *repeated.Strings:
		*p = slices.Clone(*s.field(from).(*repeated.Strings))
	case *string:
		*p = *s.field(from).(*string)
	case *bool:
		*p = *s.field(from).(*bool)
	case *time.Duration:
		*p = *s.field(from).(*time.Duration)
	}
}

// several reports whether a setting may be given several times.
func (s *setting) several() bool {
	_, ok := s.field(&options{}).(*repeated.Strings)
	return ok
}

// toggle reports whether a setting is on or off.
func (s *setting) toggle() bool {
	_, ok := s.field(&options{}).(*bool)
	return ok
}

func settingNamed(name string) *setting {
	table := settings()
	for i := range table {
		if table[i].name == name {
			return &table[i]
		}
	}
	return nil
}

// An origin says where the values of settings come from.
type origin struct {
	file  string           // empty: no configuration file
	end   int              // the line behind its last one
	lines map[string][]int // of each setting's values, in their order; none where a flag gave them
}

// A place is a setting with the file and the line where it is, or a flag: the beginning of a
// sentence.
type place string

// at names the place of the i-th value of a setting.
func (f *origin) at(name string, i int) place {
	if lines := f.lines[name]; i < len(lines) {
		return place(fmt.Sprintf("%s:%d: %s", f.file, lines[i], name))
	}
	return place("-" + name)
}

// missing names the place where a line could be added that is missing.
func (f *origin) missing(name string) place {
	if f.file == "" {
		return place("-" + name)
	}
	return place(fmt.Sprintf("%s:%d: %s", f.file, f.end, name))
}

// example shows how to write a setting: as a flag, or as a line of the file.
func (f *origin) example(name, value string) string {
	if f.file == "" {
		return strings.TrimSuffix("-"+name+" "+value, " ")
	}
	if value == "" {
		value = "yes"
	}
	return fmt.Sprintf("%q", name+" = "+value)
}
