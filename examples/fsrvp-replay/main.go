// Command fsrvp-replay plays recorded FSRVP calls again: against a server, as the recorded clients
// did, or against clients, as the recorded server did. A recording is a transcript of fsrvp/replay,
// or a packet capture (pcap, pcapng), from which it reads the calls that it can.
//
// Against a server; each result that differs is one line on standard output:
//
//	fsrvp-replay -in calls.pcapng -map '\\fs1.example.com=\\lab' -server lab -user backup@EXAMPLE.COM -keytab backup.keytab
//
// -tolerate names differences that do not matter, for example other statuses of another server:
//
//	-tolerate '*.OwnerMachineName' -tolerate 'IsPathShadowCopied.Return=FSRVP_E_NOT_SUPPORTED:ZERO'
//
// To clients, over TCP or the pipe of this machine's Samba; each call that the recording does not
// answer is one line:
//
//	fsrvp-replay -in calls.jsonl -map '\\fs1.example.com=\\127.0.0.1' -serve tcp:127.0.0.1:5555 -keytab lab.keytab
//
// Without -server and -serve it writes the recording as a transcript:
//
//	fsrvp-replay -in calls.pcapng -in-keytab fs1.keytab -out calls.jsonl
//
// It exits with 1 if there were differences, or calls without an answer in the recording, and with
// 2 if it could not go on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/examples/internal/credentials"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/repeated"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/replay"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

const usage = `usage: fsrvp-replay -in FILE [-in-keytab F] [-in-server ADDR] -server HOST [-map OLD=NEW ...] [-speed X]
              [-timeout-scale X] [-tolerate RULE ...] [-keep] [-json] [-out FILE]
              ` + credentials.Usage + `
       fsrvp-replay -in FILE [-in-keytab F] [-in-server ADDR] -serve tcp:HOST:PORT|samba:DIR [-map OLD=NEW ...]
              [-speed X] [-departure STATUS] [-json] [-out FILE] (-keytab F | -ntlm-users F | -insecure-anonymous)
       fsrvp-replay -in FILE [-in-keytab F] [-in-server ADDR] -out FILE

`

func main() {
	program.Main("fsrvp-replay", func(ctx context.Context, args []string) error {
		differs, err := run(ctx, args, os.Stdin, os.Stdout, os.Stderr)
		return program.Verdict(differs, credentials.Explain(err))
	})
}

type options struct {
	in, inKeytab, inServer string
	server, serve, out     string
	names                  repeated.Strings
	shares                 *replay.ShareMap
	tolerate               repeated.Strings
	rules                  []replay.Rule
	speed, timeoutScale    float64
	keep, json             bool
	departure              string
	status                 fsrvp.Status
	ntlmUsers              string
	anonymous              bool
	cred                   *credentials.Flags
}

func parse(args []string, stdout io.Writer) (*options, error) {
	var o options
	flags := flag.NewFlagSet("fsrvp-replay", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage); flags.PrintDefaults() }
	flags.StringVar(&o.in, "in", "", "the recording: a transcript, or a packet `file`; - is standard input")
	flags.StringVar(&o.inKeytab, "in-keytab", "",
		"keytab `file` of the recorded file server, for captures of what Kerberos has encrypted")
	flags.StringVar(&o.inServer, "in-server", "",
		"replay the calls of this recorded server alone, an `address` without its port")
	flags.StringVar(&o.server, "server", "", "replay against this `host`")
	flags.StringVar(&o.serve, "serve", "",
		"answer clients at `tcp:HOST:PORT`, or samba:NCALRPC_DIR, Samba's \"ncalrpc dir\"")
	flags.StringVar(&o.out, "out", "", "write a transcript to this `file`: of the replay, or, alone, of the recording")
	flags.Var(&o.names, "map",
		`what a recorded share or host is called now, '\\old\share=\\new\share' or '\\old=\\new'; may be given several times`)
	flags.Float64Var(&o.speed, "speed", 0, "keep the recorded pace, times this; 0 is as fast as possible")
	flags.Float64Var(&o.timeoutScale, "timeout-scale", 1, "multiply the time-outs of calls by this")
	flags.Var(&o.tolerate, "tolerate",
		"a difference that does not matter, METHOD.FIELD or METHOD.FIELD=RECORDED:NOW, each of which may be *, such as\n"+
			"IsPathShadowCopied.Return=FSRVP_E_NOT_SUPPORTED:ZERO; may be given several times")
	flags.BoolVar(&o.keep, "keep", false, "leave on the server what the recording left there")
	flags.BoolVar(&o.json, "json", false, "print one JSON object a line, the last with the numbers")
	flags.StringVar(&o.departure, "departure", "0x80042301",
		"`status` to answer to calls that the recording does not answer")
	flags.StringVar(&o.ntlmUsers, "ntlm-users", "",
		"with -serve: `file` of lines DOMAIN\\user, tab, NT hash in hex, of those who may call")
	flags.BoolVar(&o.anonymous, "insecure-anonymous", false, "with -serve: answer calls without any security too")
	o.cred = credentials.Register(flags)
	if err := program.Parse(flags, args, stdout); err != nil {
		return nil, err
	}
	return &o, o.check(flags.Args())
}

func (o *options) check(rest []string) (err error) {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("%q is not a flag; -h lists them", rest[0])
	case o.in == "":
		return errors.New("-in is missing: a transcript or a packet capture")
	case o.server != "" && o.serve != "":
		return errors.New("-server and -serve exclude each other")
	case o.server == "" && o.serve == "" && o.out == "":
		return errors.New("say what to do with the recording: -server HOST, -serve ADDR or -out FILE")
	case !(o.speed >= 0) || math.IsInf(o.speed, 0):
		return fmt.Errorf("-speed is %v; it must be 0, or 1 for the recorded pace", o.speed)
	case !(o.timeoutScale > 0) || math.IsInf(o.timeoutScale, 0):
		return fmt.Errorf("-timeout-scale is %v; it must be more than 0", o.timeoutScale)
	case o.serve != "" && o.cred.Keytab == "" && o.ntlmUsers == "" && !o.anonymous:
		return errors.New("-serve needs -keytab, -ntlm-users or -insecure-anonymous: who may call?")
	}
	status, err := strconv.ParseUint(o.departure, 0, 32)
	if err != nil || status == 0 {
		return fmt.Errorf("-departure is %q; it must be a number other than zero, such as 0x%08X", o.departure,
			uint32(fsrvp.ErrBadState))
	}
	o.status = fsrvp.Status(status)
	for _, s := range o.tolerate {
		r, err := replay.ParseRule(s)
		if err != nil {
			return fmt.Errorf("-tolerate: %w", err)
		}
		o.rules = append(o.rules, r)
	}
	names := map[string]string{}
	for _, n := range o.names {
		from, to, ok := strings.Cut(n, "=")
		if !ok {
			return fmt.Errorf(`-map is %q; it must be '\\old\share=\\new\share' or '\\old=\\new', in quotes`, n)
		}
		if _, ok := names[from]; ok {
			return fmt.Errorf("-map names %s twice", from)
		}
		names[from] = to
	}
	if o.shares, err = replay.NewShareMap(names); err != nil {
		return fmt.Errorf("-map: %w", err)
	}
	return nil
}

// run is main with its surroundings as arguments. It reports whether anything differed from the
// recording.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (differs bool, err error) {
	o, err := parse(args, stdout)
	if err != nil {
		return false, err
	}
	recording, err := o.read(stdin, stderr)
	if err != nil {
		return false, err
	}
	var out io.Writer = io.Discard
	if o.out != "" {
		f, err := os.Create(o.out)
		if err != nil {
			return false, fmt.Errorf("-out: %w", err)
		}
		defer func() {
			if e := f.Close(); e != nil && err == nil {
				err = fmt.Errorf("-out: %w", e)
			}
		}()
		out = f
	}
	p := printer{stdout: stdout, stderr: stderr, json: o.json}
	switch {
	case o.server != "":
		return o.call(ctx, recording, out, &p)
	case o.serve != "":
		return o.answer(ctx, recording, out, &p)
	}
	w := transcript.NewWriter(out)
	for _, e := range recording {
		if err := w.Write(e); err != nil {
			return false, fmt.Errorf("-out: %w", err)
		}
	}
	fmt.Fprintf(stderr, "wrote %d calls to %s\n", len(recording), o.out)
	return false, nil
}
