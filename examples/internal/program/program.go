// Package program has the common parts of this module's commands: flags, -version, signals and exit
// statuses.
//
// A command exits with 0 if it has done its work, and for -h and -version; with 1 if it failed;
// with 2 if it was called wrongly. An [Exit] gives another status.
package program

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
)

// An Exit is an error that ends a command with a given status.
type Exit struct {
	Status int
	Err    error // nil if the command has already printed everything
}

// Error returns the text of Err.
func (e *Exit) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Status)
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e *Exit) Unwrap() error { return e.Err }

// Usage marks err as the error of a wrong call, which ends the command with 2. It returns nil for
// nil.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return &Exit{Status: 2, Err: err}
}

// Parse parses the arguments of a command whose flags are fs, and adds the flag -version. It
// returns [flag.ErrHelp] if it has printed the output of -h or -version on stdout: the command then
// ends with 0. Other errors are those of a wrong call. fs.Usage must write to fs.Output.
//
// The first argument -generate, which is for makers of packages and not listed by -h, prints the
// manual page (man) or bash's completion (bash).
func Parse(fs *flag.FlagSet, args []string, stdout io.Writer) error {
	if len(args) == 2 && args[0] == "-generate" {
		if err := generate(fs, args[1], stdout); err != nil {
			return err
		}
		return flag.ErrHelp
	}
	version := fs.Bool("version", false, "print the version and end")
	fs.SetOutput(io.Discard) // Main prints errors
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fs.SetOutput(stdout)
		fs.Usage()
		return flag.ErrHelp
	case err != nil:
		return Usage(fmt.Errorf("%w; %s -h lists the flags", err, fs.Name()))
	case *version:
		fmt.Fprintln(stdout, Version(fs.Name()))
		return flag.ErrHelp
	}
	return nil
}

// packaged is the version of the package that has the command; the maker sets it with the linker's
// -X.
var packaged string

// ModuleVersion returns the version of the command's module, or of its package: "v1.2.3" for a
// version that go install has installed, "(devel)" for a build without one.
func ModuleVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return cmp.Or(packaged, info.Main.Version)
	}
	return cmp.Or(packaged, "(unknown)")
}

// Version returns what -version prints: the name of the command, the version of its module, the
// revision that it was built from if the build knows it, and Go's version.
func Version(name string) string {
	version, revision, modified := ModuleVersion(), "", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				revision = " " + s.Value[:min(12, len(s.Value))]
			case "vcs.modified":
				if s.Value == "true" {
					modified = " (modified)"
				}
			}
		}
	}
	return fmt.Sprintf("%s %s%s%s %s %s/%s", name, version, revision, modified, runtime.Version(), runtime.GOOS,
		runtime.GOARCH)
}

// Main runs a command and exits. The context ends with the first SIGINT or SIGTERM; the second ends
// the process at once, with 128 and the number of the signal. Errors are printed after the
// command's name.
func Main(name string, run func(ctx context.Context, args []string) error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go interrupt(name, signals, cancel, os.Stderr, os.Exit)
	os.Exit(status(name, run(ctx, os.Args[1:]), os.Stderr))
}

// interrupt cancels at the first signal and exits at the second. It does not restore the system's
// action for the second, since a non-interactive shell starts background processes with SIGINT
// ignored.
func interrupt(name string, signals <-chan os.Signal, cancel context.CancelCauseFunc, stderr io.Writer,
	exit func(int)) {
	first := <-signals
	cancel(fmt.Errorf("%w by the signal %q", context.Canceled, first))
	fmt.Fprintf(stderr, "%s: cleaning up; a second signal ends it at once\n", name)
	second := <-signals
	fmt.Fprintf(stderr, "%s: ended by a second signal, in the middle of cleaning up\n", name)
	code := 1
	if n, ok := second.(syscall.Signal); ok {
		code = 128 + int(n)
	}
	exit(code)
}

// status prints err and returns its exit status.
func status(name string, err error, stderr io.Writer) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	code := 1
	if exit := new(Exit); errors.As(err, &exit) {
		code = exit.Status
		if exit.Err == nil {
			return code
		}
	}
	fmt.Fprintf(stderr, "%s: %v\n", name, err)
	return code
}

// Verdict returns the error with which a command that compares or checks ends: status 1 if the
// check failed, which the command has already reported, and status 2 if it could not check, like
// diff and grep.
func Verdict(failed bool, err error) error {
	switch exit := new(Exit); {
	case err == nil && failed:
		return &Exit{Status: 1}
	case err == nil || errors.Is(err, flag.ErrHelp) || errors.As(err, &exit):
		return err
	}
	return &Exit{Status: 2, Err: err}
}
