package krb5_test

import (
	"context"
	"fmt"
	"log"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5/krb5test"
)

// The client is a backup service with its key in a keytab. It finds the KDC by krb5.conf or by DNS.
func ExampleNewInitiatorWithKeytab() {
	keys, err := krb5.LoadKeytab("/etc/backup.keytab")
	if err != nil {
		log.Fatal(err)
	}
	initiator, err := krb5.NewInitiatorWithKeytab("backup@EXAMPLE.COM", keys, nil)
	if err != nil {
		log.Fatal(err)
	}
	_ = dcerpc.Config{Auth: initiator, Target: "host/fs1.example.com"} // or fsrvp.Config, smbpipe.Dialer
}

// The three legs of Kerberos in DCE style, with a realm in memory in place of a KDC.
func ExampleAcceptor() {
	realm := krb5test.NewRealm("EXAMPLE.COM", krb5.AES256SHA1)
	realm.AddUser("backup", dcerpc.SIDBuiltinBackupOperators)
	realm.AddService("host/fs1.example.com")
	acceptor, err := krb5.NewAcceptor(&krb5.AcceptorConfig{Keytab: realm.Keytab("host/fs1.example.com")})
	if err != nil {
		log.Fatal(err)
	}
	client, err := realm.Initiator("backup").NewContext("host/fs1.example.com", dcerpc.LevelPrivacy)
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
	fmt.Println(server.Identity().Principal)
	// Output: backup@EXAMPLE.COM
}
