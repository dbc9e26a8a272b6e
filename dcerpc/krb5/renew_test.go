package krb5

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
	"github.com/stretchr/testify/require"
)

var (
	renewClient  = Principal{Name: []string{"backup"}, Realm: "EXAMPLE.TEST"}
	renewService = Principal{Name: []string{"krbtgt", "EXAMPLE.TEST"}, Realm: "EXAMPLE.TEST"}
	renewKey     = Key{Etype: AES256SHA1, Value: make([]byte, 32)}
)

// A renewingKDC renews tickets and grants others, with the session key renewKey.
type renewingKDC struct {
	t    *testing.T
	life time.Duration
	till time.Time // of renewals

	mu       sync.Mutex
	down     bool
	refuse   bool
	renewals int
}

func (k *renewingKDC) config() *InitiatorConfig {
	c := config.New()
	c.Realms = []config.Realm{{Realm: "EXAMPLE.TEST", KDC: []string{"kdc:88"}}}
	return &InitiatorConfig{Config: c, Dial: func(context.Context, string, string) (net.Conn, error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.down {
			return nil, errors.New("nobody is there")
		}
		client, server := net.Pipe()
		go k.serve(server)
		return client, nil
	}}
}

func (k *renewingKDC) serve(c net.Conn) {
	defer c.Close()
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		return
	}
	reply := k.reply(b)
	c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(reply))), reply...))
}

func (k *renewingKDC) reply(b []byte) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	var req messages.TGSReq
	if err := req.Unmarshal(b); err != nil {
		k.t.Error(err)
		return nil
	}
	if k.refuse {
		e := messages.NewKRBError(renewService.wire(), "EXAMPLE.TEST", errorcode.KDC_ERR_BADOPTION, "")
		b, err := e.Marshal()
		if err != nil {
			k.t.Error(err)
		}
		return b
	}
	now := time.Now().UTC().Truncate(time.Second)
	part := messages.EncKDCRepPart{
		Key: renewKey.wire(), Nonce: req.ReqBody.Nonce, Flags: types.NewKrbFlags(), AuthTime: now, StartTime: now,
		LastReqs: []messages.LastReq{{LRValue: now}},
		EndTime:  now.Add(time.Hour), SRealm: "EXAMPLE.TEST", SName: req.ReqBody.SName,
	}
	if types.IsFlagSet(&req.ReqBody.KDCOptions, flags.Renew) {
		k.renewals++
		part.EndTime, part.RenewTill = now.Add(k.life), k.till
		if part.EndTime.After(k.till) {
			part.EndTime = k.till
		}
		types.SetFlag(&part.Flags, flags.Renewable)
	}
	plain, err := asn1.Marshal(part)
	if err != nil {
		k.t.Error(err)
	}
	ed, err := encrypt(asn1tools.AddASNAppTag(plain, asnAppTag.EncTGSRepPart), renewKey.wire(),
		keyusage.TGS_REP_ENCPART_SESSION_KEY, 0)
	if err != nil {
		k.t.Error(err)
	}
	rep := messages.TGSRep{KDCRepFields: messages.KDCRepFields{
		PVNO: 5, MsgType: msgtype.KRB_TGS_REP, CRealm: renewClient.Realm, CName: renewClient.wire(), EncPart: ed,
		Ticket: messages.Ticket{TktVNO: 5, Realm: "EXAMPLE.TEST", SName: req.ReqBody.SName},
	}}
	out, err := rep.Marshal()
	if err != nil {
		k.t.Error(err)
	}
	return out
}

func (k *renewingKDC) set(down, refuse bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down, k.refuse = down, refuse
}

func (k *renewingKDC) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.renewals
}

// cacheOf makes a cache with one ticket-granting ticket.
func cacheOf(t testing.TB, end, renewTill time.Time) string {
	t.Helper()
	ticket, err := (&messages.Ticket{TktVNO: 5, Realm: "EXAMPLE.TEST", SName: renewService.wire()}).Marshal()
	require.NoError(t, err)
	be := binary.BigEndian
	data := func(b []byte, v string) []byte { return append(be.AppendUint32(b, uint32(len(v))), v...) }
	principal := func(b []byte, p Principal) []byte {
		b = be.AppendUint32(be.AppendUint32(b, 1), uint32(len(p.Name)))
		b = data(b, p.Realm)
		for _, n := range p.Name {
			b = data(b, n)
		}
		return b
	}
	b := principal([]byte{5, 4, 0, 0}, renewClient)
	b = principal(principal(b, renewClient), renewService)
	b = data(be.AppendUint16(b, uint16(renewKey.Etype)), string(renewKey.Value))
	start, flagBits := uint32(time.Now().Unix()), uint32(0)
	if !renewTill.IsZero() {
		flagBits = ticketRenewable
	}
	for _, v := range []uint32{start, start, uint32(end.Unix()), uint32(renewTill.Unix())} {
		b = be.AppendUint32(b, v)
	}
	b = be.AppendUint32(append(b, 0), flagBits)
	b = append(b, make([]byte, 8)...)
	b = data(data(b, string(ticket)), "")
	path := filepath.Join(t.TempDir(), "ccache")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

func ticketError(ctx context.Context, i *Initiator) error {
	_, err := i.source.Ticket(ctx, "cifs/fs1.example.test")
	return err
}

// TestKeepRenewed lets tickets of ten hours live through days of the bubble's time.
func TestKeepRenewed(t *testing.T) {
	const life = 10 * time.Hour
	start := func(t *testing.T, end, renewTill time.Duration) (*renewingKDC, *Initiator) {
		t.Helper()
		now := time.Now()
		k := &renewingKDC{t: t, life: end, till: now.Add(renewTill).UTC().Truncate(time.Second)}
		till := k.till
		if renewTill == 0 {
			till = time.Time{}
		}
		i, err := NewInitiatorFromCCache(cacheOf(t, now.Add(end), till), k.config())
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			i.KeepRenewed(ctx)
		}()
		t.Cleanup(func() { cancel(); <-done })
		return k, i
	}
	hours := func(t *testing.T, i *Initiator, n int) {
		t.Helper()
		for range n {
			time.Sleep(time.Hour)
			require.NoError(t, ticketError(t.Context(), i))
		}
	}
	t.Run("for days", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, i := start(t, life, 7*24*time.Hour)
			hours(t, i, 7*24-1)
			require.InDelta(t, 7*24/5, k.count(), 12) // the last ones are of ever shorter lives
			time.Sleep(2 * time.Hour)
			err := ticketError(t.Context(), i)
			require.ErrorIs(t, err, ErrExpired)
			require.ErrorContains(t, err, "run kinit")
		})
	})
	t.Run("a KDC that is away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, i := start(t, life, 7*24*time.Hour)
			k.set(true, false)
			time.Sleep(life - time.Minute)
			require.Zero(t, k.count())
			k.set(false, false)
			hours(t, i, 24)
		})
	})
	t.Run("a KDC that refuses", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, i := start(t, life, 7*24*time.Hour)
			k.set(false, true)
			time.Sleep(life + time.Hour)
			err := ticketError(t.Context(), i)
			require.ErrorIs(t, err, ErrExpired)
			require.ErrorContains(t, err, "it was not renewed: krb5: the KDC refused")
		})
	})
	t.Run("not renewable", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, i := start(t, life, 0)
			hours(t, i, 9)
			time.Sleep(time.Hour)
			require.ErrorIs(t, ticketError(t.Context(), i), ErrExpired)
			require.Zero(t, k.count())
		})
	})
	t.Run("a second from its end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, i := start(t, 12*time.Second, time.Hour)
			for range 500 {
				time.Sleep(7 * time.Second)
				require.NoError(t, ticketError(t.Context(), i))
			}
		})
	})
	t.Run("kinit meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, i := start(t, life, 0)
			time.Sleep(9 * time.Hour)
			next := cacheOf(t, time.Now().Add(life), k.till.Add(24*time.Hour))
			require.NoError(t, os.Rename(next, i.source.(*kdcSource).ccache))
			k.mu.Lock()
			k.till = time.Now().Add(48 * time.Hour).UTC().Truncate(time.Second)
			k.mu.Unlock()
			hours(t, i, 40)
			require.NotZero(t, k.count())
		})
	})
	t.Run("a password", func(t *testing.T) {
		i, err := NewInitiatorWithPassword("a@EXAMPLE.TEST", "secret", &InitiatorConfig{Config: config.New()})
		require.NoError(t, err)
		i.KeepRenewed(t.Context())
		NewInitiator(nil, nil).KeepRenewed(t.Context())
	})
}
