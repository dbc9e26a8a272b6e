package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/credentials"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/repeated"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

const usage = `usage: fsrvp-conformance -server HOST -share '\\HOST\share' ` + credentials.Usage + `
                   [what else the server has: -same-volume, -other-volume, -hidden, -alias, -unprivileged-user, ...]
                   [-run RE] [-known FILE] [-json] [-junit FILE] [-compare OLD.json] [-transcript FILE]
       fsrvp-conformance -demo [-run RE] [-junit FILE] ...
       fsrvp-conformance -list
       fsrvp-conformance -rpc ...   tests the server's DCE/RPC; -rpc -h lists its flags

It takes shadow copies of the server's shares, and deletes them. Nobody else may take copies there meanwhile.
README.md, beside the program's source, explains it step by step.

`

type options struct {
	server string
	target fsrvptest.Target
	cred   *credentials.Flags

	profile string
	lacks   repeated.Strings
	aliases repeated.Strings
	levels  string

	unprivileged              credentials.Flags
	otherAddress, otherServer string

	files, versions, held, rights, freeze, restart, reset string

	pace, callTimeout time.Duration

	known, run, junit, compare, transcript string
	shuffle                                int64
	list, json, brief, check, demo         bool

	match *regexp.Regexp
	old   map[string]line // the file of -compare; nil if there is none
}

// levelNames are the values of -levels.
var levelNames = map[string]dcerpc.AuthLevel{
	"none": dcerpc.LevelInsecureNone, "connect": dcerpc.LevelInsecureConnect, "call": dcerpc.LevelInsecureCall, "packet": dcerpc.LevelPacket,
}

func parse(args []string, stdout io.Writer) (*options, error) {
	var o options
	flags := flag.NewFlagSet("fsrvp-conformance", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage); flags.PrintDefaults() }
	t := &o.target
	flags.StringVar(&o.server, "server", "", "the `host` to check")
	flags.StringVar(&t.Share, "share", "", `a share of it, as \\HOST\share`)
	flags.StringVar(&t.SameVolume, "same-volume", "", "another share (`UNC` path) on the same volume")
	flags.StringVar(&t.OtherVolume, "other-volume", "", "a share (`UNC` path) on another volume")
	flags.StringVar(&t.Hidden, "hidden", "", "a share (`UNC` path) with a dollar at the end of its name")
	flags.StringVar(&t.Unsupported, "unsupported", "", "a share (`UNC` path) that cannot be copied")
	flags.StringVar(&t.Mounted, "mounted", "", "a share (`UNC` path) with a mount point below it")
	flags.Var(&o.aliases, "alias",
		"another `UNC` path of -share, by another name or address of the server; may be given several times")
	flags.StringVar(&t.Owner, "owner", "", "the machine that owns -share, as IsPathSupported must `name` it")
	flags.StringVar(&t.Clustered, "clustered", "",
		"a share (`UNC` path) of this node, by the name of a cluster's file server role")
	flags.StringVar(&t.ScaleOut, "scale-out", "",
		"a share (`UNC` path) of this node, by the name of a scale-out file server")
	flags.StringVar(&t.Elsewhere, "elsewhere", "", "a share (`UNC` path) that another node of the cluster owns")
	flags.StringVar(&t.ElsewhereOwner, "elsewhere-owner", "", "the `node` that owns -elsewhere")
	flags.StringVar(&t.Foreign, "foreign", "",
		"a share (`UNC` path) of another server (default: one that does not exist)")

	flags.StringVar(&o.unprivileged.User, "unprivileged-user", "",
		"an `account` that may log on and may not take shadow copies")
	flags.StringVar(&o.unprivileged.Keytab, "unprivileged-keytab", "", "its keytab `file`")
	flags.StringVar(&o.unprivileged.CCache, "unprivileged-ccache", "", "its credential `cache`")
	flags.StringVar(&o.unprivileged.PasswordFile, "unprivileged-password-file", "", "the `file` with its password")
	flags.StringVar(&o.otherAddress, "other-address", "",
		"a second `address` of this machine: the other client calls from there")
	flags.StringVar(&o.otherServer, "other-server", "",
		"the `name` or address by which the other client calls the server, where its own address for that is a second one (default -server)")
	flags.StringVar(&o.levels, "levels", "none,connect,call,packet",
		"the `levels` below packet integrity at which -user calls, to be refused")

	flags.StringVar(&o.files, "files", "",
		"how files of shares are read and written: smb, none, or a `command` (default smb with -transport smb, else none)")
	flags.StringVar(&o.versions, "previous-versions", "",
		"how previous versions are counted: smb, none, or a `command` (default as -files)")
	flags.StringVar(&o.held, "held", "",
		"`command` that prints how many snapshots and how many exposed shares the server holds")
	flags.StringVar(&o.rights, "rights", "", "`command` that changes and shows access rights of shares")
	flags.StringVar(&o.freeze, "freeze", "", "`command` that holds up what a method does on the server")
	flags.StringVar(&o.restart, "restart", "", "`command` that ends the server's FSRVP service and starts it again")
	flags.StringVar(&o.reset, "reset", "",
		"`command` that makes the server forget all shadow copy sets, after a case that failed or that blocks it")

	flags.DurationVar(&t.SequenceTimeout, "sequence-timeout", 0,
		"the server's Message Sequence Timer, if it is short enough to wait for")
	flags.DurationVar(&t.BlockedWait, "blocked-wait", 0,
		"how long a server that stays blocked is waited for (default: as long as its Message Sequence Timer, up to 30m; negative: not at all)")
	flags.DurationVar(&o.pace, "pace", 0,
		"the least time from a share that is added to one of another set, for servers that name snapshots by the second (Samba: 1s)")
	flags.DurationVar(&o.callTimeout, "call-timeout", 0,
		"how long each call waits for its answer, besides what it tells the server to wait (default 180s)")
	flags.DurationVar(&t.CaseTimeout, "case-timeout", 0, "how long each case may take (default 5m)")
	flags.StringVar(&o.profile, "profile", "windows",
		"expect the answers of Windows, or those of the standard's text: windows, strict")
	flags.Var(&o.lacks, "lacks", "a `capability` that the server has not got; may be given several times")
	flags.StringVar(&o.known, "known", "",
		"`file` of known failures: lines of a case's name, tab, a part of the reason that is printed, or nothing")

	flags.StringVar(&o.run, "run", "", "run the cases whose suite/section/name matches this `regexp` alone")
	flags.Int64Var(&o.shuffle, "shuffle", 0,
		"run the cases in the order that this `seed` gives (default: the standard's)")
	flags.BoolVar(&o.list, "list", false, "list the cases and what the text says, and end")
	flags.BoolVar(&o.demo, "demo", false, "check a server within this program, to try the command without another one")
	flags.BoolVar(&o.check, "check", false, "check whether the cases can begin, and end")
	flags.BoolVar(&o.json, "json", false, "print one JSON object a line in place of the table")
	flags.BoolVar(&o.brief, "brief", false,
		"print one line for each case: without what the text says and what the server did")
	flags.StringVar(&o.junit, "junit", "", "write the verdicts to this `file` too, in JUnit's XML")
	flags.StringVar(&o.compare, "compare", "",
		"compare the verdicts with this `file`, an earlier output of -json; only what is worse fails")
	flags.StringVar(&o.transcript, "transcript", "",
		"write the calls of each case to this `file`, as fsrvp-replay plays them")
	o.cred = credentials.Register(flags)
	if err := program.Parse(flags, args, stdout); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("%q is not a flag; -h lists them", flags.Arg(0))
	}
	return &o, o.finish()
}

// finish checks the values of flags that the package flag does not check.
func (o *options) finish() (err error) {
	if o.match, err = regexp.Compile(o.run); err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	switch {
	case o.list:
		return nil
	case o.demo && (o.server != "" || o.target.Share != ""):
		return errors.New("-demo has a server of its own, without -server and -share")
	case o.demo:
	case o.server == "":
		return errors.New("-server is missing")
	case o.target.Share == "":
		return fmt.Errorf(`-share is missing: a share to take shadow copies of, as \\%s\share`, o.server)
	}
	switch o.profile {
	case "windows":
	case "strict":
		o.target.Profile = agent.Strict
	default:
		return fmt.Errorf("-profile is %q; it must be windows or strict", o.profile)
	}
	o.target.Lacks = map[fsrvptest.Capability]string{}
	for _, c := range o.lacks {
		switch c := fsrvptest.Capability(c); c {
		case fsrvptest.Writable, fsrvptest.RetryLimit, fsrvptest.AutoRelease:
			o.target.Lacks[c] = "as -lacks says"
		default:
			return fmt.Errorf("-lacks is %q; it must be one of %q, %q, %q", c, fsrvptest.Writable, fsrvptest.RetryLimit,
				fsrvptest.AutoRelease)
		}
	}
	for _, name := range o.levelList() {
		if levelNames[name] == 0 {
			return fmt.Errorf("-levels has %q; the levels are none, connect, call, packet", name)
		}
	}
	o.target.Aliases = o.aliases
	if o.target.Known, err = readKnown(o.known); err != nil {
		return err
	}
	o.old, err = readOld(o.compare)
	return err
}

func (o *options) levelList() []string {
	return strings.FieldsFunc(o.levels, func(r rune) bool { return r == ',' || r == ' ' })
}

// readKnown reads the list of known failures.
func readKnown(file string) (map[string]string, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("-known: %w", err)
	}
	known, err := fsrvptest.ParseKnown(string(b))
	if err != nil {
		return nil, fmt.Errorf("-known %s: %w; -list names the cases", file, err)
	}
	return known, nil
}

// cases returns the cases that -run names, in the order of -shuffle.
func (o *options) cases() ([]fsrvptest.Case, error) {
	var cases []fsrvptest.Case
	for _, c := range fsrvptest.Cases() {
		if o.match.MatchString(fmt.Sprintf("%s/%s/%s", c.Suite, c.Section, c.Name)) {
			cases = append(cases, c)
		}
	}
	if len(cases) == 0 {
		return nil, fmt.Errorf("no case matches -run %q; -list names them", o.run)
	}
	if o.shuffle != 0 {
		shuffle(cases, o.shuffle)
	}
	return cases, nil
}
