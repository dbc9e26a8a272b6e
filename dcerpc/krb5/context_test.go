package krb5_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5/krb5test"
)

const (
	testRealm   = "EXAMPLE.TEST"
	testService = "host/fs1.example.test"
	testUser    = "backup"
)

var allEtypes = []krb5.Etype{krb5.AES128SHA1, krb5.AES256SHA1, krb5.AES128SHA2, krb5.AES256SHA2, krb5.RC4HMAC}

// sizes are those of dcerpc.Context.TokenSize: a signature, a sealed message.
var sizes = map[krb5.Etype][2]int{
	krb5.AES128SHA1: {28, 76}, krb5.AES256SHA1: {28, 76}, krb5.AES128SHA2: {32, 80}, krb5.AES256SHA2: {40,
		88}, krb5.RC4HMAC: {37, 45},
}

func newRealm(etype krb5.Etype) *krb5test.Realm {
	r := krb5test.NewRealm(testRealm, etype)
	r.AddService(testService)
	r.AddUser(testUser, dcerpc.SIDBuiltinBackupOperators)
	return r
}

// A pair is an established context, seen from both sides.
type pair struct {
	initiator, acceptor    *krb5.Context
	apReq, apRep, thirdLeg []byte
}

func establish(t testing.TB, i *krb5.Initiator, a *krb5.Acceptor, level dcerpc.AuthLevel) pair {
	t.Helper()
	ic, err := i.NewContext(testService, level)
	require.NoError(t, err)
	ac, err := a.NewContext(level)
	require.NoError(t, err)
	p := pair{initiator: ic.(*krb5.Context), acceptor: ac.(*krb5.Context)}
	ctx := context.Background()
	var done bool
	p.apReq, done, err = ic.Step(ctx, nil)
	require.NoError(t, err)
	require.False(t, done)
	p.apRep, done, err = ac.Step(ctx, p.apReq)
	require.NoError(t, err)
	require.False(t, done)
	p.thirdLeg, done, err = ic.Step(ctx, p.apRep)
	require.NoError(t, err)
	require.True(t, done)
	out, done, err := ac.Step(ctx, p.thirdLeg)
	require.NoError(t, err)
	require.True(t, done)
	require.Empty(t, out)
	return p
}

func newPair(t testing.TB, etype krb5.Etype) pair {
	t.Helper()
	r := newRealm(etype)
	return establish(t, r.Initiator(testUser), r.Acceptor(), dcerpc.LevelPrivacy)
}

// A frame is one PDU's bytes, cut up as a dcerpc.Message.
type frame struct {
	header, body, trailer, token []byte
	signHeader                   bool
	sealed                       bool
}

func (f *frame) message() dcerpc.Message {
	return dcerpc.Message{Header: f.header, Body: f.body, Trailer: f.trailer, SignHeader: f.signHeader}
}

func (f *frame) clone() *frame {
	c := *f
	c.header, c.body, c.trailer, c.token = bytes.Clone(f.header), bytes.Clone(f.body), bytes.Clone(f.trailer), bytes.Clone(f.token)
	return &c
}

// protect makes a frame of a context's.
func protect(t testing.TB, c dcerpc.Context, body []byte, seal, signHeader bool) *frame {
	t.Helper()
	f := &frame{
		header:     []byte("a header of 24 bytes ..."),
		body:       bytes.Clone(body),
		trailer:    []byte("trailer."),
		signHeader: signHeader,
		sealed:     seal,
	}
	if seal {
		f.token = make([]byte, c.TokenSize(dcerpc.LevelPrivacy))
		require.NoError(t, c.Seal(f.message(), f.token))
	} else {
		f.token = make([]byte, c.TokenSize(dcerpc.LevelIntegrity))
		require.NoError(t, c.Sign(f.message(), f.token))
	}
	return f
}

// check is the other side's.
func (f *frame) check(c dcerpc.Context) error {
	if f.sealed {
		return c.Unseal(f.message(), f.token)
	}
	return c.Verify(f.message(), f.token)
}

func forEach(t *testing.T, test func(t *testing.T, etype krb5.Etype, seal, signHeader bool)) {
	for _, etype := range allEtypes {
		for _, seal := range []bool{false, true} {
			for _, signHeader := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v/seal=%v/header=%v", etype, seal, signHeader), func(t *testing.T) {
					t.Parallel()
					test(t, etype, seal, signHeader)
				})
			}
		}
	}
}

func TestProtect(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, etype krb5.Etype, seal, signHeader bool) {
		p := newPair(t, etype)
		require.Equal(t, sizes[etype][0], p.initiator.TokenSize(dcerpc.LevelIntegrity))
		require.Equal(t, sizes[etype][0], p.initiator.TokenSize(dcerpc.LevelPacket))
		require.Equal(t, sizes[etype][1], p.acceptor.TokenSize(dcerpc.LevelPrivacy))
		require.Zero(t, p.acceptor.TokenSize(dcerpc.LevelInsecureConnect))
		require.Equal(t, p.initiator.SessionKey(), p.acceptor.SessionKey())
		for _, dir := range [][2]*krb5.Context{{p.initiator, p.acceptor}, {p.acceptor, p.initiator}} {
			for _, n := range []int{0, 1, 8, 15, 16, 17, 31, 32, 33, 200, 4000, 16, 5800} {
				body := bytes.Repeat([]byte{byte(n)}, n)
				f := protect(t, dir[0], body, seal, signHeader)
				if seal && n >= 8 {
					require.NotEqual(t, body, f.body)
				}
				require.NoError(t, f.check(dir[1]), "body of %d bytes", n)
				require.Equal(t, body, f.body)
			}
		}
	})
}

// TestMICWithNumberZero takes a mechListMIC that was made with sequence number 0, as Windows may
// make it; messages go on with the numbers that were agreed on, and no message may have number 0.
func TestMICWithNumberZero(t *testing.T) {
	t.Parallel()
	for _, etype := range []krb5.Etype{0, krb5.RC4HMAC} {
		r := newRealm(etype)
		initiator := krb5.NewInitiator(ticketOf{r, nil}, &krb5.InitiatorConfig{InsecureRC4: true})
		acceptor, err := krb5.NewAcceptor(&krb5.AcceptorConfig{Keytab: r.Keytab(), InsecureRC4: true})
		require.NoError(t, err)
		for _, fromAcceptor := range []bool{false, true} {
			p := establish(t, initiator, acceptor, dcerpc.LevelPrivacy)
			from, to := p.initiator, p.acceptor
			if fromAcceptor {
				from, to = to, from
			}
			next := krb5.SetSendSequence(from, 0)
			mic, err := from.GetMIC([]byte("mechanisms"))
			require.NoError(t, err)
			require.Error(t, to.VerifyMIC([]byte("mechanism"), mic))
			require.NoError(t, to.VerifyMIC([]byte("mechanisms"), mic))

			zero := make([]byte, from.TokenSize(dcerpc.LevelIntegrity))
			krb5.SetSendSequence(from, 0)
			require.NoError(t, from.Sign(dcerpc.Message{Body: []byte("stub")}, zero))
			require.ErrorIs(t, to.Verify(dcerpc.Message{Body: []byte("stub")}, zero), krb5.ErrSequence)
			krb5.SetSendSequence(from, next)
			require.NoError(t, from.Sign(dcerpc.Message{Body: []byte("stub")}, zero))
			require.NoError(t, to.Verify(dcerpc.Message{Body: []byte("stub")}, zero))
		}
	}
}

// TestTicketTooLarge has a ticket with the SIDs of thousands of groups: the error speaks of its
// size.
func TestTicketTooLarge(t *testing.T) {
	t.Parallel()
	r := newRealm(0)
	groups := make([]dcerpc.SID, 0, 4000)
	for i := range cap(groups) {
		sid, err := dcerpc.ParseSID(fmt.Sprintf("S-1-5-21-1-2-%d-%d", i, i))
		require.NoError(t, err)
		groups = append(groups, sid)
	}
	for n, fits := range map[int]bool{100: true, 4000: false} {
		name := fmt.Sprintf("member of %d", n)
		r.AddUser(name, groups[:n]...)
		c, err := r.Initiator(name).NewContext(testService, dcerpc.LevelPrivacy)
		require.NoError(t, err)
		_, _, err = c.Step(t.Context(), nil)
		if fits {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, krb5.ErrTooLarge)
		require.ErrorContains(t, err, "fewer groups")
	}
}
