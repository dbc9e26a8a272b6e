package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/epm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/rpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/credentials"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// rpcUsage is the usage of the program with -rpc as its first argument.
const rpcUsage = `usage: fsrvp-conformance -rpc -server HOST [-pipe NAME | -transport tcp:PORT]
                   ` + credentials.Usage + `
                   [-profile windows2022|standard] [-interface mgmt|fsrvp|UUID/MAJOR.MINOR] [-other ...]
                   [-run RE] [-known FILE] [-json] [-junit FILE] [-compare OLD.json] [-v]
       fsrvp-conformance -rpc -list

It tests the server's DCE/RPC by conversations in single PDUs, and changes nothing on the server.
Without an account, which -transport tcp:PORT allows, only what needs no security is tested.

`

// rpcOptions are the flags of -rpc.
type rpcOptions struct {
	server, pipe, profile    string
	iface, other, run, known string
	scripts, junit, compare  string
	call, echo, opnums       int
	parallel                 int
	timeout                  time.Duration
	hint                     uint
	list, json, verbose      bool
	cred                     *credentials.Flags
}

func parseRPC(args []string, stdout io.Writer) (*rpcOptions, error) {
	var o rpcOptions
	flags := flag.NewFlagSet("fsrvp-conformance -rpc", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(stdout, rpcUsage); flags.PrintDefaults() }
	flags.StringVar(&o.server, "server", "", "the `host` to test")
	flags.StringVar(&o.pipe, "pipe", fsrvp.Endpoint, "the `name` of the pipe, with -transport smb")
	flags.StringVar(&o.profile, "profile", string(rpctest.Windows2022),
		"expect what Windows Server 2022 does, or what the standards demand: windows2022, standard")
	flags.StringVar(&o.iface, "interface", "mgmt",
		"the `interface` that is called: mgmt, which every server has, fsrvp, or UUID/MAJOR.MINOR with -call")
	flags.StringVar(&o.other, "other", "fsrvp",
		"another `interface` of the endpoint: mgmt, fsrvp, epm, UUID/MAJOR.MINOR, or none")
	flags.IntVar(&o.call, "call", -1, "an `opnum` of -interface UUID that takes any stub and answers")
	flags.IntVar(&o.echo, "echo", -1, "an `opnum` of -interface UUID that answers with the stub that it got")
	flags.IntVar(&o.opnums, "opnums", 0, "how many operations -interface UUID has; 0: unknown")
	flags.UintVar(&o.hint, "fault-alloc-hint", 32, "the alloc_hint of the server's faults: Windows has 32, Samba 24")
	flags.StringVar(&o.known, "known", "", "`file` of known failures: lines of a script's name, tab, "+
		"a part of the reason that is printed, or nothing")
	flags.StringVar(&o.scripts, "scripts", "",
		"run the scripts of this `file`, a txtar archive, in place of those of the program")
	flags.StringVar(&o.run, "run", "", "run the scripts whose name matches this `regexp` alone")
	flags.StringVar(&o.junit, "junit", "", "write the verdicts to this `file` too, in JUnit's XML")
	flags.StringVar(&o.compare, "compare", "",
		"compare the verdicts with this `file`, an earlier output of -json; only what is worse fails")
	flags.IntVar(&o.parallel, "parallel", 1, "run so many scripts at once")
	flags.DurationVar(&o.timeout, "timeout", 10*time.Second, "how long each answer is waited for")
	flags.BoolVar(&o.list, "list", false, "list the scripts and their rules, and end")
	flags.BoolVar(&o.json, "json", false, "print one JSON object a line in place of the table")
	flags.BoolVar(&o.verbose, "v", false, "print the rule of each script, and the PDUs of those that fail")
	o.cred = credentials.Register(flags)
	if err := program.Parse(flags, args, stdout); err != nil {
		return nil, err
	}
	switch {
	case flags.NArg() > 0:
		return nil, fmt.Errorf("%q is not a flag; -rpc -h lists them", flags.Arg(0))
	case !o.list && o.server == "":
		return nil, errors.New("-server is missing")
	case o.profile != string(rpctest.Windows2022) && o.profile != string(rpctest.Standard):
		return nil, fmt.Errorf("-profile is %q; it must be windows2022 or standard", o.profile)
	case o.parallel < 1:
		return nil, fmt.Errorf("-parallel is %d; it must be at least 1", o.parallel)
	}
	return &o, nil
}

// runRPC runs the conversations of package rpctest and reports whether one has failed.
func runRPC(ctx context.Context, args []string, stdout, stderr io.Writer) (failed bool, err error) {
	o, err := parseRPC(args, stdout)
	if err != nil {
		return false, err
	}
	scripts, err := o.chosen()
	if err != nil {
		return false, err
	}
	if o.list {
		p := newPrinter(stdout, &options{json: o.json})
		for _, s := range scripts {
			p.print(rpcLine(s))
		}
		return false, p.err
	}
	known, err := o.knownFailures()
	if err != nil {
		return false, err
	}
	old, err := readOld(o.compare)
	if err != nil {
		return false, err
	}
	target, closer, err := o.target()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, closer()) }()
	conn, err := target.Dial(ctx)
	if err != nil {
		return false, fmt.Errorf("cannot connect to %s: %w", o.server, err)
	}
	_ = conn.Close() // it was only a check
	begun := time.Now()
	p := newPrinter(stdout, &options{json: o.json, brief: !o.verbose})
	var lines []line
	for s, res := range rpctest.RunAll(ctx, scripts, target, o.parallel) {
		verdict, reason := known.Judge(s, res)
		l := rpcLine(s)
		l.Verdict, l.Reason, l.Seconds = verdict.String(), reason, res.Took.Seconds()
		if verdict == rpctest.Failed {
			l.Did = strings.Join(res.Transcript, "\n"+indent)
		}
		p.print(l)
		lines = append(lines, l)
		if ctx.Err() != nil {
			return true, errors.New("interrupted")
		}
	}
	summary(stderr, lines)
	if o.junit != "" {
		var b bytes.Buffer
		if err := errors.Join(p.err, writeJUnit(&b, o.server, begun, lines)); err != nil {
			return true, err
		}
		if err := os.WriteFile(o.junit, b.Bytes(), 0o666); err != nil {
			return true, fmt.Errorf("-junit: %w", err)
		}
	}
	if old != nil {
		return compare(p.diff(stdout, stderr), old, lines), p.err
	}
	return bad(lines), p.err
}

// rpcSuite is the suite of all scripts.
const rpcSuite fsrvptest.Suite = "rpc"

// rpcLine returns a script as a line of the table, with its file as the section.
func rpcLine(s *rpctest.Script) line {
	section, _, _ := strings.Cut(s.Name, "/")
	return line{Suite: rpcSuite, Section: section, Case: s.Name, Demand: s.Rule}
}

// chosen returns the scripts that -scripts and -run name.
func (o *rpcOptions) chosen() ([]*rpctest.Script, error) {
	match, err := regexp.Compile(o.run)
	if err != nil {
		return nil, fmt.Errorf("-run: %w", err)
	}
	all := rpctest.Scripts()
	if o.scripts != "" {
		b, err := os.ReadFile(o.scripts)
		if err != nil {
			return nil, fmt.Errorf("-scripts: %w", err)
		}
		if all, err = rpctest.Parse(o.scripts, b); err != nil {
			return nil, fmt.Errorf("-scripts: %w", err)
		}
	}
	var scripts []*rpctest.Script
	for _, s := range all {
		if match.MatchString(s.Name) {
			scripts = append(scripts, s)
		}
	}
	if len(scripts) == 0 {
		return nil, fmt.Errorf("no script matches -run %q; -rpc -list names them", o.run)
	}
	return scripts, nil
}

func (o *rpcOptions) knownFailures() (rpctest.Known, error) {
	if o.known == "" {
		return nil, nil
	}
	b, err := os.ReadFile(o.known)
	if err != nil {
		return nil, fmt.Errorf("-known: %w", err)
	}
	known, err := rpctest.ParseKnown(string(b))
	if err != nil {
		return nil, fmt.Errorf("-known %s: %w; -rpc -list names the scripts", o.known, err)
	}
	return known, nil
}

// target makes the target, and a function that closes its connections.
func (o *rpcOptions) target() (*rpctest.Target, func() error, error) {
	t := &rpctest.Target{
		Profile: rpctest.Profile(o.profile), Timeout: o.timeout, FaultAllocHint: uint32(o.hint),
		Operations: rpctest.MgmtOperations(),
	}
	var err error
	if t.Main, err = rpcInterface(o.iface); err != nil {
		return nil, nil, fmt.Errorf("-interface: %w", err)
	}
	if o.other != "none" {
		if t.Other, err = rpcInterface(o.other); err != nil {
			return nil, nil, fmt.Errorf("-other: %w", err)
		}
	}
	if t.Other == t.Main {
		t.Other = dcerpc.SyntaxID{}
	}
	described := o.call >= 0 || o.echo >= 0
	switch {
	case t.Main == rpctest.Mgmt() && !described:
	case t.Main == fsrvp.Interface() && !described:
		t.Operations = rpctest.Operations{
			Call: rpctest.Op(uint16(fsrvp.OpGetSupportedVersion)), Count: fsrvpOperations,
			Fault: rpctest.Op(fsrvpOperations), FaultStatus: pdu.FaultOpRange, FaultFlags: pdu.DidNotExecute,
		}
	default:
		if t.Operations, err = o.operations(); err != nil {
			return nil, nil, err
		}
	}
	closer, err := o.connections(t)
	return t, closer, err
}

// fsrvpOperations is the number of methods of FSRVP.
const fsrvpOperations = 13

// operations returns the operations of an interface as the flags describe them.
func (o *rpcOptions) operations() (rpctest.Operations, error) {
	var ops rpctest.Operations
	if o.call < 0 && o.echo < 0 {
		return ops, errors.New("-interface UUID needs -call or -echo: an operation that takes any stub")
	}
	opnum := func(n int) rpctest.Opnum { return rpctest.Opnum{Is: n >= 0, N: uint16(n)} }
	ops.Call, ops.Echo, ops.Count = opnum(o.call), opnum(o.echo), o.opnums
	if o.call < 0 {
		ops.Call = ops.Echo
		ops.Answer = func(stub []byte) []byte { return stub }
	}
	if o.opnums > 0 {
		ops.Fault, ops.FaultStatus, ops.FaultFlags = opnum(o.opnums), pdu.FaultOpRange, pdu.DidNotExecute
	}
	return ops, nil
}

// connections sets how, and with which credentials, to reach the target.
func (o *rpcOptions) connections(t *rpctest.Target) (func() error, error) {
	tcp, isTCP := strings.CutPrefix(o.cred.Transport, "tcp:")
	if isTCP && !o.cred.Given() && os.Getenv("KRB5CCNAME") == "" {
		d := &dcerpc.TCPDialer{Port: tcp}
		t.Dial = func(ctx context.Context) (net.Conn, error) { return d.DialRPC(ctx, o.server, "") }
		return func() error { return nil }, nil
	}
	access, err := o.cred.Access()
	if err != nil {
		return nil, err
	}
	cfg := access.Client
	legs := 3
	if cfg.Auth.AuthType() == dcerpc.AuthSPNEGO {
		legs = 4
	}
	t.Mechanisms = []rpctest.Mechanism{{Initiator: cfg.Auth, Target: "host/" + o.server, Account: o.cred.User,
		Legs: legs, Asks: true}}
	t.Dial = func(ctx context.Context) (net.Conn, error) { return cfg.Transport.DialRPC(ctx, o.server, o.pipe) }
	if !isTCP {
		t.MaxFragment, t.Messages = 4280, true
	}
	if d, ok := cfg.Transport.(*smbpipe.Dialer); ok {
		d.AlwaysRead = true
	}
	return access.Close, nil
}

// rpcInterface returns the interface that a flag names.
func rpcInterface(s string) (dcerpc.SyntaxID, error) {
	switch s {
	case "mgmt":
		return rpctest.Mgmt(), nil
	case "fsrvp":
		return fsrvp.Interface(), nil
	case "epm":
		return epm.Interface(), nil
	}
	bad := fmt.Errorf("%q is none of mgmt, fsrvp, epm, UUID/MAJOR.MINOR", s)
	id, version, _ := strings.Cut(s, "/")
	major, minor, _ := strings.Cut(version, ".")
	u, err := uuid.Parse(id)
	if err != nil {
		return dcerpc.SyntaxID{}, bad
	}
	a, err := strconv.ParseUint(major, 10, 16)
	if err != nil {
		return dcerpc.SyntaxID{}, bad
	}
	b, err := strconv.ParseUint(minor, 10, 16)
	if err != nil {
		return dcerpc.SyntaxID{}, bad
	}
	return dcerpc.SyntaxID{UUID: u, Major: uint16(a), Minor: uint16(b)}, nil
}
