package krb5_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
)

// confFiles writes files below a new directory; DIR in their text becomes its path.
func confFiles(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600))
	}
	return dir
}

func TestKrb5Conf(t *testing.T) {
	t.Parallel()
	realms := "[realms]\n EXAMPLE.TEST = {\n  kdc = 10.0.0.1\n }\n"
	for name, c := range map[string]struct {
		files map[string]string
		paths string // "DIR/main" where empty
		kdcs  []string
		off   bool // dns_lookup_kdc
		skew  time.Duration
		noDef bool // no default_realm
	}{
		"empty":            {files: map[string]string{"main": ""}, noDef: true},
		"comments alone":   {files: map[string]string{"main": "# a\n; b\n\n"}, noDef: true},
		"one realm":        {files: map[string]string{"main": "[libdefaults]\ndefault_realm = EXAMPLE.TEST\n" + realms}, kdcs: []string{"10.0.0.1:88"}},
		"no line's end":    {files: map[string]string{"main": "[libdefaults]\ndefault_realm = EXAMPLE.TEST"}},
		"CRLF and BOM":     {files: map[string]string{"main": "\ufeff[libdefaults]\r\n\tdefault_realm\t=\tEXAMPLE.TEST\r\n"}},
		"a comment behind": {files: map[string]string{"main": "[libdefaults]\ndefault_realm = EXAMPLE.TEST # ours\n"}},
		"quotes":           {files: map[string]string{"main": "[libdefaults]\ndefault_realm = \"EXAMPLE.TEST\"\n"}},
		"brace alone": {files: map[string]string{"main": "[libdefaults]\ndefault_realm = EXAMPLE.TEST\n[realms]\nEXAMPLE.TEST =\n\n# here\n{\n kdc = a:1\n kdc = b\n}\n"},
			kdcs: []string{"a:1", "b:88"}},
		"a list of files": {files: map[string]string{"main": "[libdefaults]\ndefault_realm = EXAMPLE.TEST\n", "more": "[libdefaults]\ndefault_realm = OTHER\n" + realms},
			paths: "DIR/main" + string(filepath.ListSeparator) + "DIR/more", kdcs: []string{"10.0.0.1:88"}},
		"include": {files: map[string]string{"main": "[libdefaults]\ninclude DIR/inc/realm\ndefault_realm = EXAMPLE.TEST\ndns_lookup_kdc = no\n", "inc/realm": realms},
			kdcs: []string{"10.0.0.1:88"}, off: true},
		"includedir": {files: map[string]string{"main": "includedir DIR/inc/\n", "inc/b_1": realms, "inc/a.conf": "[libdefaults]\ndefault_realm = EXAMPLE.TEST\n",
			"inc/.hidden.conf": "rubbish", "inc/x.rpmsave": "rubbish", "inc/x~": "rubbish"}, kdcs: []string{"10.0.0.1:88"}},
		"includedir of nothing": {files: map[string]string{"main": "includedir DIR/none\n[libdefaults]\ndefault_realm = EXAMPLE.TEST\n"}},
		"sections again":        {files: map[string]string{"main": "[libdefaults]\ndefault_realm = EXAMPLE.TEST\n[x]\ny = z\n[libdefaults]\ndefault_realm = OTHER\nclockskew = 1m 30s\n"}, skew: 90 * time.Second},
		"what nobody reads": {files: map[string]string{"main": "[libdefaults]\ndefault_realm = EXAMPLE.TEST\n[appdefaults]\n pam = {\n  a = {\n   b = c\n  }\n }\n[plugins]\nmodule DIR/x.so:y\n[realms]\nEXAMPLE.TEST = {\n" +
			"auth_to_local = RULE:[1:$1](x)s/a/b/\n kdc = tcp/a\n kdc = https://proxy/KdcProxy\n kdc = [2001:db8::1]:750\n kdc = ::1\n v4_instance_convert = {\n x = y\n }\n}\n"},
			kdcs: []string{"a:88", "[2001:db8::1]:750", "[::1]:88"}},
		"a final value": {files: map[string]string{"main": "[libdefaults]\ndefault_realm = EXAMPLE.TEST\n[realms]\nEXAMPLE.TEST = {\n kdc* = a\n kdc = b\n}\n"}, kdcs: []string{"a:88"}},
		"dns_fallback":  {files: map[string]string{"main": "[libdefaults]\ndefault_realm = EXAMPLE.TEST\ndns_fallback = false\n"}, off: true},
		"both":          {files: map[string]string{"main": "[libdefaults]\ndefault_realm = EXAMPLE.TEST\ndns_fallback = false\ndns_lookup_kdc = on\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := confFiles(t, c.files)
			paths := c.paths
			if paths == "" {
				paths = "DIR/main"
			}
			got, err := krb5.LoadKrb5Conf(strings.ReplaceAll(paths, "DIR", dir))
			require.NoError(t, err)
			if !c.noDef {
				require.Equal(t, "EXAMPLE.TEST", got.LibDefaults.DefaultRealm)
			}
			require.Equal(t, !c.off, got.LibDefaults.DNSLookupKDC)
			if c.skew != 0 {
				require.Equal(t, c.skew, got.LibDefaults.Clockskew)
			}
			var kdcs []string
			for _, r := range got.Realms {
				kdcs = append(kdcs, r.KDC...)
			}
			require.Equal(t, c.kdcs, kdcs)
		})
	}
}

func TestKrb5ConfErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"include DIR/main\n":                     "includes itself",
		"includedir DIR\n":                       "includes itself",
		"include DIR/none\n":                     "DIR/main:1",
		"x = y\n":                                "DIR/main:1: \"x = y\" before any section",
		"[a]\nx\n":                               "DIR/main:2: \"x\" has no =",
		"[a\n":                                   "without its ]",
		"[a]\n}\n":                               "without its {",
		"[a]\nx = {\n":                           "within braces",
		"[a]\nx =\n":                             "within braces",
		"[a]\nx =\ny = z\n":                      "the { of x is due",
		"[a]\nx = {\n[b]\n":                      "a section within braces",
		"[a]\n" + strings.Repeat("x = {\n", 100): "deep",
		"[libdefaults]\ndns_lookup_kdc = maybe\n": "DIR/main:2: dns_lookup_kdc is \"maybe\"",
		"[libdefaults]\nclockskew = soon\n":       "DIR/main:2: clockskew is \"soon\"",
	} {
		dir := confFiles(t, map[string]string{"main": text})
		_, err := krb5.NewInitiatorWithPassword("a@B", "secret", &krb5.InitiatorConfig{Krb5Conf: dir + "/main"})
		require.ErrorIs(t, err, krb5.ErrConfig, text)
		require.ErrorContains(t, err, strings.ReplaceAll(want, "DIR", dir))
	}
	// The system's own file need not be there.
	_, err := krb5.NewInitiatorWithPassword("a@B", "secret", nil)
	require.NoError(t, err)
}

// TestMITReadsItToo logs in by configurations as machines have them, with kinit and with this
// package.
func TestMITReadsItToo(t *testing.T) {
	t.Parallel()
	k := startKDC(t)
	k.admin(t, fmt.Sprintf("addprinc -pw %q backup", password), "addprinc -randkey "+testService)
	base := "[libdefaults]\n default_realm = EXAMPLE.TEST\n dns_lookup_kdc = false\n"
	realm := "[realms]\n\tEXAMPLE.TEST =\n\t{\n\t\tkdc = " + k.address + "\n\t}\n"
	dir := confFiles(t, map[string]string{
		"plain":        base + realm,
		"include":      "include DIR/inc/realm\n" + base,
		"includedir":   base + "includedir DIR/inc\n",
		"list":         base,
		"list2":        realm,
		"inc/realm":    realm,
		"inc/bad.save": "rubbish",
		"comments":     "# a\n; b\n" + base + "\t# c\n" + realm,
	})
	for _, conf := range []string{"plain", "include", "includedir", "list:list2", "comments"} {
		paths := dir + "/" + strings.ReplaceAll(conf, ":", ":"+dir+"/")
		mit := *k
		mit.env = append(append([]string{}, k.env...), "KRB5_CONFIG="+paths, "KRB5CCNAME=FILE:"+dir+"/cc")
		mit.run(t, password+"\n", "kinit", "backup")
		i, err := krb5.NewInitiatorWithPassword("backup", password, &krb5.InitiatorConfig{Krb5Conf: paths})
		require.NoError(t, err, conf)
		_, err = step(t, i, testService)
		require.NoError(t, err, conf)
	}
	// A directory of caches, with the first one under the name that MIT gives it.
	require.NoError(t, os.Mkdir(dir+"/caches", 0o700))
	mit := *k
	mit.env = append(append([]string{}, k.env...), "KRB5CCNAME=DIR:"+dir+"/caches")
	mit.run(t, password+"\n", "kinit", "backup")
	for _, name := range []string{"DIR:" + dir + "/caches", "DIR::" + dir + "/caches/tkt"} {
		i, err := krb5.NewInitiatorFromCCache(name, k.config())
		require.NoError(t, err, name)
		_, err = step(t, i, testService)
		require.NoError(t, err, name)
	}
	require.NoError(t, os.WriteFile(dir+"/caches/primary", []byte("../../etc/passwd\n"), 0o600))
	_, err := krb5.NewInitiatorFromCCache("DIR:"+dir+"/caches", k.config())
	require.ErrorIs(t, err, krb5.ErrConfig)
	require.ErrorContains(t, err, "names no cache")
}

// TestKDCsOfTheDNS finds a KDC by SRV records, as the default is.
func TestKDCsOfTheDNS(t *testing.T) {
	t.Parallel()
	cfg := fakeKDC(t, func([]byte) []byte { return krbError(t, errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN, nil) })
	address := cfg.Config.Realms[0].KDC[0]
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	var n uint16
	_, err = fmt.Sscan(port, &n)
	require.NoError(t, err)
	dir := confFiles(t, map[string]string{"main": "[libdefaults]\ndefault_realm = " + testRealm + "\n"})
	for _, service := range []string{"_tcp", "_udp"} {
		dns := fakeDNS(t, "_kerberos."+service+"."+testRealm+".", n)
		dial := func(ctx context.Context, network, to string) (net.Conn, error) {
			require.Equal(t, "kdc.test:"+port, to)
			return new(net.Dialer).DialContext(ctx, network, address)
		}
		i, err := krb5.NewInitiatorWithPassword("backup", "secret",
			&krb5.InitiatorConfig{Krb5Conf: dir + "/main", Resolver: dns, Dial: dial})
		require.NoError(t, err)
		_, err = step(t, i, testService)
		require.ErrorIs(t, err, krb5.ErrClientUnknown)
	}
	dns := fakeDNS(t, "nothing.", 0)
	i, err := krb5.NewInitiatorWithPassword("backup", "secret",
		&krb5.InitiatorConfig{Krb5Conf: dir + "/main", Resolver: dns})
	require.NoError(t, err)
	_, err = step(t, i, testService)
	require.ErrorIs(t, err, krb5.ErrUnreachable)
	require.ErrorContains(t, err, "[realms]")
}

// fakeDNS is a resolver that knows one SRV record, of kdc.test at a port.
func fakeDNS(t *testing.T, name string, port uint16) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			if a := dnsAnswer(b[:n], name, port); a != nil {
				pc.WriteTo(a, from)
			}
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

// dnsAnswer answers a query of one question (RFC 1035 section 4, RFC 2782).
func dnsAnswer(q []byte, name string, port uint16) []byte {
	if len(q) < 12 {
		return nil
	}
	end, asked := 12, ""
	for end < len(q) && q[end] != 0 {
		n := int(q[end])
		if end+1+n > len(q) {
			return nil
		}
		asked += string(q[end+1:end+1+n]) + "."
		end += 1 + n
	}
	end += 5 // the root, type and class
	if end > len(q) {
		return nil
	}
	be := binary.BigEndian
	a := append([]byte{}, q[:end]...)
	found := strings.EqualFold(asked, name)
	a[2], a[3] = 0x85, 0x80
	if !found {
		a[3] |= 3 // NXDOMAIN
	}
	for i := 6; i < 12; i++ {
		a[i] = 0
	}
	if !found {
		return a
	}
	a[7] = 1
	a = append(a, 0xC0, 12)
	a = be.AppendUint16(a, 33) // SRV
	a = be.AppendUint16(a, 1)
	a = be.AppendUint32(a, 60)
	target := "\x03kdc\x04test\x00"
	a = be.AppendUint16(a, uint16(6+len(target)))
	a = be.AppendUint16(a, 0)
	a = be.AppendUint16(a, 0)
	a = be.AppendUint16(a, port)
	return append(a, target...)
}

// TestRefusedCredentialIsNotSentAgain has many ask for tickets with a wrong password: an account
// must not be locked by that.
func TestRefusedCredentialIsNotSentAgain(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	cfg := fakeKDC(t, func([]byte) []byte {
		asked.Add(1)
		return krbError(t, errorcode.KDC_ERR_PREAUTH_FAILED, nil)
	})
	i, err := krb5.NewInitiatorWithPassword("backup@"+testRealm, "secret", cfg)
	require.NoError(t, err)
	for range 20 {
		_, err = step(t, i, testService)
		require.ErrorIs(t, err, krb5.ErrPassword)
	}
	require.ErrorContains(t, err, "not tried again")
	require.EqualValues(t, 1, asked.Load())
}
