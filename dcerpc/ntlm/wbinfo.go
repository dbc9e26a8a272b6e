package ntlm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// Wbinfo returns a function for WinbindConfig.SIDs that runs Samba's wbinfo twice for every log-on:
// for the account's SID, and for those of its groups, including local groups of the machine. The
// program is path; empty means "wbinfo".
//
// It looks the name up as the client sent it, with winbind's default separator, a backslash.
func Wbinfo(path string) func(ctx context.Context, domain, user string) ([]dcerpc.SID, error) {
	if path == "" {
		path = "wbinfo"
	}
	return func(ctx context.Context, domain, user string) ([]dcerpc.SID, error) {
		out, err := run(ctx, path, "--name-to-sid="+accountName(domain, user))
		if err != nil {
			return nil, err
		}
		// "S-1-5-21-1-2-3-1104 SID_USER (1)"
		own, kind, _ := strings.Cut(strings.TrimSpace(out), " ")
		sid, err := dcerpc.ParseSID(own)
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(kind, "SID_USER") {
			return nil, fmt.Errorf("%s is not a user but %s", accountName(domain, user), kind)
		}
		if out, err = run(ctx, path, "--user-sids="+string(sid)); err != nil {
			return nil, err
		}
		sids := []dcerpc.SID{sid}
		for line := range strings.Lines(out) {
			s, err := dcerpc.ParseSID(strings.TrimSpace(line))
			if err != nil {
				return nil, err
			}
			if s != sid {
				sids = append(sids, s)
			}
		}
		return sids, nil
	}
}

// run returns what a program prints; its error holds what it printed to stderr.
func run(ctx context.Context, path string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &stdout, &stderr, time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", errors.Join(err, errorText(stderr.Bytes()))
	}
	return stdout.String(), nil
}

func errorText(b []byte) error {
	if b = bytes.TrimSpace(b); len(b) == 0 {
		return nil
	}
	return errors.New(string(b[:min(len(b), tailSize)]))
}
