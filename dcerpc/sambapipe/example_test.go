//go:build linux

package sambapipe_test

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/sambapipe"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/share/samba"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot"
)

// An agent behind the smbd of a NAS, in place of Samba's own: it copies Samba's shares by whatever
// their file systems offer, and exposes the copies as shares of Samba.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	snapshots, err := snapshot.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	shares, err := samba.New(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	a, err := agent.New(ctx, &agent.Config{
		Snapshots: snapshots,
		Shares:    shares,
		StorePath: "/var/lib/fsrvp/agent.db",
		Logger:    slog.Default(),
	})
	if err != nil {
		log.Fatal(err)
	}

	kerberos, err := krb5.NewAcceptor(&krb5.AcceptorConfig{KeytabFile: "/etc/krb5.keytab"})
	if err != nil {
		log.Fatal(err)
	}
	server := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{kerberos}}
	// As with Samba's own agent, a client that SMB has authenticated may do without security of
	// RPC's.
	fsrvp.Register(server, a, &fsrvp.HandlerConfig{AllowSMBSessionAlone: true})
	l, err := sambapipe.Listen(&sambapipe.Config{Logger: slog.Default()})
	if err != nil {
		log.Fatal(err)
	}
	context.AfterFunc(ctx, func() { _ = server.Shutdown(context.Background()) })
	if err := server.Serve(l); !errors.Is(err, dcerpc.ErrServerClosed) {
		log.Print(err)
	}
	if err := a.Close(); err != nil {
		log.Fatal(err)
	}
}
