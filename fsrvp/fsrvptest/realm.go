package fsrvptest

import "github.com/go-fsrvp/go-fsrvp/dcerpc/krb5/krb5test"

// A Realm is a Kerberos realm in memory: it makes its keys at start and issues tickets in the
// process, without a KDC or files. It gives no security, since whoever has it can be any of its
// users: use it only for tests and demonstrations.
//
//	realm := fsrvptest.NewRealm("EXAMPLE.TEST")
//	realm.AddService("host/fs1.example.test")
//	realm.AddUser("backup", dcerpc.SIDBuiltinBackupOperators)
//	server.Acceptors = []dcerpc.Acceptor{realm.Acceptor("host/fs1.example.test")}
//	config.Auth = realm.Initiator("backup")
type Realm = krb5test.Realm

// NewRealm makes an empty realm with AES256-SHA1 keys; krb5test.NewRealm supports other types.
func NewRealm(name string) *Realm { return krb5test.NewRealm(name, 0) }
