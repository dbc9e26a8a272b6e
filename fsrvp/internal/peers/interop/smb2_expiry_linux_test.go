package interop

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
)

// ticketLife is how long service tickets live in TestSMBExpiry. What smbd and the clients need to
// log in has to fit in.
const ticketLife = 6 * time.Second

// TestSMBExpiry lets a session outlive its service ticket three times, with -short once, while a file is read and
// while a call of a pipe waits: smbd answers STATUS_NETWORK_SESSION_EXPIRED, and nobody notices but
// the log. The ticket-granting ticket lives longer: Samba's KDC takes none that ends within two
// minutes.
func TestSMBExpiry(t *testing.T) {
	n := networkOnce(t)
	nas, u := n.Host("nas"), n.User("backup")
	nas.Claim(t)
	want := randomFile(t, nas.Path("/srv/btrfs/data/expiry"), 1<<20)
	cfg := kerberosConfig(n)
	cfg.TicketLife = ticketLife
	auth, err := krb5.NewInitiatorWithPassword(u.Principal(), u.Password, cfg)
	require.NoError(t, err)
	waiting, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	serve(t, nas, testServer(waiting, ended), nil)

	var log syncBuffer
	d := dialer(t, n, auth)
	d.SMB = &smb2.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	cc := bind(t, d, nas, dcerpc.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	called := make(chan error, 1)
	go func() { called <- cc.Call(ctx, &dcerpc.Call{Opnum: opWait, Syntax: cc.Syntax()}) }()
	<-waiting
	share, closer, err := d.OpenShare(t.Context(), `\\`+nas.FQDN+`\data`)
	require.NoError(t, err)
	defer closer.Close()
	renewed := func() int { return strings.Count(log.String(), "was logged in again") }
	times := 3
	if testing.Short() {
		times = 1
	}
	start, reads := time.Now(), 0
	for ; renewed() < times; reads++ {
		require.Equal(t, want, sum(t, share, "expiry"), "after %v", time.Since(start))
		require.Less(t, time.Since(start), 5*time.Minute, "the session has not expired")
	}
	t.Logf("%d reads in %v: %s", reads, time.Since(start), log.String())
	require.GreaterOrEqual(t, time.Since(start), time.Duration(times-1)*ticketLife)
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
