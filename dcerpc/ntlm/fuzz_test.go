package ntlm

import (
	"context"
	"testing"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// tokens are those of one real exchange, for the corpora.
func tokens(f *testing.F) exchange {
	client, server := newPair(f, dcerpc.LevelPrivacy)
	return establish(f, client, server)
}

func FuzzParseMessages(f *testing.F) {
	x := tokens(f)
	for _, b := range [][]byte{x.negotiate, x.challenge, x.authenticate, unhex(f, exampleChallenge),
		unhex(f, exampleAuthenticate)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		parseNegotiate(b)
		if m, err := parseChallenge(b); err == nil {
			checkAVPairs(t, m.targetInfo, b)
		}
		if m, err := parseAuthenticate(b); err == nil {
			m.anonymous()
			if pairs, err := parseClientChallenge(m.nt); err == nil {
				checkAVPairs(t, pairs, b)
			}
		}
	})
}

// checkAVPairs reads pairs again from what they are written as.
func checkAVPairs(t *testing.T, pairs []avPair, message []byte) {
	var b []byte
	for _, p := range pairs {
		b = appendAV(b, p.id, p.value)
	}
	if len(b) > len(message) {
		t.Fatalf("%d bytes of pairs in a message of %d", len(b), len(message))
	}
	again, err := parseAVPairs(appendAV(b, msvAvEOL, nil))
	if err != nil || len(again) != len(pairs) {
		t.Fatalf("%d pairs became %d: %v", len(pairs), len(again), err)
	}
}

// FuzzAcceptorStep plays a client: whatever it sends, it is let in only by the password.
func FuzzAcceptorStep(f *testing.F) {
	x := tokens(f)
	f.Add(x.negotiate, x.authenticate)
	f.Add(x.negotiate, unhex(f, exampleAuthenticate))
	f.Add(x.negotiate[:16], []byte{})
	a := newAcceptor(f, accounts{"a password that nobody uses"})
	f.Fuzz(func(t *testing.T, negotiate, authenticate []byte) {
		c, err := a.NewContext(dcerpc.LevelIntegrity)
		if err != nil {
			t.Fatal(err)
		}
		if _, done, _ := c.Step(context.Background(), negotiate); done {
			t.Fatal("done after the first leg")
		}
		if _, done, err := c.Step(context.Background(), authenticate); done || err == nil {
			t.Fatal("let in")
		}
	})
}

// FuzzInitiatorStep plays a server.
func FuzzInitiatorStep(f *testing.F) {
	f.Add(tokens(f).challenge)
	f.Add(unhex(f, exampleChallenge))
	i := newInitiator(f, "backup", "Secret1")
	f.Fuzz(func(t *testing.T, challenge []byte) {
		c, err := i.NewContext("host/fs", dcerpc.LevelInsecureConnect)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Step(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		out, done, err := c.Step(context.Background(), challenge)
		if done != (err == nil) || done != (len(out) > 0) {
			t.Fatalf("%d bytes, done %t, %v", len(out), done, err)
		}
		if done {
			if _, err := parseAuthenticate(out); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzCheck plays somebody on the way who makes messages up.
func FuzzCheck(f *testing.F) {
	f.Add([]byte("header"), []byte("body"), []byte("trailer8"), make([]byte, SignatureSize), true)
	f.Fuzz(func(t *testing.T, header, body, trailer, token []byte, sealed bool) {
		_, server := sessionPair()
		level := dcerpc.LevelIntegrity
		if sealed {
			level = dcerpc.LevelPrivacy
		}
		if check(contextOf(server), level, dcerpc.Message{Header: header, Body: body, Trailer: trailer}, token) == nil {
			t.Fatal("a forged message")
		}
	})
}

func FuzzParseHashLine(f *testing.F) {
	f.Add("FSRVP\\backup\t8846f7eaee8fb117ad06bdd830b7586c\tS-1-5-21-1-2-3-1104,S-1-5-32-551")
	f.Add("\\backup@fsrvp.test\t8846f7eaee8fb117ad06bdd830b7586c")
	f.Fuzz(func(t *testing.T, line string) {
		if a, err := parseHashLine(line); err == nil && a.user == "" {
			t.Fatal("nobody")
		}
	})
}
