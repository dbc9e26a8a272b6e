package capture

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
)

// FuzzCalls decodes any bytes as a file: no panic, and what is yielded is consistent.
func FuzzCalls(f *testing.F) {
	for _, number := range []string{"01", "12", "10", "13", "18"} {
		all := packets(f, find(f, number).file)
		f.Add(pcap(f, all[:min(len(all), 60)]))
	}
	g := newGenerator(20000, 0.1, 7)
	b, err := io.ReadAll(g)
	require.NoError(f, err)
	f.Add(b)
	for _, name := range []string{"smb210-hmac-ntlm", "smb311-gmac-ntlm", "smb311-aes256ccm-ntlm", "smb311-gmac-krb5",
		"smb311-aes128gcm-krb5"} {
		b, err := os.ReadFile("testdata/sealed/" + name + ".pcap")
		require.NoError(f, err)
		f.Add(b)
	}
	kt := find(f, "13").keys(f)
	tickets, err := krb5.LoadTickets("testdata/sealed/ccache")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, b []byte) {
		checkAny(t, b, &Config{
			Keytab: kt, Tickets: tickets, NTHashes: passwords(backupPassword), MaxBuffered: 1 << 20, MaxConnections: 64,
		})
	})
}

// FuzzStreams changes the bytes of one side of a conversation that is otherwise whole: what TCP
// carries is reached without guessing what a file looks like.
func FuzzStreams(f *testing.F) {
	for _, number := range []string{"01", "12", "13", "16", "17"} {
		for _, dir := range []int{0, 1} {
			f.Add(payloads(f, find(f, number))[dir], payloads(f, find(f, number))[1-dir], uint16(445))
		}
	}
	kt := find(f, "13").keys(f)
	f.Fuzz(func(t *testing.T, client, server []byte, port uint16) {
		if len(client)+len(server) > 200<<10 {
			return
		}
		checkAny(t, conversationFile(t, client, server, port), &Config{Keytab: kt, MaxBuffered: 1 << 20})
	})
}

// payloads returns what the two ends of the first SMB or RPC connection of a capture sent.
func payloads(t testing.TB, r recording) [2][]byte {
	var out [2][]byte
	var client uint16
	for _, p := range packets(t, r.file) {
		tcp := flags(p)
		switch port := uint16(tcp.DstPort); {
		case client == 0 && tcp.SYN && (port == 445 || port == 5555):
			client = uint16(tcp.SrcPort)
		case client == 0:
		case uint16(tcp.SrcPort) == client:
			out[0] = append(out[0], tcp.Payload...)
		case uint16(tcp.DstPort) == client:
			out[1] = append(out[1], tcp.Payload...)
		}
	}
	return out
}

// conversationFile is a capture of one connection on which both ends send in turn.
func conversationFile(t testing.TB, client, server []byte, port uint16) []byte {
	g := newGenerator(0, 0, 1)
	c := &conversation{ends: [2]endpoint{{ip: []byte{10, 0, 0, 1}, port: 40000, seq: 1},
		{ip: []byte{10, 0, 0, 2}, port: port, seq: 1}}}
	c.handshake()
	for len(client)+len(server) > 0 {
		n := min(len(client), 1400)
		c.send(0, client[:n], ofNothing, false)
		client = client[n:]
		n = min(len(server), 1400)
		c.send(1, server[:n], ofNothing, false)
		server = server[n:]
	}
	c.fin()
	g.active = append(g.active, c)
	b, err := io.ReadAll(g)
	require.NoError(t, err)
	return b
}

// checkAny decodes a file and checks what holds for every call.
func checkAny(t *testing.T, b []byte, cfg *Config) {
	var sum Summary
	cfg.Summary = &sum
	ended := false
	for c, err := range Calls(bytes.NewReader(b), cfg) {
		require.False(t, ended, "something after an error")
		if err != nil {
			require.Nil(t, c)
			ended = true
			continue
		}
		require.Equal(t, c.Request == nil, c.RequestErr != nil)
		require.Equal(t, c.Response == nil, c.ResponseErr != nil || c.Fault != nil)
		require.False(t, c.ResponseErr != nil && c.Fault != nil)
		require.NotZero(t, c.Association)
		_ = c.User()
		_, err := json.Marshal(c)
		require.NoError(t, err)
	}
	require.LessOrEqual(t, len(sum.Problems), maxProblems+1)
}
