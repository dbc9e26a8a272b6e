package krb5_test

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
)

// A capturedPDU is one PDU of testdata/samba_*.txt: real traffic between Samba's rpcclient and its
// server (4.17.12, Heimdal).
type capturedPDU struct {
	fromClient bool
	b          []byte
}

func readCapture(t testing.TB, path string) []capturedPDU {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	var pdus []capturedPDU
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		side, text, _ := strings.Cut(lines.Text(), " ")
		b, err := hex.DecodeString(text)
		require.NoError(t, err)
		pdus = append(pdus, capturedPDU{side == "C", b})
	}
	require.NoError(t, lines.Err())
	return pdus
}

func (p *capturedPDU) token() []byte {
	return p.b[len(p.b)-int(binary.LittleEndian.Uint16(p.b[10:])):]
}

func (p *capturedPDU) message() dcerpc.Message {
	end := len(p.b) - len(p.token())
	return dcerpc.Message{Header: p.b[:24], Body: p.b[24 : end-8], Trailer: p.b[end-8 : end], SignHeader: true}
}

// Samba's own messages are read in both directions, and its PAC gives the SIDs.
func TestObserverReadsSamba(t *testing.T) {
	t.Parallel()
	kt, err := krb5.LoadKeytab("testdata/samba.keytab")
	require.NoError(t, err)
	for _, seal := range []bool{false, true} {
		path := "testdata/samba_sign.txt"
		if seal {
			path = "testdata/samba_seal.txt"
		}
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			var o *krb5.Observer
			var next [2]uint64
			contexts, messages := 0, 0
			for _, p := range readCapture(t, path) {
				switch p.b[2] {
				case 11:
					o = krb5.NewObserver(kt)
					require.NoError(t, o.APReq(p.token()))
					id := o.Identity()
					require.Equal(t, "krb5", id.Mechanism)
					require.Equal(t, "FSRVP.TEST", id.Domain)
					require.Equal(t, id.Account+"@FSRVP.TEST", id.Principal)
					require.NotEmpty(t, id.SIDs)
					require.True(t, strings.HasPrefix(string(id.SIDs[0]), "S-1-5-21-"), id.SIDs)
					contexts++
				case 12:
					require.NoError(t, o.APRep(p.token()))
					next = [2]uint64{o.FirstSequence(krb5.FromInitiator), o.FirstSequence(krb5.FromAcceptor)}
					require.Len(t, o.SessionKey(), 32)
				case 16:
					require.NoError(t, o.ThirdLeg(p.token()))
				default:
					d := krb5.FromAcceptor
					if p.fromClient {
						d = krb5.FromInitiator
					}
					m := p.message()
					var seq uint64
					var err error
					if seal {
						require.Len(t, p.token(), o.TokenSize(dcerpc.LevelPrivacy))
						seq, err = o.Unseal(d, m, p.token())
					} else {
						require.Len(t, p.token(), o.TokenSize(dcerpc.LevelIntegrity))
						seq, err = o.Verify(d, m, p.token())
					}
					require.NoError(t, err)
					require.Equal(t, next[d], seq)
					next[d]++
					messages++
				}
			}
			require.Equal(t, 3, contexts)
			require.Greater(t, messages, 10)
		})
	}
}

// With the client's ticket the service's keytab is not needed, and with another ticket nothing is
// read.
func TestObserverWithTickets(t *testing.T) {
	t.Parallel()
	for _, etype := range []krb5.Etype{krb5.AES256SHA1, krb5.AES256SHA2} {
		r := newRealm(etype)
		ticket, err := r.Ticket(testUser, testService, nil)
		require.NoError(t, err)
		other, err := r.Ticket(testUser, testService, nil)
		require.NoError(t, err)
		p := establish(t, krb5.NewInitiator(fixedTicket{ticket}, nil), r.Acceptor(), dcerpc.LevelPrivacy)

		o := krb5.NewObserver(nil, other, ticket)
		require.NoError(t, o.APReq(p.apReq))
		require.NoError(t, o.APRep(p.apRep))
		require.NoError(t, o.ThirdLeg(p.thirdLeg))
		require.Equal(t, p.initiator.SessionKey(), o.SessionKey())
		id := o.Identity()
		require.Equal(t, testUser+"@"+r.Name(), id.Principal)
		require.Empty(t, id.SIDs)

		require.ErrorIs(t, krb5.NewObserver(nil, other).APReq(p.apReq), krb5.ErrNoKey)
		broken := *ticket
		broken.SessionKey = other.SessionKey
		require.ErrorIs(t, krb5.NewObserver(nil, &broken).APReq(p.apReq), krb5.ErrToken)
	}
}
