package fsrvp

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// callAll calls every method of s once, by its request.
func callAll(ctx context.Context, s Service) (map[Opnum]Response, map[Opnum]error) {
	responses, errs := map[Opnum]Response{}, map[Opnum]error{}
	for op := range opnums {
		req := NewRequest(op)
		if m, ok := req.(*GetShareMappingRequest); ok {
			m.Level = 1
		}
		responses[op], errs[op] = Serve(ctx, s, req)
	}
	return responses, errs
}

// TestServiceFunc puts Serve behind a ServiceFunc: what comes out is what went in, results,
// statuses and errors.
func TestServiceFunc(t *testing.T) {
	lost := errors.New("lost")
	for name, fail := range map[string]error{"success": nil, "status": ErrBadState, "no status": lost} {
		t.Run(name, func(t *testing.T) {
			fake := &fakeService{
				versions: Versions{1, 2}, set: SetID{3}, copy: CopyID{4}, support: PathSupport{true, "FS1"},
				copied:  PathShadowCopied{true, 2},
				mapping: &ShareMapping{SetID{3}, CopyID{4}, `\\fs1\a`, "a@{}", time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)},
				err:     fail,
			}
			want, wantErrs := callAll(t.Context(), fake)
			twice := ServiceFunc(func(ctx context.Context, req Message) (Response, error) { return Serve(ctx, fake, req) })
			got, gotErrs := callAll(t.Context(), twice)
			require.Equal(t, want, got)
			require.Equal(t, wantErrs, gotErrs)
			for op, err := range wantErrs {
				require.ErrorIs(t, err, fail, op)
				require.Equal(t, StatusOf(fail), want[op].Status(), op)
			}
		})
	}
}

// TestServiceFuncAnswers is about functions that answer as none should, or by the status in the
// response alone.
func TestServiceFuncAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(req Message) (Response, error)
		want   string
		status Status
	}{
		"nothing":        {func(Message) (Response, error) { return nil, nil }, "answered", ErrFail},
		"another method": {func(Message) (Response, error) { return new(AbortShadowCopySetResponse), nil }, "answered", ErrFail},
		"nil of its own": {func(Message) (Response, error) { return (*StartShadowCopySetResponse)(nil), nil }, "answered", ErrFail},
		"error alone":    {func(Message) (Response, error) { return nil, ErrBadState }, "FSRVP_E_BAD_STATE", ErrBadState},
		"status alone": {func(req Message) (Response, error) {
			resp := NewResponse(req.Opnum())
			resp.SetStatus(ErrBadState)
			return resp, nil
		}, "FSRVP_E_BAD_STATE", ErrBadState},
	} {
		t.Run(name, func(t *testing.T) {
			s := ServiceFunc(func(_ context.Context, req Message) (Response, error) { return c.answer(req) })
			id, err := s.StartShadowCopySet(t.Context(), SetID{1})
			require.ErrorContains(t, err, c.want)
			require.Zero(t, id)
			require.Equal(t, c.status, StatusOf(err))
		})
	}
}

func TestServeNoRequest(t *testing.T) {
	for _, m := range []Message{nil, new(SetContextResponse)} {
		resp, err := Serve(t.Context(), &fakeService{}, m)
		require.Nil(t, resp)
		require.ErrorContains(t, err, "not the request of a method")
	}
}

func TestServiceFuncWaits(t *testing.T) {
	called := false
	s := ServiceFunc(func(context.Context, Message) (Response, error) { called = true; return nil, ErrFail })
	for _, wait := range []time.Duration{-1, MaxWait + 1} {
		require.Error(t, s.CommitShadowCopySet(t.Context(), SetID{}, wait))
		require.Error(t, s.ExposeShadowCopySet(t.Context(), SetID{}, wait))
		require.Error(t, s.PrepareShadowCopySet(t.Context(), SetID{}, wait))
	}
	require.False(t, called)
}
