// Command fsrvp-decode prints the FSRVP calls in packet captures, and explains what became of the
// shadow copy sets in them.
//
//	fsrvp-decode [FLAGS] CAPTURE...
//
// A capture is a pcap or pcapng file, perhaps compressed by gzip, zstd or lz4, or "-" for standard
// input. Each call is one line, or with -json one JSON object, whose names capture.Call documents.
// With -transcript FILE the calls are written as a transcript, which fsrvp-replay can play and an
// editor can change. A summary of each file follows on standard error: the number of calls, and
// what could not be decoded and why.
//
// Calls are printed as soon as they are answered, even from a capture that is still being written.
// Ctrl-C ends the program with the summary:
//
//	tcpdump -U -w - port 445 or port 135 | fsrvp-decode -
//
// # Which calls
//
// -client, -server, -user, -share, -set, -method, -status, -failed, -since and -until choose calls;
// a call must match all of those that are given.
//
// # Why did this backup fail?
//
// -sets prints a line for each shadow copy set, and for each attempt that did not lead to one,
// instead of the calls: client, server, shares, methods with the time that each took, how it ended
// and why. -explain SET prints the timeline of one set, with what the standard says about each
// failure; SET is an id, its first digits, or #N as -sets numbers it. -html FILE writes all of them
// to one page for a browser. The filters choose sets by their calls. All three read transcripts as
// well. The server's Message Sequence Timer is assumed to be the standard's; -timers sets other
// values.
//
// # Keys
//
// With the keytab of the file server (its host/ and cifs/ principals, or those of its machine
// account), or the credential cache of the client, the program decodes calls that Kerberos has
// sealed, and encrypted SMB 3 sessions; with the password of the client's account, or its NT hash,
// it decodes those of NTLM. With a key it also checks the signatures of SMB and RPC: a call that
// was changed on its way is marked TAMPERED.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/story"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

func main() {
	program.Main("fsrvp-decode", func(ctx context.Context, args []string) error {
		return run(ctx, args, os.Stdin, os.Stdout, os.Stderr)
	})
}

// options are the values of the flags, and the data that they apply to.
type options struct {
	files                     []string
	keys                      keyFlags
	filter                    filter
	json, sets                bool
	explain, html, transcript string
	story                     story.Config

	cfg   *capture.Config
	calls []*transcript.Exchange // of all files, if stories are told
	print func(io.Writer, *capture.Call) error
}

// tells reports whether the flags ask for stories instead of calls.
func (o *options) tells() bool { return o.sets || o.explain != "" || o.html != "" }

func parse(args []string, stdout io.Writer) (*options, error) {
	o := new(options)
	flags := flag.NewFlagSet("fsrvp-decode", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: fsrvp-decode [FLAGS] CAPTURE...")
		flags.PrintDefaults()
	}
	o.keys.register(flags)
	o.filter.register(flags)
	flags.BoolVar(&o.json, "json", false, "print one JSON object for each call")
	flags.BoolVar(&o.sets, "sets", false, "print one line for each shadow copy set instead of the calls")
	flags.StringVar(&o.explain, "explain", "",
		"print the story of this `set`: an id, its first digits, or #N as -sets numbers it")
	flags.StringVar(&o.html, "html", "", "write the stories of the sets to this `file`, a page for a browser")
	flags.StringVar(&o.transcript, "transcript", "",
		"write the calls to this `file` as a transcript, - for standard output, instead of printing them")
	timers := flags.String("timers", "180s,1800s",
		"the server's Message Sequence Timer: `short,long`, after Start, Commit and Expose, and after Add, Prepare and GetShareMapping")
	if err := program.Parse(flags, args, stdout); err != nil {
		return nil, err
	}
	o.files = flags.Args()
	if len(o.files) == 0 {
		return nil, program.Usage(errors.New("no capture was named; name a pcap or pcapng file, or - for standard input"))
	}
	if o.tells() && (o.json || o.transcript != "") || o.json && o.transcript != "" {
		return nil, program.Usage(errors.New("-json, -transcript, and -sets with -explain and -html go one without the others"))
	}
	if err := o.filter.check(); err != nil {
		return nil, program.Usage(err)
	}
	if err := o.setTimers(*timers); err != nil {
		return nil, program.Usage(err)
	}
	var err error
	o.cfg, err = o.keys.config()
	return o, err
}

func (o *options) setTimers(s string) error {
	short, long, ok := strings.Cut(s, ",")
	var errs [2]error
	o.story.ShortTimeout, errs[0] = time.ParseDuration(short)
	o.story.LongTimeout, errs[1] = time.ParseDuration(long)
	if !ok || errors.Join(errs[:]...) != nil || o.story.ShortTimeout <= 0 || o.story.LongTimeout <= 0 {
		return fmt.Errorf("-timers is %q; it must be two durations, such as 180s,1800s", s)
	}
	return nil
}

// run is main with its surroundings as arguments.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stdout)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(stdout)
	defer out.Flush()
	switch {
	case o.tells():
		o.print = o.collect
	case o.transcript != "":
		to := io.Writer(out)
		if o.transcript != "-" {
			f, err := os.Create(o.transcript)
			if err != nil {
				return fmt.Errorf("-transcript: %w", err)
			}
			defer func() {
				if e := f.Close(); e != nil && err == nil {
					err = fmt.Errorf("-transcript: %w", e)
				}
			}()
			to = f
		}
		o.print = printTranscript(to, stderr)
	case o.json:
		o.print = printJSON
	default:
		o.print = printLine
	}
	for _, name := range o.files {
		if err := o.decode(ctx, name, stdin, out, stderr); err != nil {
			return err
		}
	}
	if !o.tells() {
		return nil
	}
	return errors.Join(o.tell(out, stderr), out.Flush())
}

// collect keeps a call for the stories.
func (o *options) collect(_ io.Writer, c *capture.Call) error {
	if e := c.Exchange(); e != nil {
		o.calls = append(o.calls, e)
	}
	return nil
}

// decode prints the calls of one file, each when it has ended, and their summary, even if ctx ends.
func (o *options) decode(ctx context.Context, name string, stdin io.Reader, out *bufio.Writer, stderr io.Writer) error {
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return openError(name, err)
		}
		defer f.Close()
		in = f
	}
	buffered := bufio.NewReaderSize(untilDone(ctx, in), bufferSize)
	if first, err := buffered.Peek(1); err == nil && first[0] == '{' {
		return o.readTranscript(name, buffered)
	}
	var sum capture.Summary
	o.cfg.Summary = &sum
	var last error
	for call, err := range capture.Calls(buffered, o.cfg) {
		if err != nil {
			last = err
			break
		}
		// Stories need all calls: the filters then choose among the stories.
		if !o.tells() && !o.matches(call) {
			continue
		}
		if err := errors.Join(o.print(out, call), out.Flush()); err != nil {
			return fmt.Errorf("the output cannot be written: %w", err)
		}
	}
	if ctx.Err() != nil && (errors.Is(last, io.ErrUnexpectedEOF) || errors.Is(last, capture.ErrNotCapture)) {
		last = nil // Ctrl-C came in the middle of a packet, or before the first
	}
	if !errors.Is(last, capture.ErrNotCapture) {
		printSummary(stderr, name, &sum)
	}
	return readError(name, last)
}

// matches reports whether a call is chosen, even one whose request cannot be read.
func (o *options) matches(c *capture.Call) bool {
	e := c.Exchange()
	if e == nil {
		e = &transcript.Exchange{Time: c.Time, ResponseTime: c.ResponseTime, Response: c.Response, Fault: c.Fault,
			Connection: transcript.Connection{Client: c.Client.String(), Server: c.Server.String(), User: c.User()}}
	}
	return o.filter.matches(e, c.Opnum)
}

func openError(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no file %s; check the name", name)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the file %s may not be read; captures often belong to root: copy it, or change its owner",
			name)
	}
	return fmt.Errorf("the file %s cannot be opened: %w", name, err)
}

func readError(name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, capture.ErrNotCapture):
		return fmt.Errorf("%s is not a packet capture: %w; record with tcpdump -w or Wireshark, or convert it with editcap", name, err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s ends in the middle of a packet: %w; what came before is above", name, err)
	}
	return fmt.Errorf("%s could be read to a point only: %w; what came before is above", name, err)
}

func printJSON(w io.Writer, c *capture.Call) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// printTranscript returns a function that writes calls as lines of a transcript, and leaves out
// calls whose requests cannot be read.
func printTranscript(to, stderr io.Writer) func(io.Writer, *capture.Call) error {
	w := transcript.NewWriter(to)
	return func(_ io.Writer, c *capture.Call) error {
		e := c.Exchange()
		if e == nil {
			fmt.Fprintf(stderr, "left out: %v of %v, %s\n", c.Opnum, c.Time.UTC().Format(time.DateTime),
				reason(c.RequestErr))
			return nil
		}
		return w.Write(e)
	}
}
