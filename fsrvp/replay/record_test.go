package replay

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// TestRecorderBothSides records the same calls in front of the agent and behind the client.
func TestRecorderBothSides(t *testing.T) {
	fs := newFileServer(t)
	var b bytes.Buffer
	self := transcript.Connection{Client: "a", Server: "fs1", User: "backup@EXAMPLE.TEST", Mechanism: "krb5",
		Level: dcerpc.LevelPrivacy}
	r := transcript.NewRecorder(fs.client(t, "a"), &b, &transcript.RecorderConfig{Connection: self})
	backup(t, r, fsrvp.ContextNASRollback|fsrvp.AttrAutoRecovery, `\\fs1\vms$`, `\\fs1\logs`)
	_, err := r.GetShareMapping(t.Context(), fsrvp.CopyID{}, fsrvp.SetID{}, `\\fs1\logs`, 1)
	require.ErrorIs(t, err, fsrvp.ErrInvalidArg)
	var fromServer *fsrvp.Error
	require.ErrorAs(t, err, &fromServer, "errors are passed on as they are")
	require.NoError(t, r.Close())

	client, err := transcript.ReadAll(&b)
	require.NoError(t, err)
	server := fs.recording(t)
	require.Len(t, client, len(server))
	for i, e := range client {
		require.Equal(t, self, e.Connection)
		require.Equal(t, server[i].Connection, e.Connection)
		require.Equal(t, server[i].Request, e.Request)
		require.Equal(t, server[i].Response, e.Response)
		require.False(t, server[i].Time.Before(e.Time), "the server comes later")
		require.False(t, e.ResponseTime.Before(server[i].ResponseTime))
		require.WithinDuration(t, time.Now(), e.Time, time.Minute)
	}
}
