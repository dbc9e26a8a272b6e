package ntlm

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/netaddr"
)

// WinbindConfig configures a [WinbindHelper]. The zero value is ready to use.
type WinbindConfig struct {
	// Command is the helper and its arguments; nil means {"ntlm_auth",
	// "--helper-protocol=ntlm-server-1"}. Add --require-membership-of to admit one group only. It
	// must run as a user who may use winbindd's privileged pipe.
	Command []string
	// Processes is the largest number of helpers, which are started as needed and serve one request
	// at a time each; zero means 4.
	Processes int
	// MaxWait is the longest time that a log-on waits for a process before it is refused with
	// [ErrBusy]; zero means 20 s, which is less than BindTime in [dcerpc.Limits].
	MaxWait time.Duration
	// SIDs looks up the SIDs of an account that has proved its password, as [Wbinfo] does: its own
	// first, then its groups'. If it fails, so does the log-on. Nil means identities without SIDs.
	SIDs func(ctx context.Context, domain, user string) ([]dcerpc.SID, error)
}

// A WinbindHelper is a [Verifier] that asks winbind, and so the domain or Samba's own accounts,
// through long-lived processes of ntlm_auth; it needs no passwords or hashes. It is safe for
// concurrent use.
type WinbindHelper struct {
	cfg    WinbindConfig
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	queue  *logonQueue
	closed sync.Once
}

// NewWinbindHelper returns a helper, which starts no process before the first log-on. The caller
// must close it.
func NewWinbindHelper(cfg *WinbindConfig) *WinbindHelper {
	h := &WinbindHelper{}
	if cfg != nil {
		h.cfg = *cfg
	}
	if h.cfg.Command == nil {
		h.cfg.Command = []string{"ntlm_auth", "--helper-protocol=ntlm-server-1"}
	}
	if h.cfg.Processes <= 0 {
		h.cfg.Processes = 4
	}
	if h.cfg.MaxWait == 0 {
		h.cfg.MaxWait = 20 * time.Second
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.queue = newLogonQueue(h.cfg.Processes)
	return h
}

// ErrBusy means that a log-on waited too long for its turn.
var ErrBusy = errors.New("too many log-ons at once; try again")

var errHelperClosed = fmt.Errorf("ntlm: winbind helper: %w", net.ErrClosed)

// Close ends the processes and all waiting log-ons, and returns once the processes have ended.
func (h *WinbindHelper) Close() error {
	h.cancel()
	h.closed.Do(func() {
		for _, p := range h.queue.close() {
			if p != nil {
				p.stop()
			}
		}
	})
	return nil
}

// Verify asks winbind to check the response. It waits for a free process; addresses (of the Peer
// that ctx carries) take turns, and the newest log-on of an address goes first. It gives up when
// ctx ends or after MaxWait, and then restarts the process, whose answer may still come. A process
// that died while idle is replaced once.
//
// A "No" from winbind is an [ErrLogonFailure] with winbind's reason, even if the fault is winbind's.
// The Identity has the names as the client sent them, of which one account may have several
// ("FSRVP", "fsrvp.test", none); compare accounts by their SIDs.
func (h *WinbindHelper) Verify(ctx context.Context, c *Challenge) (*Result, error) {
	control := func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }
	if strings.ContainsFunc(c.User, control) || strings.ContainsFunc(c.Domain, control) {
		return nil, fmt.Errorf("%w: control characters in the account's name", ErrLogonFailure)
	}
	key, err := h.ask(ctx, c)
	if err != nil {
		return nil, err
	}
	result := &Result{SessionBaseKey: key, Identity: dcerpc.Identity{Account: c.User, Domain: c.Domain}}
	if h.cfg.SIDs != nil {
		if result.Identity.SIDs, err = h.cfg.SIDs(ctx, c.Domain, c.User); err != nil {
			return nil, fmt.Errorf("ntlm: SIDs of %s: %w", accountName(c.Domain, c.User), err)
		}
	}
	return result, nil
}

// ask borrows a process for one exchange.
func (h *WinbindHelper) ask(ctx context.Context, c *Challenge) (key [16]byte, err error) {
	p, err := h.wait(ctx)
	if err != nil {
		return key, err
	}
	defer func() { h.queue.give(p) }()

	used := p != nil
	for {
		if h.ctx.Err() != nil {
			return key, errHelperClosed
		}
		if p == nil {
			if p, err = startHelper(h.cfg.Command); err != nil {
				return key, err
			}
		}
		answer, err := h.exchange(ctx, p, c)
		if err == nil {
			return answer.key()
		}
		err = p.stopWith(err)
		p = nil
		switch {
		case h.ctx.Err() != nil:
			return key, errHelperClosed
		case ctx.Err() != nil:
			return key, fmt.Errorf("ntlm: winbind helper: %w", ctx.Err())
		case !used || !errors.Is(err, errHelperGone):
			return key, err
		}
		used = false
	}
}

// wait takes a process out of the queue.
func (h *WinbindHelper) wait(ctx context.Context) (*helperProcess, error) {
	var from string
	if peer, ok := dcerpc.PeerFromContext(ctx); ok {
		from = netaddr.Block(netaddr.Host(peer.Addr))
	}
	waiting, cancel := context.WithTimeoutCause(ctx, h.cfg.MaxWait, ErrBusy)
	defer cancel()
	defer context.AfterFunc(h.ctx, cancel)()
	p, ok := h.queue.take(waiting, from)
	switch {
	case h.ctx.Err() != nil:
		if ok {
			h.queue.give(p)
		}
		return nil, errHelperClosed
	case !ok:
		return nil, fmt.Errorf("ntlm: winbind helper: %w", context.Cause(waiting))
	}
	return p, nil
}

// exchange sends one request and reads its answer.
//
// The helper ends the answer to a failed log-on with two end marks and others with one, so counting
// end marks could give a client its predecessor's answer. Every request is therefore followed by a
// parameter with a random name, which the helper rejects by that name: the lines before that are
// the answer.
func (h *WinbindHelper) exchange(ctx context.Context, p *helperProcess, c *Challenge) (*helperAnswer, error) {
	defer context.AfterFunc(ctx, p.kill)()
	defer context.AfterFunc(h.ctx, p.kill)()

	marker := "Sync-" + rand.Text()
	b64 := base64.StdEncoding.EncodeToString
	var req bytes.Buffer
	fmt.Fprintf(&req, "LANMAN-Challenge: %x\n", c.ServerChallenge)
	fmt.Fprintf(&req, "NT-Response: %x\n", c.Response)
	fmt.Fprintf(&req, "Username:: %s\n", b64([]byte(c.User)))
	if c.Domain != "" {
		fmt.Fprintf(&req, "NT-Domain:: %s\n", b64([]byte(c.Domain)))
	}
	fmt.Fprintf(&req, "Request-User-Session-Key: Yes\n.\n%s: end\n", marker)
	if err := p.write(req.Bytes()); err != nil {
		return nil, err
	}

	answer := &helperAnswer{}
	for range 32 {
		line, err := p.readLine()
		if err != nil {
			return nil, err
		}
		if line == "Error: Unknown request "+marker {
			if line, err = p.readLine(); err == nil && line != "." {
				err = fmt.Errorf("ntlm: winbind helper: %q in place of the end mark", line)
			}
			return answer, err
		}
		answer.add(line)
	}
	return nil, errors.New("ntlm: winbind helper: an answer without end")
}

// helperAnswer is the content of the lines of one answer.
type helperAnswer struct {
	authenticated string // Yes, No; empty without such a line
	sessionKey    string
	reason        string // of a No
	failure       string // of the helper itself
}

func (a *helperAnswer) add(line string) {
	name, value, _ := strings.Cut(line, ": ")
	switch name {
	case "Authenticated":
		a.authenticated = value
	case "User-Session-Key":
		a.sessionKey = value
	case "Authentication-Error":
		a.reason = value
	case "Error":
		a.failure = value
	}
}

// key returns the session base key of an account that has proved its password.
func (a *helperAnswer) key() (key [16]byte, err error) {
	switch {
	case a.failure != "":
		return key, fmt.Errorf("ntlm: winbind helper: %s", a.failure)
	case a.authenticated == "No":
		return key, fmt.Errorf("%w: winbind: %s", ErrLogonFailure, a.reason)
	case a.authenticated != "Yes":
		return key, errors.New("ntlm: winbind helper: neither yes nor no for an answer")
	}
	b, err := hex.DecodeString(a.sessionKey)
	if err != nil || len(b) != len(key) {
		// A guest has none, so messages could not be protected.
		return key, fmt.Errorf("%w: winbind gave no session key", ErrLogonFailure)
	}
	return [16]byte(b), nil
}
