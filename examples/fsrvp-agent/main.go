// Command fsrvp-agent is a File Share Shadow Copy Agent that a NAS could run: it takes, exposes and
// deletes shadow copies of this machine's shares for clients of MS-FSRVP, over TCP or behind
// Samba's smbd.
//
// Shares of directories, exposed as directories, over TCP:
//
//	fsrvp-agent -listen tcp:127.0.0.1:5555 -share data=/srv/data -expose directory:/srv/exposed -state /var/lib/fsrvp -keytab fs1.keytab
//
// Samba's shares, exposed as shares of Samba, over the pipe of the standard:
//
//	fsrvp-agent -listen samba:/run/samba/ncalrpc -shares samba -expose samba -state /var/lib/fsrvp -keytab /etc/krb5.keytab
//
// As a service, with its settings in a file, under systemd or another supervisor:
//
//	fsrvp-agent -config /etc/fsrvp/agent.conf
//
// An administrator lists and deletes shadow copies with its commands, such as "fsrvp-agent list"; -h has them.
//
// It prints "listening ..." for each listener once that accepts, logs on standard error, reads its
// configuration again on SIGHUP, and ends on SIGTERM or SIGINT when the calls under way have ended.
// README.md is the operator's manual.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

func main() {
	program.Main("fsrvp-agent", func(ctx context.Context, args []string) error {
		p := &process{stdout: os.Stdout, stderr: os.Stderr, hangups: func() (<-chan os.Signal, func()) {
			c := make(chan os.Signal, 1)
			signal.Notify(c, syscall.SIGHUP)
			return c, func() { signal.Stop(c) }
		}}
		return p.run(ctx, args)
	})
}

// exitState is the exit status where the state is lost or damaged, which starting again does not
// mend.
const exitState = 3

// storeName is the file of the agent's table, in the directory of its state.
const storeName = "agent.db"

// newFlags declares the flags of an agent.
func newFlags() (*options, *flag.FlagSet) {
	o := defaults()
	flags := flag.NewFlagSet("fsrvp-agent", flag.ContinueOnError)
	o.register(flags)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: fsrvp-agent [-config FILE] [-check] [FLAG ...]")
		flags.PrintDefaults()
		fmt.Fprint(flags.Output(), commandsHelp)
	}
	return o, flags
}

// parse reads the flags, and the configuration file that they name.
func parse(args []string, stdout io.Writer) (*options, error) {
	o, flags := newFlags()
	if err := program.Parse(flags, args, stdout); err != nil {
		return nil, err
	}
	if o.config != "" {
		if err := readConfig(o.config, flags, o); err != nil {
			return nil, program.Usage(err)
		}
	}
	return o, program.Usage(o.check(flags.Args()))
}

// run is the program with nothing of a process but its output.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	return (&process{stdout: stdout, stderr: stderr}).run(ctx, args)
}

// A process is what the program has of the one that it runs in.
type process struct {
	stdout, stderr io.Writer
	// hangups has SIGHUP sent to a channel until the function that it returns is called. Nil: there
	// is no such signal.
	hangups func() (<-chan os.Signal, func())
}

func (p *process) run(ctx context.Context, args []string) error {
	if len(args) > 0 && commands[args[0]] != nil {
		return runCommand(ctx, args[0], args[1:], p.stdout, p.stderr)
	}
	if len(args) == 2 && args[0] == "-generate" { // for makers of packages
		return generate(args[1], p.stdout)
	}
	var hangups <-chan os.Signal
	if p.hangups != nil { // before anything else: without a handler the signal ends a process
		c, stop := p.hangups()
		defer stop()
		hangups = c
	}
	o, err := parse(args, p.stdout)
	if err == nil && o.checkOnly {
		return o.report(ctx, p.stdout)
	}
	if err != nil {
		return err
	}
	return p.serve(ctx, args, o, hangups)
}

// report is what -check does for settings without mistakes of their own.
func (o *options) report(ctx context.Context, stdout io.Writer) error {
	if err := o.checkMachine(ctx); err != nil {
		return program.Usage(err)
	}
	where := "the flags"
	if o.config != "" {
		where = o.config
	}
	_, err := fmt.Fprintf(stdout, "%s: no mistakes found\n", where)
	return err
}

// serve is an agent, from its start to its end.
func (p *process) serve(ctx context.Context, args []string, o *options, hangups <-chan os.Signal) (err error) {
	level := new(slog.LevelVar)
	level.Set(o.level())
	log := slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: level}))
	warnOfReaders(log, "-keytab", o.keytab)
	warnOfReaders(log, "-ntlm-users", o.ntlmUsers)

	m := newMonitor(o)
	if o.metrics != "" {
		stop, err := m.listen(o, p.stdout, log)
		if err != nil {
			return err
		}
		defer stop()
	}
	access, err := o.acceptors(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, access.close()) }()
	a, closeShares, err := o.newAgent(ctx, access.hosts, m, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeShares()) }()
	defer func() { err = errors.Join(err, a.Close()) }()
	m.watch(a)
	defer m.watch(nil)
	if admin, err := listenAdmin(o.state, a, log); err == nil {
		defer admin.close()
	} else {
		log.Warn("no administration while the agent runs", "err", err)
	}

	srv := &dcerpc.Server{Acceptors: access.list, Logger: log, Refused: m.refused}
	fsrvp.Register(srv, a, &fsrvp.HandlerConfig{AllowSMBSessionAlone: !o.requireRPC, Refused: m.unprotected,
		Logger: log})

	sup := newSupervisor(m, log)
	r := &reloader{args: args, current: o, agent: a, access: access, level: level, monitor: m, supervisor: sup,
		log: log}
	r.drainFor.Store(int64(o.drain))
	ctx, end := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer end(nil)
	running.Go(func() { r.run(ctx, hangups) })
	return o.serve(ctx, srv, p.stdout, log, func() {
		sup.ready()
		running.Go(func() { sup.run(ctx) })
	}, sup.stopping, r.drain)
}

// newAgent starts an agent on the backends that the flags name; the monitor, if there is one,
// watches it. CloseShares is for after its Close.
func (o *options) newAgent(
	ctx context.Context, aliases []string, m *monitor, log *slog.Logger,
) (a *agent.Agent, closeShares func() error, err error) {
	if err := o.checkStandalone(ctx); err != nil {
		return nil, nil, err
	}
	shares, closeBackend, err := o.shareBackend(ctx, log)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if a == nil {
			err = errors.Join(err, closeBackend())
		}
	}()
	snapshots, err := o.snapshotBackend(ctx, log)
	if err != nil {
		return nil, nil, err
	}
	cfg := &agent.Config{
		Snapshots: snapshots,
		Shares:    shares,
		StorePath: filepath.Join(o.state, storeName),
		Aliases:   append(aliases, o.names...),
		Machine:   o.machine,
		Allow:     o.allow,

		CaseSensitiveRealms: o.exact,

		Logger: log,

		PlainHiddenNames: o.plainHidden,

		KeepExposed: o.keep,
		AcceptState: o.accept,

		Owner: ownersOf(o.owners),
	}
	if m != nil {
		cfg.Observe = m.observe
		if h, ok := shares.(sambaHelper); ok {
			m.watchHelper(h)
		}
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
		return nil, nil, fmt.Errorf("-state: %w", err)
	}
	if o.cluster != "" {
		// It stays open until the process ends, so that other nodes see that end.
		table, err := openCluster(ctx, o.cluster)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", o.from.at("cluster", 0), err)
		}
		cfg.State, cfg.StorePath = table, ""
	}
	a, err = agent.New(ctx, cfg)
	if cfg.State != nil && err != nil {
		err = errors.Join(err, cfg.State.Close())
	}
	if errors.Is(err, agent.ErrStateCopied) {
		err = fmt.Errorf("%w, by fsrvp-agent state accept or the flag -accept-state", err)
		return nil, nil, &program.Exit{Status: exitState, Err: err}
	}
	if errors.Is(err, agent.ErrStateLost) {
		err = fmt.Errorf("%w; or accept it as it is, by fsrvp-agent state accept or the flag -accept-state: what it does not know is left alone", err)
		return nil, nil, &program.Exit{Status: exitState, Err: err}
	}
	if damage := (*state.DamageError)(nil); errors.As(err, &damage) {
		return nil, nil, &program.Exit{Status: exitState, Err: err}
	}
	return a, closeBackend, err
}
