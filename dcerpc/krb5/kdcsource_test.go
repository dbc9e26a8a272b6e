package krb5

import (
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/stretchr/testify/require"
)

// TestTicketLife asks for tickets of services that end early, and for no others.
func TestTicketLife(t *testing.T) {
	now := time.Now()
	tgt := &Ticket{
		Client:     Principal{Name: []string{"backup"}, Realm: "EXAMPLE.TEST"},
		SessionKey: Key{Etype: AES256SHA1, Value: make([]byte, 32)},
		EndTime:    now.Add(time.Hour),
		Raw:        []byte{0x61, 0},
	}
	service, cross := Principal{Name: []string{"host", "fs1"}}, Principal{Name: []string{"krbtgt", "OTHER.TEST"}}
	for _, tt := range []struct {
		life    time.Duration
		service Principal
		want    time.Duration
	}{{0, service, time.Hour}, {10 * time.Second, service, 10 * time.Second}, {2 * time.Hour, service,
		time.Hour}, {10 * time.Second, cross, time.Hour}} {
		source, err := newKDCSource(&InitiatorConfig{TicketLife: tt.life, Config: config.New()})
		require.NoError(t, err)
		req, err := source.tgsReq(tgt, "EXAMPLE.TEST", tt.service, source.till(tgt, tt.service))
		require.NoError(t, err)
		require.WithinDuration(t, now.Add(tt.want), req.ReqBody.Till, 5*time.Second, "%v, %v", tt.life, tt.service)
	}
}
