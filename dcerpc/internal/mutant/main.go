// Command mutant runs the conversations of package rpctest against our server and says which of
// them fail. It is built with one rule of the server broken, to see that a conversation notices;
// see TestMutants of package dcerpc.
package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/echoserver"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/rpctest"
)

func main() {
	failed, err := run()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "mutant:", err)
		os.Exit(3) // 2 is a panic's
	case failed:
		os.Exit(1)
	}
}

// run runs the scripts until one fails, and then says so.
func run() (failed bool, err error) {
	dir, err := os.MkdirTemp("", "mutant-*")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	real, err := ntlmAlone(dir)
	if err != nil {
		return false, err
	}
	for _, script := range rpctest.Scripts() {
		for _, m := range []echoserver.Mechanisms{echoserver.Toys(), real} {
			if !m.Toys && script.Settings != nil {
				continue
			}
			res, err := runOne(script, m)
			if err != nil {
				return false, err
			}
			if res.Verdict == rpctest.Failed {
				fmt.Println(res.Reason)
				return true, nil
			}
		}
	}
	return false, nil
}

// runOne runs a script. A broken server may never end: it is not waited for.
func runOne(script *rpctest.Script, m echoserver.Mechanisms) (rpctest.Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	server, err := echoserver.Start(script.Settings, m)
	if err != nil {
		return rpctest.Result{}, err
	}
	target := server.Target()
	target.Timeout = 3 * time.Second
	res := script.Run(ctx, target)
	go server.Close()
	return res, nil
}

// ntlmAlone is real NTLM.
func ntlmAlone(dir string) (echoserver.Mechanisms, error) {
	var m echoserver.Mechanisms
	hash := ntlm.NTHash("secret")
	file := filepath.Join(dir, "hashes")
	if err := os.WriteFile(file, slices.Concat([]byte("D\\backup\t"), []byte(hex.EncodeToString(hash[:])),
		[]byte("\n")), 0o600); err != nil {
		return m, err
	}
	accounts, err := ntlm.OpenHashFile(file)
	if err != nil {
		return m, err
	}
	acceptor, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: accounts})
	if err != nil {
		return m, err
	}
	initiator, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "D", User: "backup", Password: "secret"})
	m.Acceptors = []dcerpc.Acceptor{acceptor}
	m.Initiators = []rpctest.Mechanism{{Initiator: initiator, Account: "backup", Legs: 3, Asks: true}}
	return m, err
}
