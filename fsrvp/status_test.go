package fsrvp

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		status Status
		number uint32
		name   string
	}{
		{0, 0, "ZERO"},
		{ErrAccessDenied, 0x80070005, "E_ACCESSDENIED"},
		{ErrOutOfMemory, 0x8007000E, "E_OUTOFMEMORY"},
		{ErrInvalidArg, 0x80070057, "E_INVALIDARG"},
		{ErrFail, 0x80004005, "E_FAIL"},
		{ErrBadState, 0x80042301, "FSRVP_E_BAD_STATE"},
		{ErrBadID, 0x80042302, "FSRVP_E_BAD_ID"},
		{ErrObjectNotFound, 0x80042308, "FSRVP_E_OBJECT_NOT_FOUND"},
		{ErrNotSupported, 0x8004230C, "FSRVP_E_NOT_SUPPORTED"},
		{ErrObjectAlreadyExists, 0x8004230D, "FSRVP_E_OBJECT_ALREADY_EXISTS"},
		{ErrNotExposed, 0x80042311, "FSRVP_E_NOT_EXPOSED"},
		{ErrShadowCopySetInProgress, 0x80042316, "FSRVP_E_SHADOW_COPY_SET_IN_PROGRESS"},
		{ErrUnsupportedContext, 0x8004231B, "FSRVP_E_UNSUPPORTED_CONTEXT"},
		{ErrTimeout, 0x80042500, "FSSAGENT_E_TIMEOUT"},
		{ErrShadowCopySetIDMismatch, 0x80042501, "FSRVP_E_SHADOWCOPYSET_ID_MISMATCH"},
		{ErrWaitTimeout, 0x00000102, "FSRVP_E_WAIT_TIMEOUT"},
		{ErrWaitFailed, 0xFFFFFFFF, "FSRVP_E_WAIT_FAILED"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.EqualValues(t, tt.number, tt.status)
			require.Equal(t, tt.name, tt.status.Name())
			require.Contains(t, tt.status.Error(), tt.name)
			require.Contains(t, tt.status.Error(), fmt.Sprintf("0x%08X", tt.number))
			require.Equal(t, tt.number == 0, tt.status.IsSuccess())
			if tt.number == 0 {
				require.NoError(t, tt.status.Err())
				return
			}
			wrapped := fmt.Errorf("agent: %w", &Error{Server: "fs1", Op: OpSetContext, Status: tt.status})
			require.ErrorIs(t, wrapped, tt.status)
			require.NotErrorIs(t, wrapped, tt.status+1)
			require.Equal(t, tt.status, StatusOf(wrapped))
		})
	}
	require.Equal(t, "0x80070020", Status(0x80070020).Name())
	require.Equal(t, "status 0x80070020", Status(0x80070020).Error())
	require.Equal(t, Status(1), Status(1).Err(), "S_FALSE is none of the standard's")
}

func TestStatusOf(t *testing.T) {
	require.Zero(t, StatusOf(nil))
	require.Equal(t, ErrFail, StatusOf(context.DeadlineExceeded))
	require.Equal(t, ErrFail, StatusOf(Status(0)), "an error is no success")
	require.Equal(t, ErrBadState, StatusOf(errors.Join(errors.New("x"), ErrBadState)))
	_, err := ParseShareName("x")
	require.Equal(t, ErrInvalidArg, StatusOf(err))
}

func TestErrorText(t *testing.T) {
	err := &Error{Server: "fs1", Op: OpCommitShadowCopySet, Status: ErrTimeout}
	require.EqualError(t, err,
		"fsrvp: CommitShadowCopySet on fs1: the commit timed out (FSSAGENT_E_TIMEOUT, 0x80042500)")
}
