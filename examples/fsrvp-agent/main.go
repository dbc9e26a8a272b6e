// Command fsrvp-agent is a File Share Shadow Copy Agent that a NAS could run: it takes, exposes and deletes shadow copies
// of this machine's shares for clients of MS-FSRVP, over TCP or behind Samba's smbd.
//
// Shares of directories, exposed as directories, over TCP:
//
//	fsrvp-agent -listen tcp:127.0.0.1:5555 -share data=/srv/data -expose directory:/srv/exposed -state /var/lib/fsrvp -keytab fs1.keytab
//
// Samba's shares, exposed as shares of Samba, over the pipe of the standard:
//
//	fsrvp-agent -listen samba:/run/samba/ncalrpc -shares samba -expose samba -state /var/lib/fsrvp -keytab /etc/krb5.keytab
//
// An administrator lists and deletes shadow copies with its commands, such as "fsrvp-agent list"; -h has them.
//
// It prints "listening ..." for each listener once that accepts, logs on standard error, and ends on SIGTERM or
// SIGINT when the calls under way have ended.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/repeated"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

func main() {
	program.Main("fsrvp-agent", func(ctx context.Context, args []string) error {
		return run(ctx, args, os.Stdout, os.Stderr)
	})
}

type options struct {
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
	accept      bool
	keytab      string
	ntlmUsers   string
	winbind     bool
	allow       repeated.Strings
	exact       repeated.Strings
	requirePAC  bool
	names       repeated.Strings
	profile     string
	timeout     time.Duration
	keep        bool
	epmapper    string
	requireRPC  bool
	smbConf     string
	previous    string
	drain       time.Duration
	verbose     bool
}

// storeName is the file of the agent's table, in the directory of its state.
const storeName = "agent.db"

func parse(args []string, stdout io.Writer) (*options, error) {
	var o options
	flags := flag.NewFlagSet("fsrvp-agent", flag.ContinueOnError)
	o.register(flags)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "Usage of fsrvp-agent:")
		flags.PrintDefaults()
		fmt.Fprint(flags.Output(), commandsHelp)
	}
	if err := program.Parse(flags, args, stdout); err != nil {
		return nil, err
	}
	return &o, program.Usage(o.check(flags.Args()))
}

// register declares the flags.
func (o *options) register(flags *flag.FlagSet) {
	flags.Var(&o.listen, "listen", "`tcp:HOST:PORT`, or samba:NCALRPC_DIR, the \"ncalrpc dir\" of this machine's Samba; may be given several times")
	flags.Var(&o.share, "share", "a share and its directory, `NAME=DIR`; may be given several times")
	flags.StringVar(&o.shares, "shares", "", "samba: the shares are those of this machine's Samba")
	flags.StringVar(&o.snapshots, "snapshots", "auto", "how snapshots are taken: auto, zfs, btrfs, snapper, reflink, copy, or `command:PROGRAM`, which package command documents")
	flags.Var(&o.snapArg, "snapshot-arg", "an `argument` of the program of -snapshots command:PROGRAM; may be given several times")
	flags.DurationVar(&o.snapTimeout, "snapshot-timeout", 0, "how long that program may run; 0: five minutes")
	flags.Var(&o.volume, "volume", "a `directory` that is one volume with all that is below it, for reflink, copy and command; may be given several times")
	flags.Var(&o.snapDir, "snapshot-dir", "keep snapshots in this `directory`, where it is on the volume's file system, and not in .fsrvp at its root (with zfs, mount them in it); may be given several times")
	flags.StringVar(&o.expose, "expose", "", "how copies are exposed: `directory:DIR`, or samba, as shares of Samba")
	flags.StringVar(&o.state, "state", "", "`directory` of the agent's table")
	flags.BoolVar(&o.accept, "accept-state", false, "start although the state is lost, or older than the copies that this agent has made: what it does not know stays, as orphans")
	flags.StringVar(&o.keytab, "keytab", "", "`file` of the service's Kerberos keys, host/ principals; none: no Kerberos")
	flags.StringVar(&o.ntlmUsers, "ntlm-users", "", "`file` of lines DOMAIN\\user, tab, NT hash in hex; none: no NTLM")
	flags.BoolVar(&o.winbind, "ntlm-winbind", false, "have NTLM checked by this machine's winbindd")
	flags.Var(&o.allow, "allow", "an account (DOMAIN\\user, user@REALM) or SID that may call, besides BUILTIN\\Administrators and Backup Operators; in an Active Directory a SID is best; may be given several times")
	flags.Var(&o.exact, "case-sensitive-realm", "a Kerberos `realm` whose names of accounts have case, as MIT's: -allow compares them exactly; may be given several times")
	flags.BoolVar(&o.requirePAC, "require-pac", false, "refuse Kerberos tickets without SIDs; in an Active Directory all have them")
	flags.Var(&o.names, "name", "a name or address of this server, beside the host's own and those in the keytab; may be given several times")
	flags.StringVar(&o.profile, "profile", "windows", "answer as Windows does, or strictly as the standard is written: windows, strict")
	flags.DurationVar(&o.timeout, "sequence-timeout", 0, "replaces every value of the Message Sequence Timer; for tests")
	flags.BoolVar(&o.keep, "keep-exposed", false, "keep a set that is exposed until its shares are deleted, as Samba's agent does, for clients that never call RecoveryComplete")
	flags.StringVar(&o.epmapper, "epmapper", "", "also be the endpoint mapper, at `tcp:HOST:135`, for clients that ask for the port")
	flags.BoolVar(&o.requireRPC, "require-rpc-security", false, "behind Samba, also demand security of RPC's own inside the SMB session")
	flags.StringVar(&o.smbConf, "smb-conf", "", "Samba's configuration `file`, if it is not the usual one")
	flags.StringVar(&o.previous, "previous-versions", "", "with -expose samba, keep links in this `directory` by which shadow_copy2 lists copies as previous versions")
	flags.DurationVar(&o.drain, "drain", 30*time.Second, "how long calls under way may take to end after a signal")
	flags.BoolVar(&o.verbose, "v", false, "log every call")
}

func (o *options) check(rest []string) error {
	var problems []error
	missing := func(when bool, what string) {
		if when {
			problems = append(problems, errors.New(what))
		}
	}
	missing(len(rest) > 0, fmt.Sprintf("%q is no flag; -h lists them", strings.Join(rest, " ")))
	missing(len(o.listen) == 0, "-listen is missing: tcp:HOST:PORT or samba:NCALRPC_DIR")
	if err := o.checkBackends(); err != nil {
		problems = append(problems, err)
	}
	missing(o.timeout < 0, "-sequence-timeout is negative")
	missing(o.ntlmUsers != "" && o.winbind, "-ntlm-users and -ntlm-winbind exclude each other")
	return errors.Join(problems...)
}

// checkBackends checks the flags that say what an agent works on.
func (o *options) checkBackends() error {
	var problems []error
	missing := func(when bool, what string) {
		if when {
			problems = append(problems, errors.New(what))
		}
	}
	missing(len(o.share) == 0 && o.shares == "", "-share NAME=DIR or -shares samba has to say what can be copied")
	missing(len(o.share) > 0 && o.shares != "", "-share and -shares exclude each other")
	missing(o.shares != "" && o.shares != "samba", fmt.Sprintf("-shares is %q; samba is all that it can be", o.shares))
	missing(o.state == "", "-state is missing: the directory of the agent's table")
	missing(o.expose == "", "-expose is missing: directory:DIR or samba")
	missing(o.profile != "windows" && o.profile != "strict", fmt.Sprintf("-profile is %q; it has to be windows or strict", o.profile))
	return errors.Join(problems...)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	if len(args) > 0 && commands[args[0]] != nil {
		return runCommand(ctx, args[0], args[1:], stdout, stderr)
	}
	o, err := parse(args, stdout)
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))

	warnOfReaders(log, "-keytab", o.keytab)
	warnOfReaders(log, "-ntlm-users", o.ntlmUsers)
	acceptors, closeAcceptors, hosts, err := o.acceptors(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAcceptors()) }()
	a, err := o.newAgent(ctx, hosts, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	if admin, err := listenAdmin(o.state, a, log); err == nil {
		defer admin.close()
	} else {
		log.Warn("no administration while the agent runs", "err", err)
	}

	srv := &dcerpc.Server{Acceptors: acceptors, Logger: log}
	fsrvp.Register(srv, a, &fsrvp.HandlerConfig{AllowSMBSessionAlone: !o.requireRPC, Logger: log})
	return o.serve(ctx, srv, stdout, log)
}

// newAgent starts an agent on the backends that the flags name.
func (o *options) newAgent(ctx context.Context, aliases []string, log *slog.Logger) (*agent.Agent, error) {
	if err := o.checkStandalone(ctx); err != nil {
		return nil, err
	}
	shares, err := o.shareBackend(ctx, log)
	if err != nil {
		return nil, err
	}
	snapshots, err := o.snapshotBackend(ctx, log)
	if err != nil {
		return nil, err
	}
	cfg := &agent.Config{
		Snapshots: snapshots,
		Shares:    shares,
		StorePath: filepath.Join(o.state, storeName),
		Aliases:   append(aliases, o.names...),
		Allow:     o.allow,

		CaseSensitiveRealms: o.exact,

		Logger: log,

		KeepExposed: o.keep,
		AcceptState: o.accept,
	}
	if o.profile == "strict" {
		cfg.Profile = agent.Strict
	}
	if d := o.timeout; d > 0 {
		cfg.Timers = agent.Timers{
			SetContext: d, Start: d, Add: d, Prepare: d, Commit: d, Expose: d, GetShareMapping: d, Failure: d,
		}
	}
	if err := os.MkdirAll(o.state, 0o700); err != nil {
		return nil, fmt.Errorf("-state: %w", err)
	}
	a, err := agent.New(ctx, cfg)
	if errors.Is(err, agent.ErrStateLost) {
		return nil, fmt.Errorf("%w; with -accept-state the agent starts, and leaves alone what its state does not know", err)
	}
	return a, err
}
