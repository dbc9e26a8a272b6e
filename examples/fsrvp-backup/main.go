// Command fsrvp-backup takes a consistent backup of directories or SMB shares through shadow
// copies.
//
// With -local it needs nothing but Go: an agent inside the program, spoken to over loopback with
// Kerberos, takes a copy of the directory, which may change meanwhile.
//
//	go run ./examples/fsrvp-backup -local DIR -out FILE.tar
//
// With -share it does the same against real file servers: shares of any number of servers, all
// copied at one moment.
//
//	go run ./examples/fsrvp-backup -share '\\fs1\vms' -share '\\fs2\db' -out FILE.tar -user backup@EXAMPLE.COM -keytab backup.keytab
//
// The archive is one that tar reads, and has sums of everything in it: -verify checks it, -restore
// unpacks it. README.md says more.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/go-fsrvp/go-fsrvp/examples/internal/credentials"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/repeated"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/writer"
)

const usage = `usage: fsrvp-backup -local DIR -out FILE.tar [-writer KIND:ARGUMENT ...] [-freeze PROGRAM] [-thaw PROGRAM] [-strict] [-journal FILE] [-json]
       fsrvp-backup -share '\\host\share' [-share ...] -out FILE.tar [-writer KIND:ARGUMENT ...] [-strict] [-journal FILE] [-json]
              ` + credentials.Usage + `
       fsrvp-backup -recover [-local DIR] [-journal FILE [CREDENTIALS]]
       fsrvp-backup -verify FILE.tar [-json]
       fsrvp-backup -restore FILE.tar -to DIR [-json]

The exit status is 0 when all is done; 1 when it failed; 2 for a wrong call; 3 when the archive is there, but some files are not in it, or not
as they were: they are listed at the end.

` + writersUsage + `
`

func main() {
	if len(os.Args) == 2 && os.Args[1] == guardArg {
		program.Main("fsrvp-backup: guard", func(context.Context, []string) error { return writer.GuardMain() })
	}
	// A reader of -out that goes away is an error of writing, not the end of the program: there are
	// copies to delete.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	program.Main("fsrvp-backup", func(ctx context.Context, args []string) error {
		return credentials.Explain(run(ctx, args, os.Stdout, os.Stderr, nil))
	})
}

type options struct {
	local   string
	shares  repeated.Strings
	out     string
	writers writerFlags
	journal string
	recover bool
	restore string
	to      string
	verify  string
	strict  bool
	json    bool
	cred    *credentials.Flags
}

func parse(args []string, stdout io.Writer) (*options, error) {
	var o options
	flags := flag.NewFlagSet("fsrvp-backup", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage); flags.PrintDefaults() }
	flags.StringVar(&o.local, "local", "", "back up this `directory` through an agent inside the program")
	flags.Var(&o.shares, "share",
		`back up this share, \\host\share, or a directory of it, \\host\share\dir; may be given several times`)
	flags.StringVar(&o.out, "out", "",
		"write the tar `file`, which appears when it is complete; a device or a pipe is written to; - is standard output")
	o.writers.register(flags)
	flags.StringVar(&o.journal, "journal", "",
		"remember in this `file`, and in FILE.local, what exists on the servers and here, for -recover")
	flags.BoolVar(&o.recover, "recover", false,
		"remove what a killed backup with this -journal, or of this -local, has left")
	flags.BoolVar(&o.strict, "strict", false,
		"fail when a file cannot be read, has changed or vanished, rather than to go on without it")
	flags.StringVar(&o.restore, "restore", "", "unpack this `archive` into the directory of -to; - is standard input")
	flags.StringVar(&o.to, "to", "", "unpack into this `directory`, which is empty or not there")
	flags.StringVar(&o.verify, "verify", "", "check all of this `archive`; - is standard input")
	flags.BoolVar(&o.json, "json", false, "print a summary as JSON on standard output")
	o.cred = credentials.Register(flags)
	if err := program.Parse(flags, args, stdout); err != nil {
		return nil, err
	}
	for i, s := range o.shares {
		o.shares[i] = shareOf(s)
	}
	return &o, program.Usage(o.check(flags))
}

// shareOf returns the UNC path that a -share means, where other programs take other forms for it:
// slashes, and the prefix by which Windows takes long paths.
func shareOf(s string) string {
	if strings.HasPrefix(s, "//") {
		s = strings.ReplaceAll(s, "/", `\`)
	}
	const long = `\\?\UNC\`
	if len(s) > len(long) && strings.EqualFold(s[:len(long)], long) {
		s = `\\` + s[len(long):]
	}
	return s
}

// misspelt says what to do about a -share that a shell has changed, or that is a URL; "" where it
// is none.
func misspelt(s string) string {
	switch {
	case strings.HasPrefix(strings.ToLower(s), "smb:") || strings.HasPrefix(strings.ToLower(s), "cifs:"):
		return `it is a URL; write \\host\share`
	case strings.HasPrefix(s, `\`) && !strings.HasPrefix(s, `\\`):
		return `it begins with one backslash; put it in single quotes, so that the shell keeps both: '\\host\share'`
	}
	return ""
}

func (o *options) check(flags *flag.FlagSet) error {
	backup := o.local != "" || len(o.shares) > 0
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("%q is no flag; -h lists them", flags.Arg(0))
	case o.verify != "" || o.restore != "":
		if o.verify != "" && o.restore != "" || backup || o.out != "" || o.recover {
			return errors.New("-verify and -restore stand alone; a backup, -recover and they are different calls")
		}
		if (o.to == "") != (o.restore == "") {
			return errors.New("-restore FILE.tar and -to DIR go together")
		}
	case o.to != "":
		return errors.New("-restore FILE.tar and -to DIR go together")
	case o.recover:
		if o.journal == "" && o.local == "" || len(o.shares) > 0 || o.out != "" {
			return errors.New("-recover takes -journal with credentials, or -local, and neither -share nor -out")
		}
	case o.out == "":
		return errors.New("-out is missing: where should the backup go?")
	case o.out == "-" && o.json:
		return errors.New("-out - and -json both want standard output; give -out a file")
	case (o.local == "") == (len(o.shares) == 0):
		return errors.New(`either -local DIR or -share '\\host\share' has to say what to back up; -h shows how`)
	case o.local != "" && o.cred.Given():
		return errors.New("-local makes its own credentials; -user, -keytab, -ccache and -password-file go with -share")
	}
	for _, s := range o.shares {
		if how := misspelt(s); how != "" {
			return fmt.Errorf("-share %s: %s", s, how)
		}
	}
	return nil
}

// run is the program. More is what has to hold still, besides those that the flags name.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, more []provider.Writer) error {
	o, err := parse(args, stdout)
	switch {
	case err != nil:
		return err
	case o.verify != "":
		return verifyArchive(ctx, o.verify, o.json, stdout, stderr)
	case o.restore != "":
		return restoreArchive(ctx, o.restore, o.to, o.json, stdout, stderr)
	case o.recover:
		return o.recoverAll(ctx, stderr)
	}
	return o.backup(ctx, stdout, stderr, more)
}

func (o *options) backup(ctx context.Context, stdout, stderr io.Writer, more []provider.Writer) (err error) {
	dir := ""
	if o.local != "" {
		if dir, err = checkLocal(o.local); err != nil {
			return err
		}
	}
	rep := newReport(stderr)
	rep.strict = o.strict
	ws, err := newWriters(&o.writers, rep)
	if err != nil {
		return program.Usage(err)
	}
	defer func() { err = errors.Join(err, ws.close()) }()
	if err := ws.check(o.local); err != nil {
		return program.Usage(err)
	}
	cfg := &provider.Config{Progress: rep.event, Writers: append(more, ws.list...), FreezeLimit: o.writers.limit}
	left := openLeftJournal(o.journal)
	out, err := openOutput(ctx, o.out, stdout, dir, left)
	if err != nil {
		return err
	}
	defer out.discard()
	if out.claim != nil {
		defer func() { err = errors.Join(err, left.remove(out.claim.path)) }()
	}
	var src source
	if o.local != "" {
		src, err = newLocalSource(ctx, o.local, cfg, left, rep)
	} else {
		if o.journal != "" {
			if cfg.Journal, err = provider.OpenJournal(o.journal); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, cfg.Journal.Close()) }()
		}
		src, err = newRemoteSource(o, cfg)
	}
	if err != nil {
		return err
	}
	closeSource := func() error {
		if src == nil {
			return nil
		}
		s := src
		src = nil
		return s.close()
	}
	defer func() { err = errors.Join(err, closeSource()) }()
	err = provider.Run(ctx, cfg, src.shares(), func(ctx context.Context, set *provider.Set) error {
		return archive(ctx, out, src, set, rep)
	})
	if err != nil {
		return src.explain(err)
	}
	if err := ws.writeLabels(o.out); err != nil {
		return err
	}
	if err := out.commit(); err != nil {
		return err
	}
	if err := closeSource(); err != nil { // the archive is there all the same
		return err
	}
	rep.done(o.out)
	if o.json {
		if err := rep.writeJSON(stdout, o.out); err != nil {
			return err
		}
	}
	return rep.verdict(o.out)
}

// recoverAll removes what backups that were killed have left, here and on servers.
func (o *options) recoverAll(ctx context.Context, stderr io.Writer) error {
	var errs []error
	if o.local != "" {
		dir, err := checkLocal(o.local)
		if err != nil {
			return err
		}
		errs = append(errs, recoverBeside(ctx, dir))
	}
	if o.journal == "" {
		return errors.Join(errs...)
	}
	named, err := openLeftJournal(o.journal).recover(ctx)
	errs = append(errs, err)
	if _, err := os.Stat(o.journal); errors.Is(err, fs.ErrNotExist) {
		if !named {
			fmt.Fprintf(stderr, "there is no journal %s: nothing is left by a backup with it\n", o.journal)
		}
		return errors.Join(errs...)
	}
	cfg := &provider.Config{}
	src, err := newRemoteSource(o, cfg)
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("%s is about servers: %w", o.journal, err))...)
	}
	if cfg.Journal, err = provider.OpenJournal(o.journal); err == nil {
		err = errors.Join(provider.Recover(ctx, cfg), cfg.Journal.Close())
	}
	return errors.Join(append(errs, err, src.close())...)
}

// A source is where shares come from, and how the copies are read.
type source interface {
	shares() []string
	// title is what the user calls a copy.
	title(c provider.Copy) string
	// describe begins the summary of a copy.
	describe(c provider.Copy) shareSummary
	// prefix is the directory in the archive for a copy; "" for none.
	prefix(c provider.Copy) string
	open(ctx context.Context, c provider.Copy) (tree, error)
	// explain says what the error of a run is about, as the user sees it.
	explain(err error) error
	close() error
}
