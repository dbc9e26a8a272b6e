package fsrvp

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOpnum(t *testing.T) {
	require.EqualValues(t, 13, opnums)
	for op := range opnums {
		require.True(t, op.Valid())
		require.False(t, strings.HasPrefix(op.String(), "opnum"))
		require.Equal(t, op, NewRequest(op).Opnum())
		require.Equal(t, op, NewResponse(op).Opnum())
	}
	require.False(t, opnums.Valid())
	require.Equal(t, "opnum 13", opnums.String())
	require.Equal(t, "PrepareShadowCopySet", Opnum(12).String())
}
