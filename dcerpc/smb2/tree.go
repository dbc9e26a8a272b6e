package smb2

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// closeTime is how long a server has to confirm that something is closed.
const closeTime = 10 * time.Second

// maxRenewals is how often a request is sent again since the session had expired.
const maxRenewals = 3

// A Tree is a connection to a share. It is safe for concurrent use.
type Tree struct {
	s       *Session
	unc     string
	id      uint32
	protect protection
	share   TreeConnectResponse

	mu      sync.Mutex
	closed  bool
	counted bool // in the session's uses
}

// TreeConnect connects to a share, such as "IPC$". The context bounds only TreeConnect itself.
// Errors are [*Error]s.
func (s *Session) TreeConnect(ctx context.Context, share string) (*Tree, error) {
	t := &Tree{s: s, unc: `\\` + s.server + `\` + share, protect: s.protection()}
	req := TreeConnectRequest{Path: t.unc}
	a, err := t.call(ctx, CommandTreeConnect, callOptions{orphan: t.disconnectLate}, req.AppendBinary)
	if err != nil {
		return nil, s.failure(OpOpenShare, t.unc, err)
	}
	defer a.release()
	if a.Status != StatusSuccess {
		return nil, &Error{Op: OpOpenShare, Path: t.unc, Status: a.Status}
	}
	if t.share, err = ParseTreeConnectResponse(a.msg); err != nil {
		return nil, &Error{Op: OpOpenShare, Path: t.unc, Err: fmt.Errorf("%w: %w", ErrProtocol, err)}
	}
	t.id = a.TreeID
	if t.share.Flags&ShareFlagEncryptData != 0 {
		if s.keys == nil {
			t.Close()
			return nil, &Error{Op: OpOpenShare, Path: t.unc, Err: ErrNotEncrypted}
		}
		t.protect = sealed
	}
	if err := s.checkNegotiation(ctx, t); err != nil {
		t.Close()
		return nil, s.failure(OpOpenShare, t.unc, err)
	}
	if t.share.Type != SharePipe { // its pipes count
		s.use()
		t.mu.Lock()
		t.counted = true
		t.mu.Unlock()
	}
	return t, nil
}

// disconnectLate ends a tree that nobody waits for any more.
func (t *Tree) disconnectLate(msg []byte) {
	if h, err := ParseHeader(msg); err == nil {
		t.id = h.TreeID
		t.Close()
	}
}

// checkNegotiation proves that nobody has changed the negotiation, once in a session (MS-SMB2
// 3.2.5.5). In dialect 3.1.1 the keys prove it.
func (s *Session) checkNegotiation(ctx context.Context, t *Tree) error {
	select {
	case <-s.checked:
		defer func() { s.checked <- struct{}{} }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if s.validate == nil {
		return nil
	}
	req := IOCTLRequest{Code: FSCTLValidateNegotiateInfo, ID: RelatedFileID, Input: s.offer.AppendRequest(nil),
		MaxOutput: 24}
	a, err := t.call(ctx, CommandIOCTL, callOptions{}, req.AppendBinary)
	if err != nil {
		return err
	}
	defer a.release()
	if a.Status == StatusAccessDenied {
		s.c.fail(ErrDowngrade)
		return ErrDowngrade
	}
	if a.Status == StatusSuccess { // servers that do not know it say so, and sign it
		got, err := parseValidateAnswer(a.msg)
		if err != nil || got.Capabilities != s.validate.Capabilities || got.GUID != s.validate.GUID ||
			got.SecurityMode != s.validate.SecurityMode || got.Dialects[0] != s.validate.Dialects[0] {
			s.c.fail(ErrDowngrade)
			return ErrDowngrade
		}
	}
	s.validate = nil
	return nil
}

func parseValidateAnswer(msg []byte) (ValidateNegotiateInfo, error) {
	r, err := ParseIOCTLResponse(msg)
	if err != nil {
		return ValidateNegotiateInfo{}, err
	}
	return ParseValidateNegotiateResponse(r.Output)
}

// Session returns the session of the tree.
func (t *Tree) Session() *Session { return t.s }

// Path returns `\\server\share`.
func (t *Tree) Path() string { return t.unc }

// Type returns the type of the share.
func (t *Tree) Type() ShareType { return t.share.Type }

// Encrypted reports whether the share's messages are encrypted.
func (t *Tree) Encrypted() bool { return t.protect == sealed }

// DFS reports whether the share is a DFS root, which may have links to other servers below it.
func (t *Tree) DFS() bool {
	return t.share.Flags&ShareFlagDFS != 0 || t.share.Capabilities&ShareCapDFS != 0
}

// Close disconnects from the share; the server closes all files that are open in it. Waiting and
// later calls fail with errors that match [net.ErrClosed].
func (t *Tree) Close() error {
	t.mu.Lock()
	was := t.closed
	counted := t.counted
	t.closed, t.counted = true, false
	t.mu.Unlock()
	if counted {
		defer t.s.unuse()
	}
	if was || !t.s.Alive() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	a, err := t.do(ctx, CommandTreeDisconnect, callOptions{},
		func(b []byte) ([]byte, error) { return appendSimple(b), nil })
	if err == nil {
		a.release()
	}
	return nil // the session's end frees it at the latest
}

func (t *Tree) isClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}

// failure makes an *Error of what failed in the share.
func (t *Tree) failure(op, name string, err error) error {
	if t.isClosed() {
		err = net.ErrClosed
	}
	path := t.unc
	if t.share.Type == SharePipe {
		path = `\\` + t.s.server + `\pipe`
	}
	if name != "" {
		path += `\` + strings.TrimPrefix(name, `\`)
	}
	return t.s.failure(op, path, err)
}

// callOptions are what few calls have.
type callOptions struct {
	patient bool             // the answer may take as long as it likes
	orphan  func(msg []byte) // gets the answer, when the server granted what nobody waits for any more
	sent    func()           // called once, when the message was written, or will not be
}

// call sends a request and waits for its answer, whatever its status; a session that has expired is
// logged in again.
func (t *Tree) call(ctx context.Context, command Command, o callOptions, body func([]byte) ([]byte, error)) (answer,
	error) {
	if t.isClosed() {
		if o.sent != nil {
			o.sent()
		}
		return answer{}, net.ErrClosed
	}
	return t.do(ctx, command, o, body)
}

func (t *Tree) do(ctx context.Context, command Command, o callOptions, body func([]byte) ([]byte, error)) (answer,
	error) {
	if o.sent != nil {
		defer o.sent()
	}
	for try := 0; ; try++ {
		gen, err := t.s.ready(ctx)
		if err != nil {
			return answer{}, err
		}
		r, err := t.start(ctx, command, &o, body)
		if err != nil {
			return answer{}, err
		}
		a, err := t.s.c.wait(ctx, r)
		if err != nil || a.Status != StatusNetworkSessionExpired || try == maxRenewals {
			return a, err
		}
		a.release()
		if err := t.s.renew(ctx, gen); err != nil {
			return answer{}, err
		}
	}
}

// start sends a request of one credit.
func (t *Tree) start(ctx context.Context, command Command, o *callOptions, body func([]byte) ([]byte, error)) (*request,
	error) {
	var f frame
	f.begin(t.s.c, 512)
	f.add(command, 1)
	b, err := body(f.b)
	if err != nil {
		f.drop()
		return nil, err
	}
	f.b = b
	res, err := t.s.c.reserve(ctx, 1, 1)
	if err != nil {
		f.drop()
		return nil, err
	}
	r := f.rs[0]
	r.patient, r.orphan = o.patient, o.orphan
	if err := t.s.transmit(&f, t.id, res, t.protect); err != nil {
		return nil, err
	}
	if o.sent != nil {
		o.sent()
	}
	return r, nil
}

// transmit protects a frame and sends it. It ends the frame.
func (s *Session) transmit(f *frame, tree uint32, res reservation, protect protection) error {
	if protect == sealed && s.nonce.Load() >= maxNonce {
		f.drop()
		s.c.fail(errNonces)
		return errNonces
	}
	wire := f.finish(s, tree, res, protect, s.c.ask())
	err := s.c.send(wire, f.rs[:f.n]...)
	f.end()
	return err
}

// expect returns the status of an answer as an error, if it is not one of those.
func expect(a *answer, ok ...Status) error {
	if a.Status == StatusSuccess {
		return nil
	}
	for _, s := range ok {
		if a.Status == s {
			return nil
		}
	}
	return a.Status
}

// malformed makes the error of an answer that cannot be read, which ends the connection.
func (s *Session) malformed(err error) error {
	err = fmt.Errorf("%w: %w", ErrProtocol, err)
	s.c.fail(err)
	return err
}
