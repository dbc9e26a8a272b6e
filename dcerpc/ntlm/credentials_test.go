package ntlm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCredentialsAreNotPrinted prints credentials in every form that fmt, slog and json have.
func TestCredentialsAreNotPrinted(t *testing.T) {
	c := Credentials{Domain: "D", User: "u", Password: "hunter2", NTHash: []byte("hunter2hunter2hu")}
	type outer struct {
		C Credentials
		P *Credentials
	}
	var all bytes.Buffer
	for _, v := range []any{c, &c, outer{c, &c}, []Credentials{c}, map[string]Credentials{"c": c}, any(c)} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
			fmt.Fprintf(&all, verb+"\n", v)
		}
		fmt.Fprintln(&all, v)
		b, err := json.Marshal(v)
		require.NoError(t, err)
		all.Write(b)
		slog.New(slog.NewTextHandler(&all, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&all, nil)).Info("x", "v", v)
	}
	for _, secret := range []string{"hunter2", "68756e74657232", "68756E74657232", "104 117 110", "0x68, 0x75",
		"aHVudGVyM"} {
		require.NotContains(t, all.String(), secret)
	}
	require.Contains(t, all.String(), `D\u`)
}
