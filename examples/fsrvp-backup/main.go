// Command fsrvp-backup takes a consistent backup of directories or SMB shares through shadow copies.
//
// With -local it needs nothing but Go: an agent inside the program, spoken to over loopback with Kerberos, takes a copy of
// the directory, which may change meanwhile.
//
//	go run ./examples/fsrvp-backup -local DIR -out FILE.tar
//
// With -share it does the same against real file servers: shares of any number of servers, all copied at one moment.
//
//	go run ./examples/fsrvp-backup -share '\\fs1\vms' -share '\\fs2\db' -out FILE.tar -user backup@EXAMPLE.COM -keytab backup.keytab
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-fsrvp/go-fsrvp/examples/internal/credentials"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/repeated"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/writer"
)

const usage = `usage: fsrvp-backup -local DIR -out FILE.tar [-writer KIND:ARGUMENT ...] [-freeze PROGRAM] [-thaw PROGRAM] [-json]
       fsrvp-backup -share '\\host\share' [-share ...] -out FILE.tar [-writer KIND:ARGUMENT ...] [-journal FILE] [-json]
              ` + credentials.Usage + `
       fsrvp-backup -recover -journal FILE CREDENTIALS

` + writersUsage + `
`

func main() {
	if len(os.Args) == 2 && os.Args[1] == guardArg {
		program.Main("fsrvp-backup: guard", func(context.Context, []string) error { return writer.GuardMain() })
	}
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
	json    bool
	cred    *credentials.Flags
}

func parse(args []string, stdout io.Writer) (*options, error) {
	var o options
	flags := flag.NewFlagSet("fsrvp-backup", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(stdout, usage); flags.PrintDefaults() }
	flags.StringVar(&o.local, "local", "", "back up this `directory` through an agent inside the program")
	flags.Var(&o.shares, "share", `back up this share, \\host\share; may be given several times`)
	flags.StringVar(&o.out, "out", "", "write the tar `file`, which appears when it is complete; - is standard output")
	o.writers.register(flags)
	flags.StringVar(&o.journal, "journal", "", "remember in this `file` what exists on the servers, for -recover")
	flags.BoolVar(&o.recover, "recover", false, "remove what a crashed backup with this -journal has left on servers")
	flags.BoolVar(&o.json, "json", false, "print a summary as JSON on standard output")
	o.cred = credentials.Register(flags)
	if err := program.Parse(flags, args, stdout); err != nil {
		return nil, err
	}
	return &o, program.Usage(o.check(flags))
}

func (o *options) check(flags *flag.FlagSet) error {
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("%q is no flag; -h lists them", flags.Arg(0))
	case o.recover:
		if o.journal == "" || o.local != "" || len(o.shares) > 0 {
			return errors.New("-recover takes -journal and credentials, and no shares")
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
	return nil
}

// run is the program. More is what has to hold still, beside those that the flags name.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, more []provider.Writer) (err error) {
	o, err := parse(args, stdout)
	if err != nil {
		return err
	}
	rep := newReport(stderr)
	ws, err := newWriters(&o.writers, rep)
	if err != nil {
		return program.Usage(err)
	}
	defer func() { err = errors.Join(err, ws.close()) }()
	if err := ws.check(o.local); err != nil {
		return program.Usage(err)
	}
	cfg := &provider.Config{Progress: rep.event, Writers: append(more, ws.list...), FreezeLimit: o.writers.limit}
	if o.journal != "" {
		if cfg.Journal, err = provider.OpenJournal(o.journal); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, cfg.Journal.Close()) }()
	}
	var src source
	if o.local != "" {
		src, err = newLocalSource(o.local, cfg)
	} else {
		src, err = newRemoteSource(o, cfg)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	if o.recover {
		return provider.Recover(ctx, cfg)
	}
	out, err := createOutput(o.out, stdout)
	if err != nil {
		return err
	}
	defer out.discard()
	err = provider.Run(ctx, cfg, src.shares(), func(ctx context.Context, set *provider.Set) error {
		return archive(ctx, out, src, set, rep)
	})
	if err != nil {
		return err
	}
	if err := ws.writeLabels(o.out); err != nil {
		return err
	}
	if err := out.commit(); err != nil {
		return err
	}
	rep.done(o.out)
	if o.json {
		return rep.writeJSON(stdout, o.out)
	}
	return nil
}

// A source is where shares come from, and how the copies are read.
type source interface {
	shares() []string
	// prefix is the directory in the archive for a share; "" for none.
	prefix(share string) string
	open(ctx context.Context, c provider.Copy) (fs.FS, io.Closer, error)
	close() error
}

// output is a file that appears under its name when it is complete.
type output struct {
	io.Writer
	file *os.File // nil: standard output
	name string
}

func createOutput(name string, stdout io.Writer) (*output, error) {
	if name == "-" {
		return &output{Writer: stdout}, nil
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return nil, fmt.Errorf("-out: %w", err)
	}
	return &output{Writer: f, file: f, name: name}, nil
}

func (o *output) commit() error {
	if o.file == nil {
		return nil
	}
	err := errors.Join(o.file.Chmod(0o644), o.file.Sync(), o.file.Close())
	if err == nil {
		err = os.Rename(o.file.Name(), o.name)
	}
	if err != nil {
		return fmt.Errorf("-out: %w", err)
	}
	o.file = nil
	return nil
}

// discard removes what was written, unless it was committed.
func (o *output) discard() {
	if o.file != nil {
		o.file.Close()
		os.Remove(o.file.Name())
	}
}
