package samba

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// tools runs Samba's programs.
type tools struct {
	paths   map[string]string // of the programs, by their names
	smbConf string            // absolute; empty: Samba's own
	timeout time.Duration
	log     *slog.Logger
}

func newTools(cfg *Config, log *slog.Logger, programs ...string) (*tools, error) {
	t := &tools{paths: map[string]string{}, timeout: cfg.CommandTimeout, log: log}
	if t.timeout <= 0 {
		t.timeout = 30 * time.Second
	}
	if cfg.SmbConf != "" {
		abs, err := filepath.Abs(cfg.SmbConf)
		if err == nil {
			err = checkText(abs)
		}
		if err != nil {
			return nil, fmt.Errorf("samba: the path of smb.conf: %w", err)
		}
		t.smbConf = abs
	}
	for _, name := range programs {
		path := name
		if cfg.Programs != "" {
			path = filepath.Join(cfg.Programs, name)
		}
		path, err := exec.LookPath(path)
		if err == nil {
			path, err = filepath.Abs(path)
		}
		if err != nil {
			return nil, fmt.Errorf("samba: Samba's program %s: %w", name, err)
		}
		t.paths[name] = path
	}
	return t, nil
}

// programEnv is the environment of all programs. It is not the caller's: its language, and
// variables such as SMB_CONF_PATH and TDB_NO_FSYNC, would change what is done.
var programEnv = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}

// run runs a program and returns what it has written to standard output. The error of a program
// that fails has what it said. The program and all that it has started is killed when ctx ends, or
// after the time-out.
func (t *tools) run(ctx context.Context, program string, args ...string) (string, error) {
	out, _, err := t.output(ctx, program, args...)
	return out, err
}

// output is run that returns what the program has written to standard error, too.
func (t *tools) output(ctx context.Context, program string, args ...string) (out, errors string, err error) {
	for _, arg := range args {
		if err := checkText(arg); err != nil {
			return "", "", fmt.Errorf("samba: %s: argument %q %w", program, arg, err)
		}
	}
	all := []string{"--debuglevel=0"}
	switch {
	case t.smbConf == "":
	case program == "testparm": // takes it last
		args = append(args, t.smbConf)
	default:
		all = append(all, "--configfile="+t.smbConf)
	}
	all = append(all, args...)

	limited, cancel := context.WithTimeoutCause(ctx, t.timeout, fmt.Errorf("no end after %v", t.timeout))
	defer cancel()
	cmd := exec.CommandContext(limited, t.paths[program], all...)
	cmd.Env = programEnv
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	killGroup(cmd)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begin := time.Now()
	err = cmd.Run()
	t.log.DebugContext(ctx, "ran a program of Samba's", "program", program, "args", args, "duration", time.Since(begin),
		"err", err)
	if err == nil {
		return stdout.String(), stderr.String(), nil
	}
	if limited.Err() != nil {
		err = context.Cause(limited)
	}
	return "", "", &commandError{program: program, args: args, said: said(stderr.String(), stdout.String()), err: err}
}

// A commandError is a program's failure.
type commandError struct {
	program string
	args    []string
	said    string
	err     error
}

func (e *commandError) Error() string {
	msg := fmt.Sprintf("samba: %s %q: %v", e.program, e.args, e.err)
	if e.said != "" {
		msg += ": " + e.said
	}
	return msg
}

func (e *commandError) Unwrap() error { return e.err }

// said returns the end of what a program has written, in one line: to standard error, or if there
// is nothing to standard output, where net says why it fails.
func said(outputs ...string) string {
	const most = 500
	for _, out := range outputs {
		if line := strings.Join(strings.Fields(strings.ToValidUTF8(out, "?")), " "); line != "" {
			if i := len(line) - most; i > 0 {
				for !utf8.RuneStart(line[i]) {
					i++
				}
				line = "..." + line[i:]
			}
			return line
		}
	}
	return ""
}

// checkText refuses what cannot be a program's argument or a value in smb.conf. Tabs can.
func checkText(s string) error {
	switch {
	case !utf8.ValidString(s):
		return errors.New("is not UTF-8")
	case strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }):
		return errors.New("has a control character")
	}
	return nil
}
