package spnego_test

import (
	"context"
	"testing"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
)

// seeds are the tokens of real exchanges: with the first choice, and with another one.
func seeds(f *testing.F, w *world) [][][]byte {
	var all [][][]byte
	for _, c := range []combination{
		{initiator: negInitiator(f, w.ntlmInitiator(f)), acceptor: negAcceptor(f, w.ntlmAcceptor(f))},
		{initiator: negInitiator(f, newDummy(oidUnknown), w.ntlmInitiator(f)), acceptor: negAcceptor(f, w.ntlmAcceptor(f))},
		{initiator: negInitiator(f, w.realm.Initiator(user)), acceptor: negAcceptor(f, w.realm.Acceptor(target))},
	} {
		client, server := c.contexts(f, dcerpc.LevelPrivacy)
		var tokens [][]byte
		if _, err := exchange(client, server, func(_ int, b []byte) []byte {
			tokens = append(tokens, b)
			return b
		}); err != nil {
			f.Fatal(err)
		}
		for len(tokens) < 6 {
			tokens = append(tokens, nil)
		}
		all = append(all, tokens)
	}
	return all
}

// FuzzAcceptorStep plays a client without a password.
func FuzzAcceptorStep(f *testing.F) {
	w := newWorld(f)
	for _, x := range seeds(f, w) {
		f.Add(x[0], x[2], x[4])
	}
	acceptor := negAcceptor(f, w.ntlmAcceptor(f), w.realm.Acceptor(target))
	f.Fuzz(func(t *testing.T, first, second, third []byte) {
		c, err := acceptor.NewContext(dcerpc.LevelPrivacy)
		if err != nil {
			t.Fatal(err)
		}
		failed := false
		for _, b := range [][]byte{first, second, third} {
			out, done, err := c.Step(context.Background(), b)
			if done {
				t.Fatal("let in")
			}
			if failed && err == nil {
				t.Fatal("a context that went on after an error")
			}
			failed = err != nil
			if !failed {
				if _, err := spnego.ParseNegTokenResp(out); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// FuzzInitiatorStep plays a server that does not know the password, and cannot turn the client to
// the mechanism that proves nothing.
func FuzzInitiatorStep(f *testing.F) {
	w := newWorld(f)
	for _, x := range seeds(f, w) {
		f.Add(x[1], x[3], x[5])
	}
	initiator := negInitiator(f, w.ntlmInitiator(f), newDummy(oidUnknown))
	f.Fuzz(func(t *testing.T, first, second, third []byte) {
		c, err := initiator.NewContext(target, dcerpc.LevelInsecureConnect)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Step(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		failed := false
		for _, b := range [][]byte{first, second, third} {
			out, done, err := c.Step(context.Background(), b)
			if done {
				t.Fatal("believed")
			}
			if failed && err == nil {
				t.Fatal("a context that went on after an error")
			}
			failed = err != nil
			if !failed {
				if _, err := spnego.ParseNegTokenResp(out); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
