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

// WinbindConfig says how a WinbindHelper reaches winbind. Its zero value is usable.
type WinbindConfig struct {
	// Command is the helper and its arguments; nil means
	// {"ntlm_auth", "--helper-protocol=ntlm-server-1"}. Add --require-membership-of to let in no
	// more than one group. It has to run as a user who may use winbindd's privileged pipe.
	Command []string
	// Processes is how many helpers run at most, started as they are needed, each with one
	// request at a time; zero means 4.
	Processes int
	// MaxWait is how long a log-on waits at most for a process; zero means 20 s, which is less than
	// a dcerpc.Server's Limits.BindTime. Then it is refused with ErrBusy.
	MaxWait time.Duration
	// SIDs looks up the SIDs of an account that proved itself, as Wbinfo does: its own first, then
	// its groups'. An error ends the log-on. Nil gives identities without SIDs.
	SIDs func(ctx context.Context, domain, user string) ([]dcerpc.SID, error)
}

// A WinbindHelper is a Verifier that asks winbind, and thereby the domain or Samba's own
// accounts, through long-lived processes of ntlm_auth: no password or hash is
// needed here. It may be used by several goroutines at once.
type WinbindHelper struct {
	cfg    WinbindConfig
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	queue  *logonQueue
	closed sync.Once
}

// NewWinbindHelper starts no process before the first log-on. The helper must be closed.
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

// ErrBusy is a log-on that waited for too long, since others were ahead of it.
var ErrBusy = errors.New("too many log-ons at once; try again")

var errHelperClosed = fmt.Errorf("ntlm: winbind helper: %w", net.ErrClosed)

// Close ends the processes and whatever waits for them, and returns once they are gone.
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

// Verify has winbind check the response. It waits for a free process, in turn with the log-ons from
// other addresses (those of the Peer that ctx carries), the newest one of an address first, and
// gives up with ctx and after MaxWait; the process is then started anew, since its answer may still
// come. A process that died while it was idle is replaced once.
//
// A No of winbind's is ErrLogonFailure with winbind's reason, even where that is winbind's own
// trouble. The Identity has the names as the client wrote them, of which one account may have
// several ("FSRVP", "fsrvp.test", none); its SIDs tell accounts apart.
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

// ask takes a process out of its slot for one exchange.
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

// exchange sends one request and reads what answers it.
//
// A failed log-on is answered with two end marks where others have one, so that counting them
// would give a client its predecessor's answer. Every request is therefore followed by a
// parameter of a random name, which the helper rejects by that name: the answer is what
// comes before.
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
				err = fmt.Errorf("ntlm: winbind helper: %q where the end mark has to be", line)
			}
			return answer, err
		}
		answer.add(line)
	}
	return nil, errors.New("ntlm: winbind helper: an answer without end")
}

// helperAnswer is what one exchange's lines said.
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

// key is the session base key of an account that proved itself.
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
		// A guest has none, and messages could not be protected.
		return key, fmt.Errorf("%w: winbind gave no session key", ErrLogonFailure)
	}
	return [16]byte(b), nil
}
