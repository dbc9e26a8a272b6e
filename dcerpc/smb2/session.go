package smb2

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/netaddr"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
)

const (
	// maxLegs is more than any mechanism needs.
	maxLegs = 16
	// maxNonce is how many messages are encrypted under one key: some 2^41 blocks of AES for each
	// of them keep below the 2^61 of NIST SP 800-38C for all.
	maxNonce = 1 << 40
)

// A Session is one user's session on one connection to a server. It may be used by several
// goroutines at once.
//
// If a session's ticket has expired and the server says so, the session is logged in again, and
// requests that failed for that reason are repeated.
type Session struct {
	c      *conn
	cfg    *Config
	server string

	id       uint64
	dialect  Dialect
	cipher   Cipher
	signing  SigningAlgorithm
	largeMTU bool
	maxRead  int // bytes, at least 64 KiB
	encrypt  bool
	signer   *Signer
	keys     *Keys // nil without encryption
	nonce    atomic.Uint64
	// what the negotiation is to be checked against, below dialect 3.1.1; nil after that
	validate *ValidateNegotiateInfo
	offer    *ValidateNegotiateInfo

	mu      sync.Mutex
	gen     int           // how often the session was logged in again
	renewal *renewal      // that is underway; nil if none
	uses    int           // shares and pipes that are open
	retired bool          // the last of them ends the session
	checked chan struct{} // a token: the right to validate the negotiation
}

// A renewal is a log-in of a session that has expired.
type renewal struct {
	done chan struct{}
	err  error // valid then
}

// Dial connects to a server, given as a host name or an address, and logs in. The context bounds
// only Dial itself. Errors are [*Error]s.
func Dial(ctx context.Context, server string, cfg *Config) (*Session, error) {
	path := `\\` + server
	dial := cfg.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	connecting, cancel := withTimeout(ctx, cfg.ConnectTimeout, 30*time.Second)
	nc, err := dial(connecting, "tcp", netaddr.Join(server, cmp.Or(cfg.Port, "445")))
	cancel()
	if err != nil {
		return nil, &Error{Op: OpConnect, Path: path, Err: err}
	}
	return NewSession(ctx, nc, server, cfg)
}

// NewSession logs in to the server at the other end of nc, and owns nc from then on.
func NewSession(ctx context.Context, nc net.Conn, server string, cfg *Config) (_ *Session, err error) {
	s := &Session{
		c: newConn(nc, cfg), cfg: cfg, server: server, checked: make(chan struct{}, 1),
	}
	s.checked <- struct{}{}
	defer func() {
		if err != nil {
			s.c.fail(net.ErrClosed)
		}
	}()
	path := `\\` + server
	if cfg.Auth == nil {
		return nil, &Error{Op: OpLogin, Path: path, Err: errors.New("there is no Auth to log in by")}
	}
	negotiating, cancel := withTimeout(ctx, cfg.NegotiateTimeout, 30*time.Second)
	hash, err := s.negotiate(negotiating)
	cancel()
	if err != nil {
		return nil, s.failure(OpConnect, path, err)
	}
	login, cancel := withTimeout(ctx, cfg.LoginTimeout, 60*time.Second)
	defer cancel()
	if err := s.login(login, hash); err != nil {
		e := s.failure(OpLogin, path, err)
		e.Target = s.target()
		return nil, e
	}
	return s, nil
}

func (s *Session) target() string { return "cifs/" + s.server }

// failure makes an *Error.
func (s *Session) failure(op, path string, err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return &Error{Op: op, Path: path, Status: e.Status, Err: e.Err, Target: e.Target}
	}
	var status Status
	if errors.As(err, &status) && err == error(status) {
		return &Error{Op: op, Path: path, Status: status}
	}
	return &Error{Op: op, Path: path, Err: err}
}

// Server returns the name by which the server was dialled.
func (s *Session) Server() string { return s.server }

// Dialect returns the negotiated version of SMB.
func (s *Session) Dialect() Dialect { return s.dialect }

// Cipher returns the cipher of the connection; zero means that it has none.
func (s *Session) Cipher() Cipher { return s.cipher }

// Signing returns the signing algorithm of the connection.
func (s *Session) Signing() SigningAlgorithm { return s.signing }

// Encrypted reports whether everything is encrypted; if not, everything is signed, except on shares
// that require encryption.
func (s *Session) Encrypted() bool { return s.encrypt }

// LocalAddr returns the local address of the connection.
func (s *Session) LocalAddr() net.Addr { return s.c.nc.LocalAddr() }

// RemoteAddr returns the remote address of the connection.
func (s *Session) RemoteAddr() net.Addr { return s.c.nc.RemoteAddr() }

// Done returns a channel that is closed when either side has ended the session.
func (s *Session) Done() <-chan struct{} { return s.c.failed }

// Err returns the reason why the session has ended, or nil if it has not.
func (s *Session) Err() error { return s.c.broken() }

// Alive reports whether the session has not ended.
func (s *Session) Alive() bool {
	select {
	case <-s.c.failed:
		return false
	default:
		return true
	}
}

// Close ends the connection, so that the server ends the session and closes everything that is open
// in it. Waiting calls fail with errors that match [net.ErrClosed].
func (s *Session) Close() error {
	s.c.fail(net.ErrClosed)
	<-s.c.ended
	return nil
}

// Retire makes the session end when the last share and the last pipe in it are closed. No more can
// be opened in it.
func (s *Session) Retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired = true
	s.endIfIdleLocked()
}

// Retired reports whether Retire was called, or the session has ended.
func (s *Session) Retired() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retired || !s.Alive()
}

func (s *Session) use() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses++
}

func (s *Session) unuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses--
	s.endIfIdleLocked()
}

func (s *Session) endIfIdleLocked() {
	if s.retired && s.uses <= 0 {
		s.c.fail(net.ErrClosed)
	}
}

func (s *Session) log() *slog.Logger { return s.cfg.logger().With("server", s.server) }

// exchange sends one message of those that open a session, and waits for its answer. Sent is called
// with the message.
func (s *Session) exchange(ctx context.Context, command Command, protect protection, body func([]byte) ([]byte, error),
	sent func(msg []byte)) (answer, error) {
	res, err := s.c.reserve(ctx, 1, 1)
	if err != nil {
		return answer{}, err
	}
	var f frame
	f.begin(s.c, 1024)
	f.add(command, 1)
	if f.b, err = body(f.b); err != nil {
		f.drop()
		s.c.fail(err) // the message id is lost
		return answer{}, err
	}
	if protect == sealed && s.nonce.Load() >= maxNonce {
		f.drop()
		s.c.fail(errNonces)
		return answer{}, errNonces
	}
	wire := f.finish(s, 0, res, protect, 0)
	if sent != nil {
		sent(wire[4:])
	}
	r := f.rs[0]
	err = s.c.send(wire, r)
	f.end()
	if err != nil {
		return answer{}, err
	}
	return s.c.wait(ctx, r)
}

// errNonces says that a key has encrypted as much as it may.
var errNonces = fmt.Errorf("%w: the session's key has encrypted as many messages as it may; dial again",
	io.ErrUnexpectedEOF)

// negotiate agrees on dialect and algorithms (MS-SMB2 3.2.4.2.2.2, 3.2.5.2).
func (s *Session) negotiate(ctx context.Context) (hash Preauth, err error) {
	req := NegotiateRequest{SecurityMode: SigningEnabled | SigningRequired, Capabilities: CapLargeMTU,
		Dialects: s.cfg.dialects()}
	rand.Read(req.ClientGUID[:])
	if slices.ContainsFunc(req.Dialects, func(d Dialect) bool { return d >= SMB300 }) {
		req.Capabilities |= CapEncryption
	}
	if slices.Contains(req.Dialects, SMB311) {
		salt := make([]byte, 32)
		rand.Read(salt)
		req.Contexts = []NegotiateContext{PreauthContext(salt), EncryptionContext(s.cfg.ciphers()...),
			SigningContext(s.cfg.signing()...)}
		if name, err := AppendName(nil, s.server); err == nil {
			req.Contexts = append(req.Contexts, NegotiateContext{ContextNetname, name})
		}
	}
	a, err := s.exchange(ctx, CommandNegotiate, unprotected, req.AppendBinary,
		func(msg []byte) { hash = hash.Add(msg) })
	if err != nil {
		return hash, err
	}
	defer a.release()
	if a.Status != StatusSuccess {
		return hash, a.Status
	}
	hash = hash.Add(a.msg)
	r, err := ParseNegotiateResponse(a.msg)
	if err != nil {
		return hash, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return hash, s.take(&req, &r)
}

// take takes the server's choice.
func (s *Session) take(req *NegotiateRequest, r *NegotiateResponse) (err error) {
	if !slices.Contains(req.Dialects, r.Dialect) {
		return fmt.Errorf("%w: it chose %v, which was not offered", ErrProtocol, r.Dialect)
	}
	s.dialect = r.Dialect
	if s.cipher, err = r.Cipher(); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if s.signing, err = r.Signing(); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if r.Dialect == SMB311 {
		id, has, err := r.chosen(ContextPreauth)
		switch {
		case err != nil || !has || id != hashSHA512:
			return fmt.Errorf("%w: no hash of pre-authentication integrity (%w)", ErrProtocol, cmp.Or(err, ErrMessage))
		case s.cipher != 0 && !slices.Contains(s.cfg.ciphers(), s.cipher):
			return fmt.Errorf("%w: it chose %v, which was not offered", ErrProtocol, s.cipher)
		case s.signing != AESCMAC && !slices.Contains(s.cfg.signing(), s.signing):
			return fmt.Errorf("%w: it chose %v, which was not offered", ErrProtocol, s.signing)
		}
	}
	if s.cfg.Encrypt && s.cipher == 0 {
		return fmt.Errorf("%w (%v, SMB 3 and a cipher of %v are needed)", ErrNotEncrypted, s.dialect, s.cfg.ciphers())
	}
	if r.MaxReadSize < creditSize || r.MaxTransactSize < creditSize {
		return fmt.Errorf("%w: it reads %d bytes at most", ErrProtocol, min(r.MaxReadSize, r.MaxTransactSize))
	}
	s.largeMTU = r.Capabilities&CapLargeMTU != 0
	s.maxRead = creditSize
	if s.largeMTU {
		s.maxRead = int(min(r.MaxReadSize, maxTransfer))
	}
	s.c.mu.Lock()
	s.c.maxFrame = max(s.maxRead, int(min(r.MaxTransactSize, maxTransfer))) + frameSlack
	s.c.mu.Unlock()
	if s.dialect != SMB311 && req.Dialects[len(req.Dialects)-1] >= SMB300 {
		s.offer = &ValidateNegotiateInfo{req.Capabilities, req.ClientGUID, req.SecurityMode, req.Dialects}
		s.validate = &ValidateNegotiateInfo{r.Capabilities, r.ServerGUID, r.SecurityMode, []Dialect{r.Dialect}}
	}
	return nil
}

// newContext starts a context of the user's security.
func (s *Session) newContext() (dcerpc.Context, error) {
	auth := s.cfg.Auth
	if m, ok := auth.(spnego.InitiatorMechanism); ok && auth.AuthType() != dcerpc.AuthSPNEGO {
		negotiate, err := spnego.NewInitiator(m)
		if err != nil {
			return nil, err
		}
		auth = negotiate
	}
	return auth.NewContext(s.target(), dcerpc.LevelPrivacy)
}

// sessionKeyer is a security context with a key for protocols that derive theirs from it (MS-SMB2
// 3.2.5.3).
type sessionKeyer interface{ SessionKey() []byte }

// A leg sends one token and returns the answer.
type leg func(ctx context.Context, token []byte) (answer, error)

// authenticate runs the exchange of tokens, and returns the security context, and the last answer,
// unverified if the session is new.
func (s *Session) authenticate(ctx context.Context, do leg) (dcerpc.Context, answer, error) {
	sec, err := s.newContext()
	if err != nil {
		return nil, answer{}, err
	}
	token, done, err := sec.Step(ctx, nil)
	if err != nil {
		return nil, answer{}, err
	}
	for range maxLegs {
		a, err := do(ctx, token)
		if err != nil {
			return nil, answer{}, err
		}
		token, done, err = s.step(ctx, sec, &a, done)
		if err != nil {
			a.release()
			return nil, answer{}, err
		}
		if a.Status == StatusSuccess {
			return sec, a, nil
		}
		a.release()
	}
	return nil, answer{}, fmt.Errorf("%w: a log-in without an end", ErrProtocol)
}

// step takes one answer of a log-in.
func (s *Session) step(ctx context.Context, sec dcerpc.Context, a *answer, done bool) ([]byte, bool, error) {
	if a.Status != StatusSuccess && a.Status != StatusMoreProcessing {
		return nil, false, a.Status
	}
	r, err := ParseSessionSetupResponse(a.msg)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	// With either of these flags nothing is signed from then on, as whoever sits in between may
	// wish.
	if r.Flags&(SessionIsGuest|SessionIsNull) != 0 {
		return nil, false, ErrGuest
	}
	var token []byte
	if len(r.Token) > 0 || !done {
		if done {
			return nil, false, fmt.Errorf("%w: a token after the log-in's end", ErrProtocol)
		}
		if token, done, err = sec.Step(ctx, r.Token); err != nil {
			return nil, false, err
		}
	}
	switch {
	case a.Status == StatusSuccess && (!done || len(token) > 0):
		return nil, false, fmt.Errorf("%w: the log-in ended before the server has proved who it is", ErrProtocol)
	case a.Status == StatusMoreProcessing && len(token) == 0:
		return nil, false, fmt.Errorf("%w: it waits for a token, and all were sent", ErrProtocol)
	}
	return token, done, nil
}

// login makes the session (MS-SMB2 3.2.4.2.3, 3.2.5.3.1).
func (s *Session) login(ctx context.Context, hash Preauth) error {
	sec, a, err := s.authenticate(ctx, func(ctx context.Context, token []byte) (answer, error) {
		req := SessionSetupRequest{SecurityMode: SigningEnabled | SigningRequired, Token: token}
		a, err := s.exchange(ctx, CommandSessionSetup, unprotected, req.AppendBinary,
			func(msg []byte) { hash = hash.Add(msg) })
		if err != nil {
			return a, err
		}
		if a.Status == StatusMoreProcessing {
			hash = hash.Add(a.msg)
			if s.id != 0 && a.SessionID != s.id {
				a.release()
				return answer{}, fmt.Errorf("%w: the session's id has changed", ErrProtocol)
			}
			s.id = a.SessionID
		}
		return a, nil
	})
	if err != nil {
		return err
	}
	defer a.release()
	if s.id = a.SessionID; s.id == 0 {
		return fmt.Errorf("%w: a session without an id", ErrProtocol)
	}
	var key []byte
	if k, ok := sec.(sessionKeyer); ok {
		key = k.SessionKey()
	}
	if len(key) == 0 {
		return errors.New("the mechanism has no session key, from which SMB derives its own")
	}
	if s.signer, err = NewSigner(s.dialect, s.signing, key, hash); err != nil {
		return err
	}
	if s.cipher != 0 {
		if s.keys, err = DeriveKeys(s.dialect, s.cipher, key, hash); err != nil {
			return err
		}
	}
	if !s.signer.Verify(a.msg) {
		return ErrNotSigned
	}
	r, err := ParseSessionSetupResponse(a.msg)
	if err != nil {
		return err
	}
	s.encrypt = s.cfg.Encrypt || r.Flags&SessionEncryptData != 0
	if s.encrypt && s.keys == nil {
		return ErrNotEncrypted
	}
	s.c.mu.Lock()
	s.c.session = s
	s.c.mu.Unlock()
	return nil
}

// protection is what a session's messages have, those of no share.
func (s *Session) protection() protection {
	if s.encrypt {
		return sealed
	}
	return signed
}

// ready waits while the session is being logged in again, and returns how often it was.
func (s *Session) ready(ctx context.Context) (gen int, err error) {
	for {
		s.mu.Lock()
		r, gen := s.renewal, s.gen
		s.mu.Unlock()
		if r == nil {
			return gen, nil
		}
		if err := s.await(ctx, r); err != nil {
			return 0, err
		}
	}
}

func (s *Session) await(ctx context.Context, r *renewal) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// renew logs the session in again, after a request that was sent when it had been so gen times was
// refused since it has expired (MS-SMB2 3.2.5.1.6). Whoever needs it waits for the one log-in.
func (s *Session) renew(ctx context.Context, gen int) error {
	s.mu.Lock()
	if s.gen != gen {
		s.mu.Unlock()
		return nil
	}
	r := s.renewal
	if r == nil {
		r = &renewal{done: make(chan struct{})}
		s.renewal = r
		go s.runRenewal(r)
	}
	s.mu.Unlock()
	return s.await(ctx, r)
}

func (s *Session) runRenewal(r *renewal) {
	ctx, cancel := withTimeout(context.Background(), s.cfg.LoginTimeout, 60*time.Second)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() { // a mechanism may wait for its KDC
		select {
		case <-s.c.failed:
			cancel()
		case <-stop:
		}
	}()
	_, a, err := s.authenticate(ctx, func(ctx context.Context, token []byte) (answer, error) {
		req := SessionSetupRequest{SecurityMode: SigningEnabled | SigningRequired, Token: token}
		return s.exchange(ctx, CommandSessionSetup, s.protection(), req.AppendBinary, nil)
	})
	if err == nil {
		a.release()
		s.log().Info("smb: the session had expired, and was logged in again")
	} else {
		e := s.failure(OpLogin, `\\`+s.server, err)
		e.Target = s.target()
		err = fmt.Errorf("the session has expired, and cannot be logged in again: %w", e)
		s.log().Warn("smb: the session has expired, and cannot be logged in again", "err", e)
		s.c.fail(fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err))
	}
	s.mu.Lock()
	if err == nil {
		s.gen++
	}
	s.renewal = nil
	s.mu.Unlock()
	r.err = err
	close(r.done)
}

// echo asks the server whether it is there; the watchdog judges.
func (s *Session) echo() {
	a, err := s.exchange(context.Background(), CommandEcho, s.protection(),
		func(b []byte) ([]byte, error) { return appendSimple(b), nil }, nil)
	if err == nil {
		a.release() // an error status too proves that the server is there
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.echoing = false
}

// spend uses a reservation of one credit up, by an ECHO that nobody waits for.
func (s *Session) spend(res reservation) {
	var f frame
	f.begin(s.c, 128)
	f.add(CommandEcho, 1)
	f.b = appendSimple(f.b)
	f.rs[0].abandoned = true
	_ = s.transmit(&f, 0, res, s.protection()) // the session's end says why
}

// cancelTime is how long a connection that takes no more bytes holds up whoever gives a request up.
const cancelTime = 100 * time.Millisecond

// cancelRequest sends a CANCEL, if it can without delay before it returns, so that a CLOSE comes
// after it.
func (s *Session) cancelRequest(id uint64, async bool, asyncID uint64, protect protection) {
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		s.sendCancel(id, async, asyncID, protect)
	}()
	timer := time.NewTimer(cancelTime)
	defer timer.Stop()
	select {
	case <-sent:
	case <-timer.C:
	}
}

// sendCancel has the server end a request (MS-SMB2 3.2.4.24). It is not answered, and costs no
// credit.
func (s *Session) sendCancel(id uint64, async bool, asyncID uint64, protect protection) {
	if protect == sealed && s.nonce.Load() >= maxNonce {
		return
	}
	h := Header{Command: CommandCancel, MessageID: id, SessionID: s.id}
	if async {
		h.Flags, h.AsyncID = FlagAsync, asyncID
	}
	var f frame
	f.begin(s.c, 128)
	defer f.end()
	f.starts[0] = len(f.b)
	f.b, _ = h.AppendBinary(f.b) // has no errors
	f.b = appendSimple(f.b)
	if protect == signed {
		s.signer.Sign(f.b[f.starts[0]:])
	}
	_ = s.c.send(f.wire(s, protect)) // nobody waits
}

// splitUNC takes `\\server\share` apart; slashes do as well.
func splitUNC(unc string) (server, share string, err error) {
	s, ok := strings.CutPrefix(strings.ReplaceAll(unc, "/", `\`), `\\`)
	server, share, _ = strings.Cut(s, `\`)
	share = strings.TrimSuffix(share, `\`)
	if !ok || server == "" || share == "" || strings.ContainsAny(share, "\\\x00") {
		return "", "", fmt.Errorf(`smb: %q is not a share's name, as \\server\share is`, unc)
	}
	return server, share, nil
}

// SplitUNC splits `\\server\share`, with or without a backslash at its end, into server and share.
// It also accepts slashes.
func SplitUNC(unc string) (server, share string, err error) { return splitUNC(unc) }
