package interop

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// TestSMBExpiry lets a session outlive its ticket, while a file is read and while a call of a pipe waits: nobody notices but the log. Samba's KDC gives no
// ticket of less than two minutes, so the test takes longer, and runs where FSRVP_SMB_EXPIRY is set.
func TestSMBExpiry(t *testing.T) {
	if os.Getenv("FSRVP_SMB_EXPIRY") == "" {
		t.Skip("FSRVP_SMB_EXPIRY is not set: the test waits for a ticket's end")
	}
	n := peers.Start(t)
	nas, u := n.Host("nas"), n.User("backup")
	nas.Claim(t)
	want := randomFile(t, nas.Path("/srv/btrfs/data/expiry"), 1<<20)
	conf, err := os.ReadFile(filepath.Join(n.Scripts, "etc", "krb5.conf"))
	require.NoError(t, err)
	conf = regexp.MustCompile(`(?m)^\s*\[libdefaults\]\s*$`).ReplaceAll(conf, []byte("[libdefaults]\n  ticket_lifetime = 130s"))
	name := filepath.Join(t.TempDir(), "krb5.conf")
	require.NoError(t, os.WriteFile(name, conf, 0o600))
	auth, err := krb5.NewInitiatorWithPassword(u.Principal(), u.Password, &krb5.InitiatorConfig{Krb5Conf: name, Dial: n.Host("cl").Dial})
	require.NoError(t, err)
	waiting, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	serve(t, nas, testServer(waiting, ended), nil)

	var log syncBuffer
	d := dialer(t, n, auth)
	d.SMB = &smb2.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	cc := bind(t, d, nas, dcerpc.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	called := make(chan error, 1)
	go func() { called <- cc.Call(ctx, &dcerpc.Call{Opnum: opWait, Syntax: cc.Syntax()}) }()
	<-waiting
	share, closer, err := d.OpenShare(t.Context(), `\\`+nas.FQDN+`\data`)
	require.NoError(t, err)
	defer closer.Close()
	start := time.Now()
	for renewed := false; !renewed || time.Since(start) < 140*time.Second; time.Sleep(time.Second) {
		require.Equal(t, want, sum(t, share, "expiry"), "after %v", time.Since(start))
		renewed = bytes.Contains([]byte(log.String()), []byte("was logged in again"))
		require.Less(t, time.Since(start), 10*time.Minute, "the session has not expired")
	}
	t.Logf("after %v: %s", time.Since(start), log.String())
	select {
	case err := <-called:
		t.Fatal("the call has ended: ", err)
	default:
	}
	echo(t, bind(t, d, nas, dcerpc.Config{}), []byte("12345678"))
	cancel()
	require.ErrorIs(t, <-called, context.Canceled)
	<-ended
}
