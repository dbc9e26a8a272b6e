package krb5_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
)

// appendCCache makes a credential cache of version 4, as kinit would.
func appendCCache(client krb5.Principal, tickets ...*krb5.Ticket) []byte {
	be := binary.BigEndian
	data := func(b []byte, v []byte) []byte { return append(be.AppendUint32(b, uint32(len(v))), v...) }
	principal := func(b []byte, p krb5.Principal) []byte {
		b = be.AppendUint32(b, 1)
		b = be.AppendUint32(b, uint32(len(p.Name)))
		b = data(b, []byte(p.Realm))
		for _, n := range p.Name {
			b = data(b, []byte(n))
		}
		return b
	}
	b := []byte{5, 4, 0, 12, 0, 1, 0, 8, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0}
	b = principal(b, client)
	for _, t := range tickets {
		b = principal(b, t.Client)
		b = principal(b, t.Service)
		b = be.AppendUint16(b, uint16(t.SessionKey.Etype))
		b = data(b, t.SessionKey.Value)
		start := uint32(t.EndTime.Add(-10 * time.Hour).Unix())
		for _, v := range []uint32{start, start, uint32(t.EndTime.Unix()), 0} {
			b = be.AppendUint32(b, v)
		}
		b = append(b, 0)
		b = append(b, 0, 0, 0, 0)
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
		b = data(b, t.Raw)
		b = data(b, nil)
	}
	return b
}

// A cache with the service's own ticket needs no KDC.
func TestCCacheWithServiceTicket(t *testing.T) {
	t.Parallel()
	r := newRealm(0)
	ticket, err := r.Ticket(testUser, testService, nil)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "ccache")
	require.NoError(t, os.WriteFile(path, appendCCache(ticket.Client, ticket), 0o600))
	for _, p := range []string{path, "FILE:" + path} {
		i, err := krb5.NewInitiatorFromCCache(p, &krb5.InitiatorConfig{Config: config.New()})
		require.NoError(t, err)
		p := establish(t, i, r.Acceptor(), dcerpc.LevelPrivacy)
		require.Equal(t, testUser, p.acceptor.Identity().Account)
	}
}

func TestCCacheErrors(t *testing.T) {
	t.Parallel()
	r := newRealm(0)
	ticket, err := r.Ticket(testUser, testService, nil)
	require.NoError(t, err)
	good := appendCCache(ticket.Client, ticket)
	path := filepath.Join(t.TempDir(), "ccache")
	cfg := &krb5.InitiatorConfig{Config: config.New()}

	_, err = krb5.NewInitiatorFromCCache("KCM:0", cfg)
	require.ErrorIs(t, err, krb5.ErrConfig)
	require.ErrorContains(t, err, "KRB5CCNAME=FILE:")
	_, err = krb5.NewInitiatorFromCCache(path, cfg)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "kinit")
	for n := range good {
		require.NoError(t, os.WriteFile(path, good[:n], 0o600))
		_, err := krb5.NewInitiatorFromCCache(path, cfg)
		if err != nil {
			require.ErrorIs(t, err, krb5.ErrConfig)
		}
	}

	step := func(tickets ...*krb5.Ticket) error {
		require.NoError(t, os.WriteFile(path, appendCCache(ticket.Client, tickets...), 0o600))
		i, err := krb5.NewInitiatorFromCCache(path, cfg)
		require.NoError(t, err)
		c, err := i.NewContext("host/other.example.test", dcerpc.LevelPrivacy)
		require.NoError(t, err)
		_, _, err = c.Step(t.Context(), nil)
		return err
	}
	err = step(ticket)
	require.ErrorIs(t, err, krb5.ErrExpired)
	require.ErrorContains(t, err, "no ticket-granting ticket")
	require.ErrorContains(t, err, "kinit")
	tgt := *ticket
	tgt.Service = krb5.Principal{Name: []string{"krbtgt", testRealm}, Realm: testRealm}
	tgt.EndTime = time.Now().Add(-time.Minute)
	err = step(&tgt)
	require.ErrorIs(t, err, krb5.ErrExpired)
	require.ErrorContains(t, err, "backup@EXAMPLE.TEST")
	require.ErrorContains(t, err, "kinit")
	tgt.EndTime = time.Now().Add(time.Hour)
	err = step(&tgt)
	require.ErrorIs(t, err, krb5.ErrConfig)
	require.ErrorContains(t, err, "no KDC of realm EXAMPLE.TEST")
}
