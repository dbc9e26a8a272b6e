package agent_test

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"net"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/share/directory"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot"
)

// An agent that copies a directory by whatever its file system offers, exposes the copies as
// directories, and is called over TCP.
func Example() {
	snapshots, err := snapshot.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	shares, err := directory.New("/srv/exposed", map[string]string{"vms": "/srv/vms"})
	if err != nil {
		log.Fatal(err)
	}
	a, err := agent.New(context.Background(), &agent.Config{
		Snapshots: snapshots,
		Shares:    shares,
		StorePath: "/var/lib/fsrvp/agent.db",
		Names:     []string{"fs1", "fs1.example.com"},
		Allow:     []string{`EXAMPLE\backup`}, // besides administrators and backup operators
		Logger:    slog.Default(),
	})
	if err != nil {
		log.Fatal(err)
	}

	kerberos, err := krb5.NewAcceptor(&krb5.AcceptorConfig{KeytabFile: "/etc/fsrvp/agent.keytab"})
	if err != nil {
		log.Fatal(err)
	}
	server := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{kerberos}}
	fsrvp.Register(server, a, nil)
	l, err := net.Listen("tcp", "192.0.2.1:49200")
	if err != nil {
		log.Fatal(err)
	}
	if err := server.Serve(l); !errors.Is(err, net.ErrClosed) {
		log.Print(err)
	}
	if err := a.Close(); err != nil {
		log.Fatal(err)
	}
}
