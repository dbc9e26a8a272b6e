// Command fsrvp-decode prints the FSRVP calls in packet captures.
//
//	go run ./examples/fsrvp-decode [-keytab FILE] [-ccache FILE] [-ntlm-users FILE] [-password-file FILE]
//		[-nt-hash-file FILE] [-json] CAPTURE...
//
// A capture is a pcap or pcapng file, compressed by gzip, zstd or lz4 or not, or "-" for standard input. Each call is
// one line; with -json it is one JSON object, whose names capture.Call documents. A summary of each
// file follows on standard error: how many calls, and what could not be decoded and why.
//
// Calls are printed as soon as they are answered, also of a capture that is still being written. Ctrl-C ends it
// with the summary:
//
//	tcpdump -U -w - port 445 or port 135 | fsrvp-decode -
//
// With the keytab of the file server (its host/ and cifs/ principals, or those of its machine account), or the credential
// cache of the client, calls that Kerberos has sealed are decoded, and SMB 3 sessions that are encrypted; with the password
// of the client's account, or its NT hash, those of NTLM. With a key the signatures of SMB and RPC are checked as well: a
// call that was changed on its way is marked TAMPERED.
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

	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture"
)

func main() {
	program.Main("fsrvp-decode", func(ctx context.Context, args []string) error {
		return run(ctx, args, os.Stdin, os.Stdout, os.Stderr)
	})
}

// run is main with its surroundings as arguments.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("fsrvp-decode", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintln(stdout, "usage: fsrvp-decode [-keytab FILE | -ccache FILE | -ntlm-users FILE | -password-file FILE | -nt-hash-file FILE] "+
			"[-json] CAPTURE...")
		flags.PrintDefaults()
	}
	var keys keyFlags
	keys.register(flags)
	asJSON := flags.Bool("json", false, "print one JSON object for each call")
	if err := program.Parse(flags, args, stdout); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return program.Usage(errors.New("no capture was named; name a pcap or pcapng file, or - for standard input"))
	}
	cfg, err := keys.config()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(stdout)
	defer out.Flush()
	print := printLine
	if *asJSON {
		print = printJSON
	}
	for _, name := range flags.Args() {
		if err := decode(ctx, name, cfg, stdin, out, stderr, print); err != nil {
			return err
		}
	}
	return nil
}

// decode prints the calls of one file, each when it has ended, and their summary, also when ctx ends.
func decode(ctx context.Context, name string, cfg *capture.Config, stdin io.Reader, out *bufio.Writer, stderr io.Writer,
	print func(io.Writer, *capture.Call) error) error {
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return openError(name, err)
		}
		defer f.Close()
		in = f
	}
	var sum capture.Summary
	cfg.Summary = &sum
	var last error
	for call, err := range capture.Calls(untilDone(ctx, in), cfg) {
		if err != nil {
			last = err
			break
		}
		if err := errors.Join(print(out, call), out.Flush()); err != nil {
			return fmt.Errorf("the output cannot be written: %w", err)
		}
	}
	if !errors.Is(last, capture.ErrNotCapture) {
		printSummary(stderr, name, &sum)
	}
	return readError(name, last)
}

func openError(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no file %s; check the name", name)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the file %s may not be read; captures often belong to root: copy it, or change its owner", name)
	}
	return fmt.Errorf("the file %s cannot be opened: %w", name, err)
}

func readError(name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, capture.ErrNotCapture):
		return fmt.Errorf("%s is no packet capture: %w; record with tcpdump -w or Wireshark, or convert it with editcap", name, err)
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
