package krb5_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
)

const password = "correct horse 1, batt\u00e9rie staple"

// A mitKDC is a KDC of MIT's in a directory and on a port of its own, of the realms EXAMPLE.TEST
// and OTHER.TEST.
type mitKDC struct {
	dir     string
	env     []string
	address string
}

// needPeer skips a test that lacks a program, or fails it where peers are required.
func needPeer(t testing.TB, what string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv("FSRVP_PEERS") == "require" {
		t.Fatalf("%s: %v", what, err)
	}
	t.Skipf("%s: %v", what, err)
}

func sbin(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	return exec.LookPath("/usr/sbin/" + name)
}

func startKDC(t *testing.T) *mitKDC {
	t.Helper()
	for _, name := range []string{"krb5kdc", "kdb5_util", "kadmin.local", "kinit"} {
		_, err := sbin(name)
		needPeer(t, "MIT's KDC (Debian: krb5-kdc, krb5-admin-server, krb5-user)", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	k := &mitKDC{dir: t.TempDir(), address: l.Addr().String()}
	require.NoError(t, l.Close())
	k.write(t, "krb5.conf", `
[libdefaults]
	default_realm = EXAMPLE.TEST
	dns_lookup_kdc = false
	dns_canonicalize_hostname = false
	rdns = false
	permitted_enctypes = aes256-sha1 aes128-sha1 aes256-sha2 aes128-sha2 arcfour-hmac
[realms]
	EXAMPLE.TEST = {
		kdc = `+k.address+`
	}
	OTHER.TEST = {
		kdc = `+k.address+`
	}
[domain_realm]
	.example.test = EXAMPLE.TEST
	.other.test = OTHER.TEST
[logging]
	kdc = STDERR
	default = STDERR
`)
	k.write(t, "kdc.conf", `
[kdcdefaults]
	kdc_listen = `+k.address+`
	kdc_tcp_listen = `+k.address+`
[realms]
`+k.realmConfig("EXAMPLE.TEST")+k.realmConfig("OTHER.TEST"))
	k.env = append(os.Environ(), "KRB5_CONFIG="+k.path("krb5.conf"), "KRB5_KDC_PROFILE="+k.path("kdc.conf"),
		"KRB5CCNAME=FILE:"+k.path("ccache"), "KRB5_KTNAME=FILE:"+k.path("keytab"), "KRB5RCACHENAME=none:", "LC_ALL=C.UTF-8")
	for _, realm := range []string{"EXAMPLE.TEST", "OTHER.TEST"} {
		k.run(t, "", "kdb5_util", "create", "-s", "-r", realm, "-P", "master")
	}

	kdc, err := sbin("krb5kdc")
	require.NoError(t, err)
	cmd := exec.Command(kdc, "-n", "-r", "EXAMPLE.TEST", "-r", "OTHER.TEST")
	cmd.Env = k.env
	logs, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(logs)
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "commencing operation") {
				close(ready)
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		cmd.Wait()
	})
	select {
	case <-ready:
	case <-ended:
		t.Fatal("krb5kdc has ended")
	}
	return k
}

func (k *mitKDC) path(name string) string { return filepath.Join(k.dir, name) }

func (k *mitKDC) write(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(k.path(name), []byte(text), 0o600))
}

func (k *mitKDC) run(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	path, err := sbin(name)
	require.NoError(t, err)
	cmd := exec.Command(path, args...)
	cmd.Env = k.env
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return string(out)
}

func (k *mitKDC) realmConfig(realm string) string {
	return realm + ` = {
		database_name = ` + k.path(realm+".principal") + `
		key_stash_file = ` + k.path(realm+".stash") + `
		acl_file = ` + k.path("acl") + `
		max_life = 1h
		host_based_services = *
		supported_enctypes = aes256-sha1:normal aes128-sha1:normal aes256-sha2:normal aes128-sha2:normal arcfour-hmac:normal
	}
`
}

// admin runs commands of kadmin in the realm EXAMPLE.TEST.
func (k *mitKDC) admin(t *testing.T, commands ...string) {
	t.Helper()
	k.adminOf(t, "EXAMPLE.TEST", commands...)
}

func (k *mitKDC) adminOf(t *testing.T, realm string, commands ...string) {
	t.Helper()
	out := k.run(t, strings.Join(commands, "\n")+"\n", "kadmin.local", "-r", realm)
	require.NotContains(t, out, "while", "kadmin.local failed")
}

func (k *mitKDC) config() *krb5.InitiatorConfig {
	return &krb5.InitiatorConfig{Krb5Conf: k.path("krb5.conf")}
}

// step gets the first token, and so a ticket.
func step(t *testing.T, i *krb5.Initiator, target string) ([]byte, error) {
	t.Helper()
	c, err := i.NewContext(target, dcerpc.LevelPrivacy)
	require.NoError(t, err)
	b, _, err := c.Step(t.Context(), nil)
	return b, err
}

func TestMITKDC(t *testing.T) {
	t.Parallel()
	k := startKDC(t)
	k.admin(t,
		fmt.Sprintf("addprinc -pw %q +requires_preauth backup", password),
		fmt.Sprintf("addprinc -pw %q nopreauth", password),
		fmt.Sprintf("addprinc -pw %q -pwexpire yesterday aged", password),
		fmt.Sprintf("addprinc -pw %q -allow_tix locked", password),
		fmt.Sprintf("addprinc -pw %q kim", password),
		fmt.Sprintf("addprinc -pw %q \u212Aim", "another"), // the Kelvin sign, which Unicode folds to a k
		"addprinc -randkey "+testService,
		"ktadd -k "+k.path("keytab")+" "+testService,
		"ktadd -k "+k.path("backup.keytab")+" -norandkey backup",
	)
	acceptor, err := krb5.NewAcceptor(&krb5.AcceptorConfig{KeytabFile: k.path("keytab")})
	require.NoError(t, err)
	serves := func(t *testing.T, i *krb5.Initiator, account string) {
		t.Helper()
		for range 2 { // the second time with the ticket of the first
			p := establish(t, i, acceptor, dcerpc.LevelPrivacy)
			require.Equal(t, account+"@EXAMPLE.TEST", p.acceptor.Identity().Principal)
			require.Equal(t, testService+"@EXAMPLE.TEST", p.initiator.Identity().Principal)
			require.NoError(t, protect(t, p.initiator, []byte("hello"), true, true).check(p.acceptor))
		}
	}
	withPassword := func(t *testing.T, name, text string) *krb5.Initiator {
		t.Helper()
		i, err := krb5.NewInitiatorWithPassword(name, text, k.config())
		require.NoError(t, err)
		return i
	}

	t.Run("password", func(t *testing.T) {
		serves(t, withPassword(t, "backup", password), "backup")
		serves(t, withPassword(t, "backup@EXAMPLE.TEST", password), "backup")
		serves(t, withPassword(t, "nopreauth", password), "nopreauth")
	})
	t.Run("Kelvin", func(t *testing.T) {
		serves(t, withPassword(t, "kim", password), "kim")
		serves(t, withPassword(t, "\u212Aim", "another"), "\u212Aim")
		c, err := withPassword(t, "\u212Aim", password).NewContext(testService, dcerpc.LevelPrivacy)
		require.NoError(t, err)
		_, _, err = c.Step(t.Context(), nil)
		require.ErrorIs(t, err, krb5.ErrPassword, "a Kelvin sign is no k to the KDC")
	})
	t.Run("keytab", func(t *testing.T) {
		kt, err := krb5.LoadKeytab(k.path("backup.keytab"))
		require.NoError(t, err)
		for _, name := range []string{"", "backup", "backup@EXAMPLE.TEST"} {
			i, err := krb5.NewInitiatorWithKeytab(name, kt, k.config())
			require.NoError(t, err)
			serves(t, i, "backup")
		}
		_, err = krb5.NewInitiatorWithKeytab("nopreauth", kt, k.config())
		require.ErrorIs(t, err, krb5.ErrNoKey)
		require.ErrorContains(t, err, "nopreauth@EXAMPLE.TEST")
	})
	t.Run("ccache", func(t *testing.T) {
		k.run(t, password+"\n", "kinit", "backup")
		i, err := krb5.NewInitiatorFromCCache(k.path("ccache"), k.config())
		require.NoError(t, err)
		serves(t, i, "backup")
	})
	t.Run("gokrb5 keytab", func(t *testing.T) {
		var kt keytab.Keytab
		b, err := os.ReadFile(k.path("backup.keytab"))
		require.NoError(t, err)
		require.NoError(t, kt.Unmarshal(b))
		byKeytab, err := krb5.NewInitiatorWithKeytab("backup", krb5.NewKeytab(&kt), k.config())
		require.NoError(t, err)
		serves(t, byKeytab, "backup")
	})

	t.Run("errors", func(t *testing.T) {
		for name, test := range map[string]struct {
			i      *krb5.Initiator
			target string
			want   error
			text   []string
		}{
			"wrong password":              {withPassword(t, "backup", "wrong"), testService, krb5.ErrPassword, []string{"backup@EXAMPLE.TEST", "password"}},
			"wrong password, no preauth":  {withPassword(t, "nopreauth", "wrong"), testService, krb5.ErrPassword, []string{"nopreauth@EXAMPLE.TEST"}},
			"unknown client":              {withPassword(t, "nobody", password), testService, krb5.ErrClientUnknown, []string{"nobody@EXAMPLE.TEST"}},
			"old password":                {withPassword(t, "aged", password), testService, krb5.ErrPasswordAge, []string{"aged@EXAMPLE.TEST", "set a new one"}},
			"locked":                      {withPassword(t, "locked", password), testService, krb5.ErrClientRevoked, []string{"locked@EXAMPLE.TEST"}},
			"unknown service":             {withPassword(t, "backup", password), "host/nobody.example.test", krb5.ErrServiceUnknown, []string{"host/nobody.example.test@EXAMPLE.TEST", "backup@EXAMPLE.TEST"}},
			"realm that nobody knows":     {withPassword(t, "backup@THIRD.TEST", password), testService, krb5.ErrConfig, []string{"THIRD.TEST", "krb5.conf"}},
			"service of an unknown realm": {withPassword(t, "backup", password), "host/x@THIRD.TEST", krb5.ErrServiceUnknown, []string{"krbtgt/THIRD.TEST"}},
		} {
			t.Run(name, func(t *testing.T) {
				_, err := step(t, test.i, test.target)
				require.ErrorIs(t, err, test.want)
				for _, text := range test.text {
					require.ErrorContains(t, err, text)
				}
			})
		}
	})

	t.Run("unreachable", func(t *testing.T) {
		dead, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer dead.Close() // it takes connections, and never answers
		closed, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, closed.Close())
		c := config.New()
		c.Realms = []config.Realm{{Realm: "EXAMPLE.TEST", KDC: []string{closed.Addr().String()}}}
		i, err := krb5.NewInitiatorWithPassword("backup@EXAMPLE.TEST", password, &krb5.InitiatorConfig{Config: c})
		require.NoError(t, err)
		_, err = step(t, i, testService)
		require.ErrorIs(t, err, krb5.ErrUnreachable)
		require.ErrorContains(t, err, closed.Addr().String())
		require.ErrorContains(t, err, "EXAMPLE.TEST")

		c.Realms[0].KDC = []string{dead.Addr().String()}
		sc, err := i.NewContext(testService, dcerpc.LevelPrivacy)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, _, err = sc.Step(ctx, nil)
		require.ErrorIs(t, err, krb5.ErrUnreachable)
		require.ErrorIs(t, err, context.DeadlineExceeded)

		// The next KDC is asked when one does not answer in time.
		c.Realms[0].KDC = []string{closed.Addr().String(), dead.Addr().String(), k.address}
		for limit := 50 * time.Millisecond; ; limit *= 10 { // on a busy machine the one that works is late, too
			i, err = krb5.NewInitiatorWithPassword("backup@EXAMPLE.TEST", password,
				&krb5.InitiatorConfig{Config: c, KDCTimeout: limit})
			require.NoError(t, err)
			if _, err = step(t, i, testService); err == nil || limit > time.Second {
				break
			}
		}
		require.NoError(t, err)
	})

	t.Run("another realm", func(t *testing.T) {
		const service = "host/fs1.other.test"
		trust := fmt.Sprintf("addprinc -pw %q krbtgt/OTHER.TEST@EXAMPLE.TEST", "between the two")
		k.admin(t, trust)
		k.adminOf(t, "OTHER.TEST", trust, "addprinc -randkey "+service, "ktadd -k "+k.path("other.keytab")+" "+service)
		other, err := krb5.NewAcceptor(&krb5.AcceptorConfig{KeytabFile: k.path("other.keytab")})
		require.NoError(t, err)
		ignorant, err := config.Load(k.path("krb5.conf"))
		require.NoError(t, err)
		ignorant.DomainRealm = nil
		for name, test := range map[string]struct {
			target string
			cfg    *krb5.InitiatorConfig
		}{
			"by the domain":   {service, k.config()},
			"by its name":     {service + "@OTHER.TEST", k.config()},
			"by the referral": {service, &krb5.InitiatorConfig{Config: ignorant}},
		} {
			t.Run(name, func(t *testing.T) {
				i, err := krb5.NewInitiatorWithPassword("backup@EXAMPLE.TEST", password, test.cfg)
				require.NoError(t, err)
				for range 2 {
					token, err := step(t, i, test.target)
					require.NoError(t, err)
					id, err := accept(t, other, token)
					require.NoError(t, err)
					require.Equal(t, "backup@EXAMPLE.TEST", id.Principal)
					_, err = accept(t, acceptor, token)
					require.ErrorIs(t, err, krb5.ErrNoKey)
				}
			})
		}
	})

	t.Run("keytab out of date", func(t *testing.T) {
		k.admin(t, "addprinc -randkey host/fs2.example.test", "ktadd -k "+k.path("fs2.keytab")+" host/fs2.example.test",
			"addprinc -randkey agent", "ktadd -k "+k.path("agent.keytab")+" agent")
		agent, err := krb5.LoadKeytab(k.path("agent.keytab"))
		require.NoError(t, err)
		k.admin(t, "cpw -randkey host/fs2.example.test", "cpw -randkey agent")
		stale, err := krb5.NewAcceptor(&krb5.AcceptorConfig{KeytabFile: k.path("fs2.keytab")})
		require.NoError(t, err)
		token, err := step(t, withPassword(t, "backup", password), "host/fs2.example.test")
		require.NoError(t, err)
		_, err = accept(t, stale, token)
		require.ErrorIs(t, err, krb5.ErrKeyVersion)
		require.ErrorContains(t, err, "host/fs2.example.test@EXAMPLE.TEST")
		require.ErrorContains(t, err, "version 3")

		i, err := krb5.NewInitiatorWithKeytab("agent", agent, k.config())
		require.NoError(t, err)
		_, err = step(t, i, testService)
		require.ErrorIs(t, err, krb5.ErrPassword)
		require.ErrorContains(t, err, "keytab")
	})

	t.Run("etypes", func(t *testing.T) {
		for _, etype := range allEtypes {
			t.Run(etype.String(), func(t *testing.T) {
				user, service := "user-"+etype.String(), "host/"+etype.String()
				k.admin(t,
					fmt.Sprintf("addprinc -pw %q -e %s:normal +requires_preauth %s", password, etype, user),
					fmt.Sprintf("addprinc -randkey -e %s:normal %s", etype, service),
					fmt.Sprintf("ktadd -k %s -norandkey %s", k.path(etype.String()), service))
				cfg := k.config()
				if etype == krb5.RC4HMAC {
					i, err := krb5.NewInitiatorWithPassword(user, password, cfg)
					require.NoError(t, err)
					_, err = step(t, i, service)
					require.ErrorIs(t, err, krb5.ErrEtype)
					cfg.InsecureRC4 = true
				} else {
					cfg.Etypes = []krb5.Etype{etype}
				}
				i, err := krb5.NewInitiatorWithPassword(user, password, cfg)
				require.NoError(t, err)
				a, err := krb5.NewAcceptor(&krb5.AcceptorConfig{KeytabFile: k.path(etype.String()),
					InsecureRC4: etype == krb5.RC4HMAC})
				require.NoError(t, err)
				token, err := step(t, i, service)
				require.NoError(t, err)
				id, err := accept(t, a, token)
				require.NoError(t, err)
				require.Equal(t, user, id.Account)
				testMITGSS(t, k, etype, user, service, i, a)
			})
		}
	})
}
