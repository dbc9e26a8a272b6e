package fsrvptest

import "github.com/go-fsrvp/go-fsrvp/dcerpc/krb5/krb5test"

// A Realm is a Kerberos realm in memory: keys made at start, tickets minted in the process, no KDC,
// no files. It authenticates nobody, since whoever holds it can be any of its users: it is for
// tests and demonstrations, and for nothing else.
//
//	realm := fsrvptest.NewRealm("EXAMPLE.TEST")
//	realm.AddService("host/fs1.example.test")
//	realm.AddUser("backup", dcerpc.SIDBuiltinBackupOperators)
//	server.Acceptors = []dcerpc.Acceptor{realm.Acceptor("host/fs1.example.test")}
//	config.Auth = realm.Initiator("backup")
type Realm = krb5test.Realm

// NewRealm makes an empty realm with keys of AES256 and SHA-1; krb5test.NewRealm has the other
// types.
func NewRealm(name string) *Realm { return krb5test.NewRealm(name, 0) }
