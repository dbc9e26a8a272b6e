package program

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		args   []string
		status int
		stdout string
		stderr string
	}{
		"nothing":      {nil, 0, "", ""},
		"a flag":       {[]string{"-size", "3"}, 0, "", ""},
		"-h":           {[]string{"-h"}, 0, "a number", ""},
		"-version":     {[]string{"-version"}, 0, "fsrvp-test ", ""},
		"unknown flag": {[]string{"-x"}, 2, "", "fsrvp-test: flag provided but not defined: -x; fsrvp-test -h lists the flags\n"},
		"wrong value":  {[]string{"-size", "big"}, 2, "", "-size"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			fs := flag.NewFlagSet("fsrvp-test", flag.ContinueOnError)
			fs.Int("size", 0, "a `number`")
			err := Parse(fs, c.args, &stdout)
			require.Equal(t, c.status, status("fsrvp-test", err, &stderr))
			if c.stdout == "" {
				require.Empty(t, stdout.String())
			}
			require.Contains(t, stdout.String(), c.stdout)
			if c.stderr == "" {
				require.Empty(t, stderr.String())
			}
			require.Contains(t, stderr.String(), c.stderr)
		})
	}
}

func TestStatus(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
		text   string
	}{
		"success":        {nil, 0, ""},
		"help":           {flag.ErrHelp, 0, ""},
		"failure":        {errors.New("no room"), 1, "p: no room\n"},
		"wrong call":     {Usage(errors.New("-out is missing")), 2, "p: -out is missing\n"},
		"its own":        {fmt.Errorf("x: %w", &Exit{Status: 3, Err: errors.New("two files")}), 3, "p: x: two files\n"},
		"said already":   {&Exit{Status: 1}, 1, ""},
		"no wrong usage": {Usage(nil), 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			require.Equal(t, c.status, status("p", c.err, &stderr))
			require.Equal(t, c.text, stderr.String())
		})
	}
}

func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	signals, code := make(chan os.Signal), make(chan int)
	var stderr bytes.Buffer
	go interrupt("p", signals, cancel, &stderr, func(n int) { code <- n })
	signals <- os.Interrupt
	<-ctx.Done()
	require.ErrorIs(t, context.Cause(ctx), context.Canceled)
	require.ErrorContains(t, context.Cause(ctx), "interrupt")
	signals <- os.Interrupt
	require.Equal(t, 130, <-code)
	require.Contains(t, stderr.String(), "p: ended by a second signal")
}
