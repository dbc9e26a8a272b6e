package fsrvp

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// serve serves s until the test ends, and returns where.
func serve(t testing.TB, s Service, cfg *HandlerConfig) *dcerpctest.Listener {
	srv := &dcerpc.Server{
		Acceptors: []dcerpc.Acceptor{(&dcerpctest.Mechanism{Account: "backup"}).Acceptor()},
		Logger:    slog.New(slog.DiscardHandler),
	}
	Register(srv, s, cfg)
	l := dcerpctest.Listen()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, srv.Close())
		require.ErrorIs(t, <-done, net.ErrClosed)
	})
	return l
}

func testConfig(l *dcerpctest.Listener) *Config {
	return &Config{Transport: l, Auth: (&dcerpctest.Mechanism{Account: "backup"}).Initiator()}
}

func dial(t testing.TB, cfg *Config) *Client {
	c, err := Dial(context.Background(), "fs1", cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

var quiet = &HandlerConfig{Logger: slog.New(slog.DiscardHandler)}

// A method of a Service: how it is called, what the other side has to see of it, and what it has to
// return.
type methodCase struct {
	op   Opnum
	call func(ctx context.Context, s Service) (any, error)
	sent Message
	got  any
}

func methodCases(f *fakeService) []methodCase {
	set, cpy, client := SetID{1, 2, 3}, CopyID{4, 5, 6}, SetID{7}
	const share = `\\FS01\bücher$\`
	none := func(err error) (any, error) { return nil, err }
	return []methodCase{
		{OpGetSupportedVersion, func(ctx context.Context, s Service) (any, error) { return s.GetSupportedVersion(ctx) },
			&GetSupportedVersionRequest{}, f.versions},
		{OpSetContext, func(ctx context.Context, s Service) (any, error) {
			return none(s.SetContext(ctx, ContextNASRollback|AttrAutoRecovery))
		}, &SetContextRequest{0x400019}, nil},
		{OpStartShadowCopySet, func(ctx context.Context, s Service) (any, error) { return s.StartShadowCopySet(ctx, client) },
			&StartShadowCopySetRequest{client}, f.set},
		{OpAddToShadowCopySet, func(ctx context.Context, s Service) (any, error) {
			return s.AddToShadowCopySet(ctx, cpy, set, share)
		}, &AddToShadowCopySetRequest{cpy, set, share}, f.copy},
		{OpCommitShadowCopySet, func(ctx context.Context, s Service) (any, error) {
			return none(s.CommitShadowCopySet(ctx, set, time.Minute))
		}, &CommitShadowCopySetRequest{set, 60000}, nil},
		{OpExposeShadowCopySet, func(ctx context.Context, s Service) (any, error) {
			return none(s.ExposeShadowCopySet(ctx, set, time.Millisecond))
		}, &ExposeShadowCopySetRequest{set, 1}, nil},
		{OpRecoveryCompleteShadowCopySet, func(ctx context.Context, s Service) (any, error) {
			return none(s.RecoveryCompleteShadowCopySet(ctx, set))
		}, &RecoveryCompleteShadowCopySetRequest{set}, nil},
		{OpAbortShadowCopySet, func(ctx context.Context, s Service) (any, error) {
			return none(s.AbortShadowCopySet(ctx, set))
		}, &AbortShadowCopySetRequest{set}, nil},
		{OpIsPathSupported, func(ctx context.Context, s Service) (any, error) { return s.IsPathSupported(ctx, share) },
			&IsPathSupportedRequest{share}, f.support},
		{OpIsPathShadowCopied, func(ctx context.Context, s Service) (any, error) { return s.IsPathShadowCopied(ctx, share) },
			&IsPathShadowCopiedRequest{share}, f.copied},
		{OpGetShareMapping, func(ctx context.Context, s Service) (any, error) {
			return s.GetShareMapping(ctx, cpy, set, share, 1)
		}, &GetShareMappingRequest{cpy, set, share, 1}, f.mapping},
		{OpDeleteShareMapping, func(ctx context.Context, s Service) (any, error) {
			return none(s.DeleteShareMapping(ctx, set, cpy, share))
		}, &DeleteShareMappingRequest{set, cpy, share}, nil},
		{OpPrepareShadowCopySet, func(ctx context.Context, s Service) (any, error) {
			return none(s.PrepareShadowCopySet(ctx, set, MaxWait))
		}, &PrepareShadowCopySetRequest{set, math.MaxUint32}, nil},
	}
}

func newFake() *fakeService {
	return &fakeService{
		versions: Versions{1, 1}, set: SetID{9}, copy: CopyID{8},
		support: PathSupport{Supported: true, Owner: "FS01"},
		copied:  PathShadowCopied{Present: true, Compatibility: DisableDefrag},
		mapping: &ShareMapping{
			SetID: SetID{9}, CopyID: CopyID{8}, Share: `\\FS01\data`, Exposed: "data@{x}",
			Created: time.Date(2024, 11, 21, 10, 35, 52, 194651000, time.UTC),
		},
	}
}

// Every method, in every syntax, from a Client through a Server to a Service and back: what is
// asked and answered arrives, with success and with a status, and then with results in addition to
// it.
func TestClientServer(t *testing.T) {
	for _, s := range syntaxes {
		t.Run(s.String(), func(t *testing.T) {
			fake := newFake()
			cfg := testConfig(serve(t, fake, quiet))
			cfg.Syntaxes = []ndr.Syntax{s}
			c := dial(t, cfg)
			require.Equal(t, s, c.Conn().Syntax())
			cases := methodCases(fake)
			require.Len(t, cases, int(opnums))
			for i, tt := range cases {
				require.EqualValues(t, i, tt.op)
				t.Run(tt.op.String(), func(t *testing.T) {
					for _, status := range []Status{0, ErrBadState, ErrWaitTimeout, ErrWaitFailed} {
						fake.answer(status.Err(), nil)
						got, err := tt.call(t.Context(), c)
						require.Equal(t, tt.sent, fake.last())
						require.Equal(t, tt.got, got)
						if status.IsSuccess() {
							require.NoError(t, err)
							continue
						}
						require.ErrorIs(t, err, status)
						require.Equal(t, &Error{Server: "fs1", Op: tt.op, Status: status}, err)
					}
				})
			}
		})
	}
}

// What a Service has no value for is NULL on the wire, and comes back as no value.
func TestClientServerNull(t *testing.T) {
	fake := &fakeService{mapping: &ShareMapping{}}
	c := dial(t, testConfig(serve(t, fake, quiet)))
	p, err := c.IsPathSupported(t.Context(), "x")
	require.NoError(t, err)
	require.Zero(t, p)
	m, err := c.GetShareMapping(t.Context(), CopyID{}, SetID{}, "x", 1)
	require.NoError(t, err)
	require.Equal(t, &ShareMapping{}, m, "the zero time survives")
	fake.mapping = nil
	m, err = c.GetShareMapping(t.Context(), CopyID{}, SetID{}, "x", 1)
	require.NoError(t, err)
	require.Nil(t, m)
	fake.mapping = &ShareMapping{}
	fake.answer(ErrInvalidArg, nil)
	m, err = c.GetShareMapping(t.Context(), CopyID{}, SetID{}, "x", 7)
	require.ErrorIs(t, err, ErrInvalidArg)
	require.Nil(t, m, "there is no mapping at other levels")
}

func TestClientBadArguments(t *testing.T) {
	fake := newFake()
	c := dial(t, testConfig(serve(t, fake, quiet)))
	require.Error(t, c.CommitShadowCopySet(t.Context(), SetID{}, -1))
	require.Error(t, c.ExposeShadowCopySet(t.Context(), SetID{}, MaxWait+1))
	_, err := c.IsPathSupported(t.Context(), "a\x00b")
	require.ErrorIs(t, err, ndr.ErrBadValue)
	require.Nil(t, fake.last(), "nothing was sent")
	_, err = c.IsPathSupported(t.Context(), "\\\\fs1\\\xed\xa0\x80")
	require.NoError(t, err)
	require.Equal(t, &IsPathSupportedRequest{"\\\\fs1\\\xed\xa0\x80"}, fake.last(),
		"what a share may be called the server decides")
}

func TestDialErrors(t *testing.T) {
	_, err := Dial(t.Context(), "fs1", nil)
	require.Error(t, err)
	_, err = Dial(t.Context(), "fs1", &Config{})
	require.Error(t, err)
	l := serve(t, newFake(), quiet)
	_, err = Dial(t.Context(), "fs1", &Config{Transport: l})
	require.ErrorContains(t, err, "LevelInsecureNone", "no security unless asked for")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Dial(ctx, "fs1", testConfig(l))
	require.ErrorIs(t, err, context.Canceled)
}

// The service principal name is host/ and the server's name, unless the Config has one.
func TestDialTarget(t *testing.T) {
	for target, want := range map[string]string{"": "host/fs1", "cifs/other": "cifs/other"} {
		cfg := testConfig(serve(t, newFake(), quiet))
		auth := &targetRecorder{Initiator: cfg.Auth}
		cfg.Auth, cfg.Target = auth, target
		dial(t, cfg)
		require.Equal(t, want, auth.target)
		require.Equal(t, dcerpc.LevelPrivacy, auth.level)
	}
}

// Header signing is offered, and used, unless the Config switches it off.
func TestDialHeaderSigning(t *testing.T) {
	for _, off := range []bool{false, true} {
		cfg := testConfig(serve(t, newFake(), quiet))
		cfg.NoHeaderSigning = off
		var mu sync.Mutex
		var flags []pdu.Flags // of bind and bind_ack
		cfg.Trace = func(p dcerpc.TracedPDU) {
			h, err := pdu.ParseHeader(p.PDU)
			if err == nil && (h.Type == pdu.TypeBind || h.Type == pdu.TypeBindAck) {
				mu.Lock()
				defer mu.Unlock()
				flags = append(flags, h.Flags&pdu.SupportHeaderSign)
			}
		}
		c := dial(t, cfg)
		_, err := c.GetSupportedVersion(t.Context())
		require.NoError(t, err)
		want := []pdu.Flags{pdu.SupportHeaderSign, pdu.SupportHeaderSign}
		if off {
			want = []pdu.Flags{0, 0}
		}
		mu.Lock()
		require.Equal(t, want, flags)
		mu.Unlock()
	}
}

type targetRecorder struct {
	dcerpc.Initiator
	target string
	level  dcerpc.AuthLevel
}

func (r *targetRecorder) NewContext(target string, level dcerpc.AuthLevel) (dcerpc.Context, error) {
	r.target, r.level = target, level
	return r.Initiator.NewContext(target, level)
}

func TestClientClose(t *testing.T) {
	fake := newFake()
	began := make(chan struct{})
	fake.answer(nil, func(ctx context.Context) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	})
	c := dial(t, testConfig(serve(t, fake, quiet)))
	done := make(chan error)
	go func() { done <- c.CommitShadowCopySet(context.Background(), SetID{}, 0) }()
	<-began
	require.NoError(t, c.Close())
	require.ErrorIs(t, <-done, net.ErrClosed)
	require.ErrorIs(t, c.SetContext(t.Context(), 0), net.ErrClosed)
}

// A call whose context ends returns at once; the connection lives on.
func TestClientCancel(t *testing.T) {
	fake := newFake()
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	fake.answer(nil, func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		stopped <- ctx.Err()
		return ctx.Err()
	})
	c := dial(t, testConfig(serve(t, fake, quiet)))
	err := c.CommitShadowCopySet(ctx, SetID{}, time.Hour)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, <-stopped, context.Canceled, "the server is told")
	fake.answer(nil, nil)
	require.NoError(t, c.SetContext(t.Context(), 0))
}

// A server that does not answer is given up after CallTimeout, and the wait that it was told in
// addition.
func TestClientCallTimeout(t *testing.T) {
	for _, tt := range []struct {
		timeout, wait, want time.Duration
	}{
		{0, 0, 180 * time.Second},
		{0, time.Minute, 240 * time.Second},
		{10 * time.Second, 30 * time.Minute, 30*time.Minute + 10*time.Second},
		{-1, time.Second, 1000 * time.Hour}, // the context's
	} {
		synctest.Test(t, func(t *testing.T) {
			fake := newFake()
			fake.answer(nil, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
			cfg := testConfig(serve(t, fake, quiet))
			cfg.CallTimeout = tt.timeout
			c := dial(t, cfg)
			ctx, cancel := context.WithTimeout(t.Context(), 1000*time.Hour)
			defer cancel()
			began := time.Now()
			err := c.PrepareShadowCopySet(ctx, SetID{}, tt.wait)
			require.Equal(t, tt.want, time.Since(began))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			fake.answer(nil, nil)
			err = c.SetContext(t.Context(), 0)
			if tt.timeout >= 0 {
				require.ErrorContains(t, err, "closed")
				require.ErrorIs(t, err, net.ErrClosed, "MS-FSRVP 3.2.5")
			} else {
				require.NoError(t, err, "the caller's own time-out does not close the connection")
			}
		})
	}
}

// Answers that make no sense are the peer's fault, and no status.
func TestClientBadAnswers(t *testing.T) {
	var answer []byte
	srv := &dcerpc.Server{Logger: slog.New(slog.DiscardHandler)}
	srv.Handle(Interface(), handlerFunc(func(_ context.Context, call *dcerpc.Call) error {
		call.Response = append(call.Response, answer...)
		return nil
	}), &dcerpc.InterfaceOptions{MinLevel: dcerpc.LevelInsecureNone})
	l := dcerpctest.Listen()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	defer func() {
		require.NoError(t, srv.Close())
		<-done
	}()
	c := dial(t, &Config{Transport: l, Level: dcerpc.LevelInsecureNone, Syntaxes: []ndr.Syntax{ndr.NDR20}})

	_, err := c.GetSupportedVersion(t.Context())
	require.ErrorIs(t, err, dcerpc.ErrBadPeer)
	require.ErrorIs(t, err, ndr.ErrBadStub)
	require.ErrorContains(t, err, "GetSupportedVersion on fs1")
	answer = []byte{2, 0, 0, 0, 0, 0, 0, 0}
	_, err = c.GetShareMapping(t.Context(), CopyID{}, SetID{}, "x", 1)
	require.ErrorIs(t, err, dcerpc.ErrBadPeer)
	require.ErrorContains(t, err, "level 1 asked for, 2 answered")
	var status *Error
	require.False(t, errors.As(err, &status))
}

type handlerFunc func(context.Context, *dcerpc.Call) error

func (f handlerFunc) ServeRPC(ctx context.Context, call *dcerpc.Call) error { return f(ctx, call) }

// A fault is neither a status nor the connection's end.
func TestClientFault(t *testing.T) {
	fake := newFake()
	fake.answer(nil, func(context.Context) error { panic("as asked") })
	c := dial(t, testConfig(serve(t, fake, quiet)))
	err := c.SetContext(t.Context(), 0)
	require.ErrorIs(t, err, dcerpc.ErrUnspecified)
	require.ErrorContains(t, err, "SetContext on fs1")
	fake.answer(nil, nil)
	require.NoError(t, c.SetContext(t.Context(), 0))
}

func TestClientLogs(t *testing.T) {
	var out bytes.Buffer
	fake := newFake()
	cfg := testConfig(serve(t, fake, quiet))
	cfg.Logger = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c := dial(t, cfg)
	require.NoError(t, c.SetContext(t.Context(), 0))
	require.Contains(t, out.String(), "op=SetContext")
	fake.answer(ErrBadState, nil)
	require.Error(t, c.AbortShadowCopySet(t.Context(), SetID{}))
	require.Contains(t, out.String(), "FSRVP_E_BAD_STATE")
}

// NewClient works on a connection that somebody else has bound, and says where it leads.
func TestNewClient(t *testing.T) {
	l := serve(t, &fakeService{err: ErrBadState}, quiet)
	conn, err := l.Dial(t.Context())
	require.NoError(t, err)
	cc, err := dcerpc.NewClientConn(t.Context(), conn, Interface(), &dcerpc.Config{Auth: testConfig(l).Auth})
	require.NoError(t, err)
	c := NewClient(cc, nil)
	defer c.Close()
	require.Same(t, cc, c.Conn())
	err = c.SetContext(t.Context(), 0)
	require.ErrorIs(t, err, ErrBadState)
	require.ErrorContains(t, err, "SetContext on server")
}
