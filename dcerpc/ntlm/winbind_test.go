package ntlm

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// helperEnv makes the test binary play ntlm_auth; its value is the part.
const helperEnv = "NTLM_TEST_HELPER"

func TestMain(m *testing.M) {
	if part := os.Getenv(helperEnv); part != "" {
		fakeHelper(part)
		return
	}
	goleak.VerifyTestMain(m)
}

// fakeHelper speaks ntlm-server-1 as Samba's ntlm_auth does, its double end mark after
// a failed log-on included. Every account's password is "Secret1".
func fakeHelper(part string) {
	if part == "dead" {
		fmt.Fprintln(os.Stderr, "Failed to connect to winbind")
		os.Exit(1)
	}
	in := bufio.NewScanner(os.Stdin)
	c, served := &Challenge{}, 0
	for in.Scan() {
		name, value, ok := strings.Cut(in.Text(), ": ")
		if encoded, is := strings.CutSuffix(name, ":"); is {
			name = encoded
			b, err := base64.StdEncoding.DecodeString(value)
			ok = ok && err == nil
			value = string(b)
		}
		switch {
		case in.Text() == ".":
			if part == "hangs" || part == "hangs after one" && served == 1 {
				fmt.Fprintln(os.Stderr, "hanging")
				io.Copy(io.Discard, os.Stdin)
				return
			}
			fakeAnswer(part, c)
			c, served = &Challenge{}, served+1
		case !ok:
			fmt.Print("Error: Parameter not found!\n.\n")
		case name == "LANMAN-Challenge":
			hex.Decode(c.ServerChallenge[:], []byte(value))
		case name == "NT-Response":
			c.Response, _ = hex.DecodeString(value)
		case name == "Username":
			c.User = value
		case name == "NT-Domain":
			c.Domain = value
		case name == "Request-User-Session-Key":
		default:
			fmt.Printf("Error: Unknown request %s\n.\n", name)
			if part == "dies after one" {
				os.Exit(1)
			}
		}
	}
}

func fakeAnswer(part string, c *Challenge) {
	key, ok := c.Check(NTHash("Secret1"))
	switch {
	case part == "guest":
		fmt.Print("Authenticated: Yes\n.\n")
	case part == "short key":
		fmt.Print("Authenticated: Yes\nUser-Session-Key: 00112233\n.\n")
	case part == "error":
		fmt.Print("Error: No username supplied!\n.\n")
	case part == "silent":
		fmt.Print(".\n")
	case part == "chatty":
		fmt.Print(strings.Repeat("Noise: x\n", 100), ".\n")
	case part == "long line":
		fmt.Print(strings.Repeat("x", 1<<16), "\n.\n")
	case !ok:
		fmt.Print("Authenticated: No\nAuthentication-Error: Logon failure (0xc000006d)\n.\n.\n")
	default:
		fmt.Printf("Authenticated: Yes\nUser-Session-Key: %X\n.\n", key)
	}
}

// newHelper is a WinbindHelper whose processes play part.
func newHelper(t *testing.T, part string, change func(*WinbindConfig)) *WinbindHelper {
	t.Helper()
	t.Setenv(helperEnv, part)
	cfg := &WinbindConfig{Command: []string{os.Args[0]}, Processes: 1}
	if change != nil {
		change(cfg)
	}
	h := NewWinbindHelper(cfg)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h
}

// pid is that of the one idle process, zero without one.
func pid(h *WinbindHelper) int {
	p, _ := h.queue.take(context.Background(), "")
	defer func() { h.queue.give(p) }()
	if p == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

func TestWinbindHelper(t *testing.T) {
	h := newHelper(t, "good", nil)
	ctx := context.Background()
	require.Zero(t, pid(h), "nothing runs before the first log-on")
	first := 0
	for i := range 3 {
		r, err := h.Verify(ctx, answer("FSRVP", "backup", "Secret1"))
		require.NoError(t, err)
		_, want := ntProof(ntowfv2(NTHash("Secret1"), "backup", "FSRVP"), [8]byte{1, 2, 3},
			answer("FSRVP", "backup", "Secret1").Response[16:])
		require.Equal(t, want, r.SessionBaseKey)
		require.Equal(t, dcerpc.Identity{Account: "backup", Domain: "FSRVP"}, r.Identity)

		// The end mark too many after a failure is nobody's answer.
		_, err = h.Verify(ctx, answer("FSRVP", "backup", "Secret2"))
		require.ErrorIs(t, err, ErrLogonFailure)
		require.ErrorContains(t, err, "0xc000006d")
		if i == 0 {
			first = pid(h)
		}
		require.Equal(t, first, pid(h), "one process for all")
	}
	_, err := h.Verify(ctx, answer("", "admin@fsrvp.test", "Secret1"))
	require.NoError(t, err)
}

// TestWinbindNames has accounts' names that would be lines of the protocol.
func TestWinbindNames(t *testing.T) {
	h := newHelper(t, "good", nil)
	ctx := context.Background()
	for _, user := range []string{"Jürgen", "a: b", "x:: y", ".", " blank ", "-v", "back\\slash"} {
		_, err := h.Verify(ctx, answer("FSRVP", user, "Secret1"))
		require.NoError(t, err, "%q", user)
	}
	for _, name := range []string{"x\n.\nUsername: admin", "admin\x00x", "\ufffd"} {
		_, err := h.Verify(ctx, answer("FSRVP", name, "Secret1"))
		require.ErrorIs(t, err, ErrLogonFailure)
		_, err = h.Verify(ctx, answer(name, "backup", "Secret1"))
		require.ErrorIs(t, err, ErrLogonFailure)
	}
}

func TestWinbindFailures(t *testing.T) {
	for part, want := range map[string]string{
		"dead":      `it said "Failed to connect to winbind"`,
		"guest":     "no session key",
		"short key": "no session key",
		"error":     "No username supplied!",
		"silent":    "neither yes nor no",
		"chatty":    "an answer without end",
		"long line": "a line without end",
	} {
		t.Run(part, func(t *testing.T) {
			h := newHelper(t, part, nil)
			for range 2 {
				_, err := h.Verify(context.Background(), answer("FSRVP", "backup", "Secret1"))
				require.ErrorContains(t, err, want)
				require.Equal(t, part == "guest" || part == "short key", errors.Is(err, ErrLogonFailure))
			}
		})
	}
	h := NewWinbindHelper(&WinbindConfig{Command: []string{filepath.Join(t.TempDir(), "ntlm_auth")}})
	defer h.Close()
	_, err := h.Verify(context.Background(), answer("FSRVP", "backup", "Secret1"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestWinbindRestart(t *testing.T) {
	h := newHelper(t, "dies after one", nil)
	pids := map[int]bool{}
	for range 3 {
		_, err := h.Verify(context.Background(), answer("FSRVP", "backup", "Secret1"))
		require.NoError(t, err)
		pids[pid(h)] = true
	}
	require.Len(t, pids, 3)

	// Killed from outside while idle.
	h = newHelper(t, "good", nil)
	_, err := h.Verify(context.Background(), answer("FSRVP", "backup", "Secret1"))
	require.NoError(t, err)
	p, err := os.FindProcess(pid(h))
	require.NoError(t, err)
	require.NoError(t, p.Kill())
	_, err = h.Verify(context.Background(), answer("FSRVP", "backup", "Secret1"))
	require.NoError(t, err)
}

func TestWinbindContext(t *testing.T) {
	h := newHelper(t, "hangs after one", nil)
	_, err := h.Verify(context.Background(), answer("FSRVP", "backup", "Secret1"))
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = h.Verify(ctx, answer("FSRVP", "backup", "Secret1"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Zero(t, pid(h), "its answer may still come")

	_, err = h.Verify(context.Background(), answer("FSRVP", "backup", "Secret1"))
	require.NoError(t, err, "a new process")

	// One who waits for a busy process gives up as well.
	busy, _ := h.queue.take(context.Background(), "")
	_, err = h.Verify(ctx, answer("FSRVP", "backup", "Secret1"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	h.queue.give(busy)
}

func TestWinbindClose(t *testing.T) {
	h := newHelper(t, "hangs", nil)
	errs := make(chan error, 2)
	for range cap(errs) {
		go func() {
			_, err := h.Verify(context.Background(), answer("FSRVP", "backup", "Secret1"))
			errs <- err
		}()
	}
	require.NoError(t, h.Close())
	for range cap(errs) {
		require.ErrorIs(t, <-errs, net.ErrClosed)
	}
	_, err := h.Verify(context.Background(), answer("FSRVP", "backup", "Secret1"))
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, h.Close())
}

func TestWinbindByManyAtOnce(t *testing.T) {
	h := newHelper(t, "good", func(cfg *WinbindConfig) { cfg.Processes = 3 })
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			for i := range 10 {
				user, password := fmt.Sprint("user", g), "Secret1"
				if i%3 == 0 {
					password = "wrong"
				}
				r, err := h.Verify(context.Background(), answer("FSRVP", user, password))
				if password == "wrong" {
					if !errors.Is(err, ErrLogonFailure) {
						t.Errorf("%s: %v", user, err)
					}
				} else if err != nil || r.Identity.Account != user {
					t.Errorf("%s: %v %v", user, r, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestWinbindSIDs(t *testing.T) {
	sids := []dcerpc.SID{"S-1-5-21-1-2-3-1104"}
	h := newHelper(t, "good", func(cfg *WinbindConfig) {
		cfg.SIDs = func(_ context.Context, domain, user string) ([]dcerpc.SID, error) {
			if user != "backup" {
				return nil, errors.New("no such account")
			}
			return sids, nil
		}
	})
	r, err := h.Verify(context.Background(), answer("FSRVP", "backup", "Secret1"))
	require.NoError(t, err)
	require.Equal(t, sids, r.Identity.SIDs)
	_, err = h.Verify(context.Background(), answer("FSRVP", "other", "Secret1"))
	require.ErrorContains(t, err, `SIDs of FSRVP\other: no such account`)
}

func TestWbinfo(t *testing.T) {
	script := filepath.Join(t.TempDir(), "wbinfo")
	write := func(body string) {
		require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\n"+body), 0o700))
	}
	write(`case "$1" in
--name-to-sid='FSRVP\backup') echo 'S-1-5-21-1-2-3-1104 SID_USER (1)';;
--name-to-sid='FSRVP\admins') echo 'S-1-5-21-1-2-3-512 SID_DOM_GROUP (2)';;
--user-sids=S-1-5-21-1-2-3-1104) printf 'S-1-5-21-1-2-3-513\nS-1-5-21-1-2-3-1104\nS-1-5-32-551\n';;
*) echo 'WBC_ERR_DOMAIN_NOT_FOUND' >&2; exit 1;;
esac
`)
	ctx := context.Background()
	sids, err := Wbinfo(script)(ctx, "FSRVP", "backup")
	require.NoError(t, err)
	require.Equal(t, []dcerpc.SID{"S-1-5-21-1-2-3-1104", "S-1-5-21-1-2-3-513", "S-1-5-32-551"}, sids)
	_, err = Wbinfo(script)(ctx, "FSRVP", "admins")
	require.ErrorContains(t, err, "is not a user but SID_DOM_GROUP (2)")
	_, err = Wbinfo(script)(ctx, "", "nobody")
	require.ErrorContains(t, err, "WBC_ERR_DOMAIN_NOT_FOUND")

	write("exec sleep 600")
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	_, err = Wbinfo(script)(short, "FSRVP", "backup")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// TestSambasHelper asks Samba's own ntlm_auth, which with --password needs no winbind.
func TestSambasHelper(t *testing.T) {
	path, err := exec.LookPath("ntlm_auth")
	if err != nil {
		if os.Getenv("FSRVP_PEERS") == "require" {
			t.Fatal("no ntlm_auth: ", err)
		}
		t.Skip("no ntlm_auth of Samba: ", err)
	}
	h := NewWinbindHelper(&WinbindConfig{Command: []string{path, "--helper-protocol=ntlm-server-1",
		"--password=Secret1"}})
	defer h.Close()
	a := newAcceptor(t, h)
	for range 3 {
		client, err := newInitiator(t, "backup", "Secret1").NewContext("host/fs", dcerpc.LevelPrivacy)
		require.NoError(t, err)
		server, err := a.NewContext(dcerpc.LevelPrivacy)
		require.NoError(t, err)
		establish(t, client.(micContext), server.(micContext))
		require.Equal(t, "backup", server.Identity().Account)

		client, err = newInitiator(t, "backup", "wrong").NewContext("host/fs", dcerpc.LevelPrivacy)
		require.NoError(t, err)
		server, err = a.NewContext(dcerpc.LevelPrivacy)
		require.NoError(t, err)
		require.ErrorIs(t, lastStep(t, client, server, nil), ErrLogonFailure)
	}
	require.NotZero(t, pid(h), "the helper lives on")

	// Without winbind, its real mode fails, and says why.
	h = NewWinbindHelper(&WinbindConfig{Command: []string{path, "--helper-protocol=ntlm-server-1",
		"--configfile=/dev/null"}})
	defer h.Close()
	_, err = h.Verify(context.Background(), answer("FSRVP", "backup", "Secret1"))
	require.Error(t, err)
	t.Log(err)
}
