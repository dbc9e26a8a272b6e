package spnego_test

import (
	"context"
	"fmt"
	"log"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5/krb5test"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
)

// A client that has Kerberos and NTLM, and a server that takes Kerberos alone, agree on Kerberos.
func Example() {
	realm := krb5test.NewRealm("EXAMPLE.COM", krb5.AES256SHA1)
	realm.AddUser("backup")
	realm.AddService("host/fs1.example.com")
	byPassword, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "EXAMPLE", User: "backup", Password: "secret"})
	if err != nil {
		log.Fatal(err)
	}
	initiator, err := spnego.NewInitiator(realm.Initiator("backup"), byPassword)
	if err != nil {
		log.Fatal(err)
	}
	acceptor, err := spnego.NewAcceptor(realm.Acceptor("host/fs1.example.com"))
	if err != nil {
		log.Fatal(err)
	}
	client, err := initiator.NewContext("host/fs1.example.com", dcerpc.LevelPrivacy)
	if err != nil {
		log.Fatal(err)
	}
	server, err := acceptor.NewContext(dcerpc.LevelPrivacy)
	if err != nil {
		log.Fatal(err)
	}
	var token []byte
	for done := false; !done; {
		if token, _, err = client.Step(context.Background(), token); err != nil {
			log.Fatal(err)
		}
		if token, done, err = server.Step(context.Background(), token); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(server.Identity().Mechanism, server.Identity().Principal)
	// Output: krb5 backup@EXAMPLE.COM
}
