package dcerpc

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAssociations(t *testing.T) {
	var a associations
	one := a.join(0, "tcp 49152", "10.0.0.1")
	require.NotZero(t, one.id)
	require.NotEqual(t, one.id, a.join(0, "tcp 49152", "10.0.0.1").id)
	require.Same(t, one, a.join(one.id, "tcp 49152", "10.0.0.1"))
	require.Nil(t, a.join(one.id, "tcp 49152", "10.0.0.2"))
	require.Nil(t, a.join(one.id, "tcp 49153", "10.0.0.1"))
	require.Nil(t, a.join(one.id^1, "tcp 49152", "10.0.0.1"))
	a.leave(one)
	require.Same(t, one, a.join(one.id, "tcp 49152", "10.0.0.1"))
	a.leave(one)
	a.leave(one)
	require.Nil(t, a.join(one.id, "tcp 49152", "10.0.0.1"), "the last one has left")
}
