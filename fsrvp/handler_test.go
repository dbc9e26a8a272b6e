package fsrvp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// ask gives a request to a handler, as a call of peer, and returns the response.
func ask(ctx context.Context, h dcerpc.Handler, req Message, s ndr.Syntax) (Response, error) {
	stub, err := req.Append(nil, s)
	if err != nil {
		return nil, err
	}
	answer := s
	if s == ndr.NDR20BE {
		answer = ndr.NDR20 // responses are little-endian always
	}
	call := &dcerpc.Call{Opnum: uint16(req.Opnum()), Syntax: s, Stub: stub, ResponseSyntax: answer}
	if err := h.ServeRPC(ctx, call); err != nil {
		return nil, err
	}
	return ParseResponse(req.Opnum(), answer, call.Response)
}

func withLevel(t *testing.T, typ dcerpc.AuthType, level dcerpc.AuthLevel, session bool) context.Context {
	return dcerpc.WithPeer(t.Context(), dcerpc.Peer{AuthType: typ, Level: level, Session: session})
}

func signed(t *testing.T) context.Context {
	return withLevel(t, dcerpc.AuthKerberos, dcerpc.LevelIntegrity, false)
}

// Who is let through: every method answers E_ACCESSDENIED to the others, with a whole response, and
// the Service is not asked.
func TestHandlerAccess(t *testing.T) {
	for _, tt := range []struct {
		name    string
		cfg     HandlerConfig
		typ     dcerpc.AuthType
		level   dcerpc.AuthLevel
		session bool
		denied  bool
	}{
		{"privacy", HandlerConfig{}, dcerpc.AuthKerberos, dcerpc.LevelPrivacy, false, false},
		{"integrity", HandlerConfig{}, dcerpc.AuthNTLM, dcerpc.LevelIntegrity, false, false},
		{"packet", HandlerConfig{}, dcerpc.AuthNTLM, dcerpc.LevelPacket, false, true},
		{"connect", HandlerConfig{}, dcerpc.AuthKerberos, dcerpc.LevelInsecureConnect, false, true},
		{"none", HandlerConfig{}, dcerpc.AuthNone, dcerpc.LevelInsecureNone, false, true},
		{"an SMB session alone", HandlerConfig{}, dcerpc.AuthNone, dcerpc.LevelInsecureNone, true, true},
		{"an SMB session, where allowed", HandlerConfig{AllowSMBSessionAlone: true}, dcerpc.AuthNone, dcerpc.LevelInsecureNone, true, false},
		{"no session, where one is allowed", HandlerConfig{AllowSMBSessionAlone: true}, dcerpc.AuthNone, dcerpc.LevelInsecureNone, false, true},
		{"connect over an SMB session", HandlerConfig{AllowSMBSessionAlone: true}, dcerpc.AuthNTLM, dcerpc.LevelInsecureConnect, true, true},
		{"integrity where privacy is required", HandlerConfig{MinLevel: dcerpc.LevelPrivacy}, dcerpc.AuthNTLM, dcerpc.LevelIntegrity, false, true},
		{"privacy where it is required", HandlerConfig{MinLevel: dcerpc.LevelPrivacy}, dcerpc.AuthNTLM, dcerpc.LevelPrivacy, false, false},
		{"none where that is enough", HandlerConfig{MinLevel: dcerpc.LevelInsecureNone}, dcerpc.AuthNone, dcerpc.LevelInsecureNone, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fake := newFake()
			tt.cfg.Logger = quiet.Logger
			var refused []Opnum
			tt.cfg.Refused = func(op Opnum, p *dcerpc.Peer) {
				require.Equal(t, tt.level, p.Level)
				refused = append(refused, op)
			}
			h := NewHandler(fake, &tt.cfg)
			for _, m := range methodCases(fake) {
				refused = nil
				resp, err := ask(withLevel(t, tt.typ, tt.level, tt.session), h, m.sent, ndr.NDR64)
				require.NoError(t, err)
				if tt.denied {
					require.Equal(t, []Opnum{m.sent.Opnum()}, refused)
					require.Equal(t, ErrAccessDenied, resp.Status(), m.op)
					require.Nil(t, fake.last())
					if get, ok := resp.(*GetShareMappingResponse); ok {
						require.Equal(t, &GetShareMappingResponse{Level: 1, Return: ErrAccessDenied}, get)
					}
				} else {
					require.Empty(t, refused)
					require.Zero(t, resp.Status(), m.op)
					require.Equal(t, m.sent, fake.last())
				}
			}
		})
	}
}

// A call that nobody knows the caller of is denied.
func TestHandlerNoPeer(t *testing.T) {
	fake := newFake()
	resp, err := ask(t.Context(), NewHandler(fake, &HandlerConfig{MinLevel: dcerpc.LevelInsecureNone,
		Logger: quiet.Logger}),
		&SetContextRequest{}, ndr.NDR20)
	require.NoError(t, err)
	require.Equal(t, ErrAccessDenied, resp.Status())
	require.Nil(t, fake.last())
}

// A status inside of whatever error is answered as it is; an error without one as E_FAIL, and
// logged.
func TestHandlerErrors(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status Status
		logged bool
	}{
		{ErrNotSupported, ErrNotSupported, false},
		{fmt.Errorf("btrfs: %w", ErrNotSupported), ErrNotSupported, false},
		{&Error{Server: "fs2", Op: OpSetContext, Status: ErrBadState}, ErrBadState, false},
		{errors.New("disk on fire"), ErrFail, true},
		{fmt.Errorf("fs2: %w", dcerpc.ErrAccessDenied), ErrFail, true}, // of a proxy's other side
		{&ndr.Error{Err: ndr.ErrBadStub}, ErrFail, true},
		{context.DeadlineExceeded, ErrFail, true},
		{Status(0), ErrFail, false},
	} {
		var out bytes.Buffer
		h := NewHandler(&fakeService{err: tt.err}, &HandlerConfig{Logger: slog.New(slog.NewTextHandler(&out, nil))})
		resp, err := ask(signed(t), h, &SetContextRequest{}, ndr.NDR20)
		require.NoError(t, err)
		require.Equal(t, tt.status, resp.Status())
		require.Equal(t, tt.logged, out.Len() > 0, tt.err)
		if tt.logged {
			require.Contains(t, out.String(), "op=SetContext")
			require.Contains(t, out.String(), "level=ERROR")
		}
	}
}

// A fault that the Service returns is sent as one.
func TestHandlerFault(t *testing.T) {
	h := NewHandler(&fakeService{err: dcerpc.ErrServerTooBusy}, &HandlerConfig{Logger: quiet.Logger})
	_, err := ask(signed(t), h, &SetContextRequest{}, ndr.NDR20)
	require.Equal(t, dcerpc.ErrServerTooBusy, err)
}

func TestHandlerCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(signed(t))
	cancel()
	_, err := ask(ctx, NewHandler(&fakeService{err: context.Canceled}, quiet), &SetContextRequest{}, ndr.NDR20)
	require.ErrorIs(t, err, dcerpc.ErrCancelled)
	resp, err := ask(ctx, NewHandler(&fakeService{err: ErrWaitFailed}, quiet), &SetContextRequest{}, ndr.NDR20)
	require.NoError(t, err)
	require.Equal(t, ErrWaitFailed, resp.Status(), "a status says more")
}

func TestHandlerBadRequests(t *testing.T) {
	fake := newFake()
	h := NewHandler(fake, quiet)
	for op := range opnums {
		err := h.ServeRPC(signed(t), &dcerpc.Call{Opnum: uint16(op), Stub: []byte{1, 2, 3}})
		if op == OpGetSupportedVersion {
			require.NoError(t, err, "it takes nothing; surplus is ignored")
			fake.last()
			continue
		}
		require.ErrorIs(t, err, ndr.ErrBadStub, op)
		require.Nil(t, fake.last())
	}
	require.ErrorIs(t, h.ServeRPC(signed(t), &dcerpc.Call{Opnum: uint16(opnums)}), dcerpc.ErrOpnumRange)
}

// Results that have no encoding do not go out as something else.
func TestHandlerBadResults(t *testing.T) {
	h := NewHandler(&fakeService{support: PathSupport{Owner: "a\x00b"}}, quiet)
	_, err := ask(signed(t), h, &IsPathSupportedRequest{}, ndr.NDR20)
	require.ErrorIs(t, err, ndr.ErrBadValue)
	require.NotErrorIs(t, err, ndr.ErrBadStub, "the client is not to blame")

	h = NewHandler(&fakeService{mapping: &ShareMapping{Created: time.Unix(math.MaxInt64/4, 0)}}, quiet)
	resp, err := ask(signed(t), h, &GetShareMappingRequest{Level: 1}, ndr.NDR20)
	require.NoError(t, err)
	require.Equal(t, &GetShareMappingResponse{Level: 1, Return: ErrFail}, resp)
}

// The response is appended to what the server gave room for, in the response's syntax.
func TestHandlerAppends(t *testing.T) {
	h := NewHandler(newFake(), quiet)
	call := &dcerpc.Call{Opnum: uint16(OpGetSupportedVersion), Syntax: ndr.NDR20BE, Response: []byte("abc")}
	require.NoError(t, h.ServeRPC(signed(t), call))
	require.Equal(t, []byte("abc\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00"), call.Response)
}

// Any stub, any opnum: the handler answers, or says that the stub is bad.
func FuzzHandler(f *testing.F) {
	for _, v := range vectors(f) {
		if v.Direction == "request" {
			f.Add(byte(v.syntax(f)), uint16(v.Opnum), v.stub(f))
		}
	}
	f.Fuzz(func(t *testing.T, syntax byte, op uint16, stub []byte) {
		h := NewHandler(newFake(), quiet)
		call := &dcerpc.Call{Opnum: op, Syntax: ndr.Syntax(syntax % 3), Stub: stub}
		err := h.ServeRPC(dcerpc.WithPeer(context.Background(), dcerpc.Peer{Level: dcerpc.LevelPrivacy}), call)
		switch {
		case err == nil:
			if _, err := ParseResponse(Opnum(op), call.ResponseSyntax, call.Response); err != nil {
				t.Fatal(err)
			}
		case !errors.Is(err, ndr.ErrBadStub) && !errors.Is(err, dcerpc.ErrOpnumRange):
			t.Fatal(err)
		}
	})
}
