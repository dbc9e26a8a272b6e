package ntlm_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
)

// A client and a server in one process, whose accounts are in a file: the three messages of NTLM.
func Example() {
	dir, err := os.MkdirTemp("", "ntlm-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	hash := ntlm.NTHash("correct horse")
	line := fmt.Sprintf("EXAMPLE\\backup\t%x\tS-1-5-21-1-2-3-1104,%s\n", hash, dcerpc.SIDBuiltinBackupOperators)
	if err := os.WriteFile(filepath.Join(dir, "accounts"), []byte(line), 0o600); err != nil {
		log.Fatal(err)
	}
	accounts, err := ntlm.OpenHashFile(filepath.Join(dir, "accounts"))
	if err != nil {
		log.Fatal(err)
	}
	acceptor, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: accounts, ComputerName: "FS1"})
	if err != nil {
		log.Fatal(err)
	}
	initiator, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "EXAMPLE", User: "backup", Password: "correct horse"})
	if err != nil {
		log.Fatal(err)
	}

	client, err := initiator.NewContext("host/fs1", dcerpc.LevelPrivacy)
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
	fmt.Println(server.Identity().Domain, server.Identity().Account)
	// Output: EXAMPLE backup
}
