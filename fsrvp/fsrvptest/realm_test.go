package fsrvptest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// A user of the realm becomes one to its service, with groups and all.
func TestRealm(t *testing.T) {
	t.Parallel()
	realm := fsrvptest.NewRealm("EXAMPLE.TEST")
	realm.AddService("host/fs1.example.test")
	sid := realm.AddUser("backup", dcerpc.SIDBuiltinBackupOperators)

	client, err := realm.Initiator("backup").NewContext("host/fs1.example.test", dcerpc.LevelPrivacy)
	require.NoError(t, err)
	server, err := realm.Acceptor().NewContext(dcerpc.LevelPrivacy)
	require.NoError(t, err)
	var token []byte
	for done := false; !done; {
		token, _, err = client.Step(t.Context(), token)
		require.NoError(t, err)
		token, done, err = server.Step(t.Context(), token)
		require.NoError(t, err)
	}
	id := server.Identity()
	require.Equal(t, "backup@EXAMPLE.TEST", id.Principal)
	require.Equal(t, sid, id.SIDs[0])
	require.True(t, id.HasSID(dcerpc.SIDBuiltinBackupOperators))

	for user, want := range map[string]error{"backup": krb5.ErrServiceUnknown, "nobody": krb5.ErrClientUnknown} {
		c, err := realm.Initiator(user).NewContext("host/fs2.example.test", dcerpc.LevelPrivacy)
		require.NoError(t, err)
		_, _, err = c.Step(t.Context(), nil)
		require.ErrorIs(t, err, want)
	}
}
