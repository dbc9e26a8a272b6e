package krb5_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
)

// A gssPeer is testdata/mitgss.py: MIT's GSS-API in a process.
type gssPeer struct {
	t   *testing.T
	in  *json.Encoder
	out *json.Decoder
}

type gssMessage struct {
	Op      string `json:"op,omitempty"`
	Token   []byte `json:"token"`
	Header  []byte `json:"header,omitempty"`
	Body    []byte `json:"body"`
	Trailer []byte `json:"trailer,omitempty"`
	Sign    bool   `json:"sign"`
	Done    bool   `json:"done,omitempty"`
	Text    string `json:"text,omitempty"`
	Error   string `json:"error,omitempty"`
}

func startGSS(t *testing.T, k *mitKDC, env []string, args ...string) *gssPeer {
	t.Helper()
	// Debian's package is for the system's own Python, which may not be the first in the path.
	python := "/usr/bin/python3"
	needPeer(t, "MIT's GSS-API (Debian: python3-gssapi)", exec.Command(python, "-c", "import gssapi").Run())
	cmd := exec.Command(python, append([]string{"testdata/mitgss.py"}, args...)...)
	cmd.Env = append(append([]string(nil), k.env...), env...)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("mitgss.py: %v: %s", err, stderr.String())
		}
	})
	return &gssPeer{t, json.NewEncoder(in), json.NewDecoder(out)}
}

func (p *gssPeer) try(m gssMessage) gssMessage {
	p.t.Helper()
	require.NoError(p.t, p.in.Encode(m))
	var reply gssMessage
	require.NoError(p.t, p.out.Decode(&reply))
	return reply
}

func (p *gssPeer) do(m gssMessage) gssMessage {
	p.t.Helper()
	reply := p.try(m)
	require.Empty(p.t, reply.Error)
	return reply
}

// testMITGSS runs the exchange with MIT's GSS-API on the other side, as acceptor and as initiator,
// in DCE style and not, and then messages in both directions.
func testMITGSS(t *testing.T, k *mitKDC, etype krb5.Etype, user, service string, i *krb5.Initiator, a *krb5.Acceptor) {
	t.Run("MIT accepts", func(t *testing.T) {
		for _, dceStyle := range []bool{true, false} {
			c, err := i.NewSMBContext(service)
			require.NoError(t, err)
			if dceStyle {
				dce, err := i.NewContext(service, dcerpc.LevelPrivacy)
				require.NoError(t, err)
				c = dce.(*krb5.Context)
			}
			peer := startGSS(t, k, []string{"KRB5_KTNAME=FILE:" + k.path(etype.String())}, "accept")
			runExchange(t, c, peer, true)
			require.Equal(t, user+"@EXAMPLE.TEST", peer.do(gssMessage{Op: "name"}).Text)
			exchangeMessages(t, c, peer)
		}
	})
	t.Run("MIT initiates", func(t *testing.T) {
		env := []string{"KRB5CCNAME=FILE:" + k.path("cc-"+etype.String())}
		kinit, err := sbin("kinit")
		require.NoError(t, err)
		cmd := exec.Command(kinit, user)
		cmd.Env = append(append([]string(nil), k.env...), env...)
		cmd.Stdin = strings.NewReader(password + "\n")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		for _, flags := range []int{0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x1000, 0x2 | 0x4 | 0x8 | 0x10 | 0x20} {
			c, err := a.NewContext(dcerpc.LevelPrivacy)
			require.NoError(t, err)
			peer := startGSS(t, k, env, "init", service+"@EXAMPLE.TEST", fmt.Sprint(flags))
			runExchange(t, c.(*krb5.Context), peer, false)
			require.Equal(t, user+"@EXAMPLE.TEST", c.Identity().Principal)
			exchangeMessages(t, c.(*krb5.Context), peer)
		}
	})
}

func runExchange(t *testing.T, c *krb5.Context, peer *gssPeer, weInitiate bool) {
	t.Helper()
	var token []byte
	ours, theirs := false, false
	if weInitiate {
		var err error
		token, ours, err = c.Step(t.Context(), nil)
		require.NoError(t, err)
	}
	for !ours || !theirs {
		if !theirs {
			reply := peer.do(gssMessage{Op: "step", Token: token})
			token, theirs = reply.Token, reply.Done
		}
		if !ours {
			var err error
			token, ours, err = c.Step(t.Context(), token)
			require.NoError(t, err)
		}
	}
	require.Equal(t, c.SessionKey(), peer.do(gssMessage{Op: "key"}).Token)
}

func exchangeMessages(t *testing.T, c *krb5.Context, peer *gssPeer) {
	t.Helper()
	list := []byte("a list of mechanisms")
	mic, err := c.GetMIC(list)
	require.NoError(t, err)
	peer.do(gssMessage{Op: "verify", Body: list, Token: mic})
	require.NoError(t, c.VerifyMIC(list, peer.do(gssMessage{Op: "mic", Body: list}).Token))
	for _, signHeader := range []bool{false, true} {
		for _, size := range []int{16, 32, 208, 4000} {
			body := bytes.Repeat([]byte{byte(size)}, size)
			f := protect(t, c, body, true, signHeader)
			reply := peer.do(gssMessage{Op: "unwrap", Token: f.token, Header: f.header, Body: f.body,
				Trailer: f.trailer, Sign: signHeader})
			require.Equal(t, body, reply.Body)

			f = &frame{header: []byte("their header"), body: body, trailer: []byte("trailer."), sealed: true,
				signHeader: signHeader}
			reply = peer.do(gssMessage{Op: "wrap", Header: f.header, Body: f.body, Trailer: f.trailer,
				Sign: signHeader})
			f.token, f.body = reply.Token, reply.Body
			require.Len(t, f.token, c.TokenSize(dcerpc.LevelPrivacy))
			require.NotEqual(t, body, f.body)
			require.NoError(t, f.check(c))
			require.Equal(t, body, f.body)
		}
	}
	// What we seal, MIT reads to the last bit.
	f := protect(t, c, make([]byte, 32), true, true)
	f.token[20] ^= 1
	require.NotEmpty(t, peer.try(gssMessage{Op: "unwrap", Token: f.token, Header: f.header, Body: f.body,
		Trailer: f.trailer, Sign: true}).Error)
}
