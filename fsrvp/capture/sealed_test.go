package capture

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	smb2codec "github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture/internal/smb2"
)

// passwords gives the hashes of some for every account.
func passwords(list ...string) func(domain, user string) [][16]byte {
	return func(string, string) (hashes [][16]byte) {
		for _, p := range list {
			hashes = append(hashes, ntlm.NTHash(p))
		}
		return hashes
	}
}

// backupPassword is that of backup in the domains of the captures.
const backupPassword = "Backup.Passw0rd1"

// TestNTLM reads a real capture whose calls NTLM has sealed, by password and by a file of hashes.
func TestNTLM(t *testing.T) {
	r := find(t, "18")
	file := filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(file, []byte(fmt.Sprintf("ELSE\\backup\t%x\n", ntlm.NTHash(backupPassword))),
		0o600))
	users, err := ntlm.OpenHashFile(file)
	require.NoError(t, err)
	for name, hashes := range map[string]func(domain, user string) [][16]byte{
		"password": passwords("other", backupPassword), "file": users.NTHashes,
	} {
		t.Run(name, func(t *testing.T) {
			calls, sum := decode(t, r.file, &Config{NTHashes: hashes})
			require.Empty(t, sum.Problems)
			require.Len(t, calls, 1)
			c := calls[0]
			require.NoError(t, c.Err())
			require.Equal(t, &fsrvp.GetSupportedVersionResponse{MinVersion: 1, MaxVersion: 1}, c.Response)
			require.Equal(t, `FSRVP\backup`, c.User())
			require.Equal(t, dcerpc.LevelPrivacy, c.Peer.Level)
			require.EqualValues(t, 15, sum.Signatures)
		})
	}
	calls, sum := decode(t, r.file, &Config{NTHashes: passwords("wrong")})
	require.ErrorIs(t, calls[0].RequestErr, ErrKey)
	require.ErrorContains(t, calls[0].RequestErr, `no password or hash that was given is that of FSRVP\backup`)
	require.Equal(t, ErrKey, sum.Problems[0].Reason)
	require.Zero(t, sum.Signatures)
}

// TestSMBSignatures checks the signatures of every capture whose sessions have keys. All of them
// are right.
func TestSMBSignatures(t *testing.T) {
	for number, want := range map[string]uint64{
		"01": 61, "02": 75, "03": 75, "05": 75, "06": 21, "13": 1, "14": 1, "15": 1, "16": 1, "17": 75, "18": 15,
	} {
		r := find(t, number)
		_, sum := decode(t, r.file, &Config{Keytab: r.keys(t), NTHashes: passwords(backupPassword, "Nobody.Passw0rd1")})
		require.Equal(t, want, sum.Signatures, number)
		require.Zero(t, reasons(sum)[ErrTampered], number)
		require.Zero(t, sum.Tampered)
		_, sum = decode(t, r.file, nil)
		require.Zero(t, sum.Signatures, "no key")
	}
}

// change returns a capture in which one byte of a packet's TCP payload is another, counted from its
// end.
func change(t *testing.T, list []rawPacket, i, fromEnd int) []byte {
	changed := append([]rawPacket(nil), list...)
	changed[i].data = bytes.Clone(list[i].data)
	changed[i].data[len(changed[i].data)-1-fromEnd] ^= 1
	return pcap(t, changed)
}

// pipePackets returns the packets that carry a request or response of the interface to a pipe.
func pipePackets(list []rawPacket, fsrvpCalls []*Call) (requests, responses []int) {
	for _, c := range fsrvpCalls {
		requests = append(requests, int(c.Packet)-1)
		responses = append(responses, int(c.ResponsePacket)-1)
	}
	return requests, responses
}

// TestTampering changes one byte of the stub, or of its padding, in each request and response, as
// somebody on the way may.
func TestTampering(t *testing.T) {
	for number, tt := range map[string]struct {
		fromEnd int    // a byte of the stub, or of the sealed stub
		what    string // is said to be wrong
	}{
		"01": {0, "SMB IOCTL re"},        // signed by SMB alone
		"02": {28 + 8, "RPC: krb5: "},    // by Kerberos inside too
		"05": {16 + 8, "RPC: ntlm: bad"}, // by NTLM inside too
	} {
		t.Run(number, func(t *testing.T) {
			r := find(t, number)
			cfg := &Config{Keytab: r.keys(t), NTHashes: passwords(backupPassword)}
			list := packets(t, r.file)
			calls, _ := decode(t, r.file, cfg)
			requests, responses := pipePackets(list, calls)
			for i, at := range append(requests, responses...) {
				if i < len(calls) && calls[i].Opnum == fsrvp.OpGetSupportedVersion {
					continue // there is no stub to change
				}
				got, sum := decodeBytes(t, change(t, list, at, tt.fromEnd), cfg)
				require.Len(t, got, len(calls))
				require.EqualValues(t, 1, sum.Tampered)
				require.True(t, got[i%len(calls)].Tampered, "call %d", i)
				require.True(t, hasProblem(sum, ErrTampered, tt.what), "%v", sum.Problems)
				require.True(t, hasProblem(sum, ErrTampered, "SMB IOCTL re"), "%v", sum.Problems)
			}
			// Without the key nobody can know.
			_, sum := decodeBytes(t, change(t, list, requests[3], tt.fromEnd), nil)
			require.Zero(t, sum.Tampered)
			require.Zero(t, reasons(sum)[ErrTampered])
		})
	}
}

func hasProblem(sum Summary, r Reason, detail string) bool {
	for _, p := range sum.Problems {
		if p.Reason == r && len(p.Detail) >= len(detail) && p.Detail[:len(detail)] == detail {
			return true
		}
	}
	return false
}

// TestLossInNTLM leaves requests out of a capture that NTLM has signed: RC4 goes on from one
// message to the next, and what follows is read all the same.
func TestLossInNTLM(t *testing.T) {
	client, server := ntlmPair(t)
	legs := ntlmLegs(t, client, server)
	var conv [2][][]byte // PDUs by direction
	add := func(dir int, p []byte) { conv[dir] = append(conv[dir], p) }
	const contextID = 7
	auth := func(token []byte) pdu.Auth {
		return pdu.Auth{Type: uint8(dcerpc.AuthNTLM), Level: uint8(dcerpc.LevelPrivacy), ContextID: contextID,
			Token: token}
	}
	bind := pdu.Bind{Header: pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 1}, MaxXmit: 4280, MaxRecv: 4280,
		Contexts: []pdu.ContextElement{{Abstract: fsrvp.Interface(),
			Transfer: []pdu.SyntaxID{pdu.NDR20()}}}, Auth: auth(legs[0])}
	ack := pdu.BindAck{Header: pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 1}, MaxXmit: 4280, MaxRecv: 4280,
		SecondaryAddress: "1\x00", Results: []pdu.ContextResult{{Transfer: pdu.NDR20()}}, Auth: auth(legs[1])}
	auth3 := pdu.Auth3{Header: pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 1}, Auth: auth(legs[2])}
	add(0, must(bind.AppendBinary(nil)))
	add(1, must(ack.AppendBinary(nil)))
	add(0, must(auth3.AppendBinary(nil)))
	add(1, nil)
	const n = 12
	for i := range uint32(n) {
		req, resp := genMessages(int(i))
		add(0, sealedPDU(t, client, pdu.TypeRequest, i+2, uint16(req.Opnum()), must(req.Append(nil, 0)), contextID))
		add(1, sealedPDU(t, server, pdu.TypeResponse, i+2, 0, must(resp.Append(nil, 0)), contextID))
	}
	for name, left := range map[string]map[int]bool{"none": {}, "some": {4: true, 5: true, 8: true}} {
		g := newGenerator(0, 0, 1)
		c := &conversation{ends: [2]endpoint{{net.IP{10, 0, 0, 1}, 40000, 1}, {net.IP{10, 0, 0, 2}, 49152, 1}}}
		c.handshake()
		for i := range conv[0] {
			for dir := range 2 {
				before := len(c.queue)
				c.send(dir, conv[dir][i], ofNothing, false)
				if left[i] && len(c.queue) > before {
					c.queue = c.queue[:before] // the sequence numbers go on
				}
			}
		}
		c.fin()
		g.active = append(g.active, c)
		var file bytes.Buffer
		_, err := file.ReadFrom(g)
		require.NoError(t, err)
		calls, sum := decodeBytes(t, file.Bytes(), &Config{NTHashes: passwords("Secret1")})
		require.Len(t, calls, n-len(left), name)
		for _, call := range calls {
			require.NoError(t, call.RequestErr, name)
			require.NoError(t, call.ResponseErr, name)
			want, _ := genMessages(int(call.CallID) - 2)
			require.Equal(t, want, call.Request)
		}
		require.Zero(t, reasons(sum)[ErrSignature], name)
	}
}

// ntlmPair are two ends of a context.
func ntlmPair(t *testing.T) (client, server dcerpc.Context) {
	i, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "FSRVP", User: "backup", Password: "Secret1"})
	require.NoError(t, err)
	a, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: onePassword("Secret1"), ComputerName: "FS"})
	require.NoError(t, err)
	client, err = i.NewContext("host/fs", dcerpc.LevelPrivacy)
	require.NoError(t, err)
	server, err = a.NewContext(dcerpc.LevelPrivacy)
	require.NoError(t, err)
	return client, server
}

// onePassword is that of all accounts.
type onePassword string

func (p onePassword) Verify(_ context.Context, c *ntlm.Challenge) (*ntlm.Result, error) {
	key, ok := c.Check(ntlm.NTHash(string(p)))
	if !ok {
		return nil, ntlm.ErrLogonFailure
	}
	return &ntlm.Result{SessionBaseKey: key, Identity: dcerpc.Identity{Account: c.User, Domain: c.Domain}}, nil
}

func ntlmLegs(t *testing.T, client, server dcerpc.Context) (legs [3][]byte) {
	var err error
	legs[0], _, err = client.Step(t.Context(), nil)
	require.NoError(t, err)
	legs[1], _, err = server.Step(t.Context(), legs[0])
	require.NoError(t, err)
	legs[2], _, err = client.Step(t.Context(), legs[1])
	require.NoError(t, err)
	_, done, err := server.Step(t.Context(), legs[2])
	require.NoError(t, err)
	require.True(t, done)
	return legs
}

// sealedPDU makes a request or response of one fragment.
func sealedPDU(t *testing.T, c dcerpc.Context, kind pdu.Type, callID uint32, op uint16, stub []byte,
	contextID uint32) []byte {
	f := pdu.Fragmenter{
		Type: kind, CallID: callID, Opnum: op, Stub: stub, MaxXmit: 4280,
		AuthType: uint8(dcerpc.AuthNTLM), AuthLevel: uint8(dcerpc.LevelPrivacy), AuthContextID: contextID, TokenSize: ntlm.SignatureSize,
	}
	p, err := f.Next(nil)
	require.NoError(t, err)
	require.False(t, f.More())
	require.NoError(t, c.Seal(dcerpc.Message{Header: p.Header, Body: p.Body, Trailer: p.Trailer, SignHeader: true},
		p.Token))
	return p.PDU
}

// TestChannelKeys has two connections of one session sign with keys of their own.
func TestChannelKeys(t *testing.T) {
	key := []byte("0123456789abcdef")
	chosen := smb2.NegotiateResponse{Dialect: smb2.Dialect311, Signing: 2}
	var one, two channel
	one.establish(chosen, key, smb2.Preauth{1})
	two.establish(chosen, key, smb2.Preauth{2})
	msg := make([]byte, 80)
	copy(msg, smb2.Magic)
	msg[4] = smb2.HeaderSize
	one.signer.Sign(msg)
	require.True(t, one.signer.Verify(msg))
	require.False(t, two.signer.Verify(msg))
	two.establish(chosen, nil, smb2.Preauth{})
	require.NotNil(t, two.signer)
}

// A sealedCapture is what two calls of our client were protected by, on the way to a real smbd.
type sealedCapture struct {
	name    string
	dialect smb2codec.Dialect
	signing []smb2codec.SigningAlgorithm // to offer; of dialects before 3.1.1 nothing is offered
	cipher  smb2codec.Cipher             // zero: signed alone
}

func sealedCaptures() []sealedCapture {
	type algorithms = []smb2codec.SigningAlgorithm
	return []sealedCapture{
		{"smb210-hmac", smb2codec.SMB210, nil, 0},
		{"smb300-cmac", smb2codec.SMB300, nil, 0},
		{"smb302-cmac", smb2codec.SMB302, nil, 0},
		{"smb311-hmac", smb2codec.SMB311, algorithms{smb2codec.HMACSHA256}, 0},
		{"smb311-cmac", smb2codec.SMB311, algorithms{smb2codec.AESCMAC}, 0},
		{"smb311-gmac", smb2codec.SMB311, algorithms{smb2codec.AESGMAC}, 0},
		{"smb300-aes128ccm", smb2codec.SMB300, nil, smb2codec.AES128CCM},
		{"smb311-aes128ccm", smb2codec.SMB311, nil, smb2codec.AES128CCM},
		{"smb311-aes128gcm", smb2codec.SMB311, nil, smb2codec.AES128GCM},
		{"smb311-aes256ccm", smb2codec.SMB311, nil, smb2codec.AES256CCM},
		{"smb311-aes256gcm", smb2codec.SMB311, nil, smb2codec.AES256GCM},
	}
}

// checkSealed decodes one.
func checkSealed(t *testing.T, file []byte, mech string, tickets []*krb5.Ticket, tt sealedCapture) {
	cfg := &Config{Tickets: tickets}
	user := "backup@FSRVP.TEST"
	if mech == "ntlm" {
		cfg = &Config{NTHashes: passwords(backupPassword)}
		user = `FSRVP\backup`
	}
	calls, sum := decodeBytes(t, file, cfg)
	require.Empty(t, sum.Problems)
	require.Len(t, calls, 2)
	require.Equal(t, &fsrvp.GetSupportedVersionResponse{MinVersion: 1, MaxVersion: 1}, calls[0].Response)
	require.Equal(t, fsrvp.OpIsPathSupported, calls[1].Opnum)
	for _, c := range calls {
		require.NoError(t, c.Err())
		require.Equal(t, user, c.User())
		require.Equal(t, dcerpc.LevelPrivacy, c.Peer.Level)
		require.Equal(t, tt.cipher != 0, c.Peer.SessionEncrypted)
	}
	if tt.cipher == 0 {
		require.Greater(t, sum.Signatures, uint64(8))
	}

	// Each byte of SMB's answers is protected: one that is changed shows.
	if tt.cipher == 0 {
		list := packetsOf(t, file)
		_, sum = decodeBytes(t, change(t, list, int(calls[1].ResponsePacket)-1, 0), cfg)
		require.EqualValues(t, 1, sum.Tampered)
		require.EqualValues(t, 2, reasons(sum)[ErrTampered]+reasons(sum)[ErrSignature])
	}

	// Without the keys there is nothing to see.
	calls, sum = decodeBytes(t, file, nil)
	require.NotEmpty(t, sum.Problems)
	for _, c := range calls {
		require.ErrorIs(t, c.RequestErr, ErrSealed)
	}
}

// TestKeptSealed reads the kept ones.
func TestKeptSealed(t *testing.T) {
	tickets, err := krb5.LoadTickets("testdata/sealed/ccache")
	require.NoError(t, err)
	for _, tt := range sealedCaptures() {
		for _, mech := range []string{"krb5", "ntlm"} {
			name := tt.name + "-" + mech
			t.Run(name, func(t *testing.T) {
				file, err := os.ReadFile("testdata/sealed/" + name + ".pcap")
				require.NoError(t, err)
				checkSealed(t, file, mech, tickets, tt)
			})
		}
	}
}

// TestFileDataSigned checks the signatures of file data too, where the key is known and the message
// is not too long.
func TestFileDataSigned(t *testing.T) {
	var sum Summary
	d := newDecoder((&Config{Summary: &sum, MaxMessage: 64 << 10}).withDefaults())
	s := &stream{d: d}
	s.buffers.budget = &d.buffers
	c := newSMBConn(s)
	ch := new(channel)
	ch.establish(smb2.NegotiateResponse{Dialect: smb2.Dialect311, Signing: 1}, []byte("0123456789abcdef"),
		smb2.Preauth{1})
	c.channels[7] = ch
	w := smbWriter{session: 7, tree: 1}
	message := func(size int) []byte {
		b := w.message(smb2.Read, smb2.FlagResponse, 0, smb2ReadResponse(make([]byte, size)))
		ch.signer.Sign(b[netbiosHeader:])
		return b
	}
	send := func(b []byte) {
		for len(b) > 0 {
			n := min(len(b), 1460)
			c.data(false, b[:n], moment{})
			b = b[n:]
		}
	}
	send(message(20000))
	require.EqualValues(t, 1, sum.Signatures)
	require.Empty(t, sum.Problems)
	changed := message(20000)
	changed[15000] ^= 1
	send(changed)
	require.EqualValues(t, 2, sum.Signatures)
	require.True(t, hasProblem(sum, ErrTampered, "SMB READ response"))
	send(message(100 << 10))
	require.EqualValues(t, 2, sum.Signatures, "longer than MaxMessage")
	d.buffers.left = d.cfg.MaxBuffered / 3
	send(message(20000))
	require.EqualValues(t, 2, sum.Signatures, "no room for what is not needed")
	require.Len(t, sum.Problems, 1)
	require.Zero(t, s.buffers.held)
}
