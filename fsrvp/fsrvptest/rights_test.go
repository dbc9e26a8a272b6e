package fsrvptest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// TestRights has accounts call that are named much like those that may, and one whose ticket says
// that it is an administrator.
func TestRights(t *testing.T) {
	srv, err := fsrvptest.NewServer(&fsrvptest.ServerConfig{Agent: agent.Config{Allow: []string{"kim@FSRVP.TEST",
		"admin@FSRVP.TEST"}}})
	require.NoError(t, err)
	defer srv.Close()
	for name, may := range map[string]bool{
		"kim": true, "KIM": true, "ADMIN": true, fsrvptest.Operator: true,
		"mallory": false, "\u212Aim": false, "adm\u0130n": false, "adm\u0131n": false, "kim@FSRVP.TEST": false,
	} {
		if name != fsrvptest.Operator {
			srv.Realm.AddUser(name, dcerpc.SIDBuiltinAdmins, dcerpc.SIDBuiltinBackupOperators)
		}
		c, err := srv.Dial(t.Context(), name)
		require.NoError(t, err, name)
		_, err = c.GetSupportedVersion(t.Context())
		if may {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, fsrvp.ErrAccessDenied, name)
		}
		require.NoError(t, c.Close())
	}
}
