package credentials

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

func TestExplain(t *testing.T) {
	require.Contains(t, Explain(fmt.Errorf("x: %w", fsrvp.ErrAccessDenied)).Error(), "Backup Operators")
	require.Contains(t, Explain(fmt.Errorf("x: %w", dcerpc.ErrAccessDenied)).Error(), "-mechanism")
	require.Equal(t, "x", Explain(errors.New("x")).Error())
}
