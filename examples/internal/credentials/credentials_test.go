package credentials

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
)

func flags(t *testing.T, args ...string) *Flags {
	t.Helper()
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	f := Register(fs)
	f.windows = false
	require.NoError(t, fs.Parse(args))
	return f
}

func TestKrb5Config(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	require.NoError(t, os.WriteFile(a, []byte("[libdefaults]\ndefault_realm = A.TEST\n"), 0o600))
	require.NoError(t, os.WriteFile(b, nil, 0o600))
	list := string(filepath.ListSeparator)
	t.Setenv("KRB5_CONFIG", a+list+filepath.Join(dir, "none")+list+b)
	require.Equal(t, a+list+b, flags(t).krb5Conf())
	require.Equal(t, b, flags(t, "-krb5-conf", b).krb5Conf())
	password := filepath.Join(dir, "password")
	require.NoError(t, os.WriteFile(password, []byte("secret\n"), 0o600))
	_, err := flags(t, "-user", "backup", "-password-file", password).Access()
	require.NoError(t, err, "default_realm is not read")
	t.Setenv("KRB5_CONFIG", filepath.Join(dir, "none"))
	require.Equal(t, os.DevNull, flags(t).krb5Conf())
	_, err = flags(t, "-user", "backup@A.TEST", "-password-file", password).Access()
	require.NoError(t, err, "a configuration that is not there is no error")
	t.Setenv("KRB5_CONFIG", "")
	require.Empty(t, flags(t).krb5Conf())
}

func TestCCacheOfTheEnvironment(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KRB5CCNAME", "")
	_, err := flags(t).Access()
	require.ErrorContains(t, err, "say how to log in: -keytab, -ccache, -password-file")
	t.Setenv("KRB5CCNAME", "FILE:"+filepath.Join(dir, "cc"))
	_, err = flags(t).Access()
	require.ErrorContains(t, err, filepath.Join(dir, "cc"))
	_, err = flags(t, "-ccache", filepath.Join(dir, "other")).Access()
	require.ErrorContains(t, err, filepath.Join(dir, "other"))
	_, err = flags(t, "-mechanism", "ntlm", "-user", "u").Access()
	require.ErrorContains(t, err, "say how to log in: -keytab, -ccache, -password-file")
	_, err = flags(t, "-keytab", filepath.Join(dir, "keytab"), "-user", "u").Access()
	require.ErrorContains(t, err, filepath.Join(dir, "keytab"))
}

// TestLogOnOfWindows: on Windows, without credentials, it is asked for; elsewhere there is none.
func TestLogOnOfWindows(t *testing.T) {
	t.Setenv("KRB5CCNAME", filepath.Join(t.TempDir(), "cc")) // is not looked at
	onWindows := func(args ...string) (*Access, error) {
		f := flags(t, args...)
		f.windows = true
		return f.Access()
	}
	for _, args := range [][]string{nil, {"-mechanism", "krb5"}, {"-mechanism", "spnego"}} {
		a, err := onWindows(args...)
		if runtime.GOOS != "windows" {
			require.ErrorIs(t, err, errors.ErrUnsupported)
			continue
		}
		require.NoError(t, err)
		require.IsType(t, (*smbpipe.SystemDialer)(nil), a.Client.Transport)
		require.NotNil(t, a.OpenShare)
		a, err = onWindows(append(args, "-transport", "tcp:5555", "-no-header-signing")...)
		require.NoError(t, err)
		require.True(t, a.Client.NoHeaderSigning)
		require.IsType(t, (*dcerpc.TCPDialer)(nil), a.Client.Transport)
		require.NotNil(t, a.OpenShare, "shares are read by the system whatever carries RPC")
		require.NoError(t, a.Close())
		_, err = onWindows(append(args, "-smb-encrypt")...)
		require.ErrorContains(t, err, "Set-SmbClientConfiguration")
	}
	_, err := onWindows("-user", "backup")
	require.ErrorContains(t, err, "-user needs")
	_, err = onWindows("-mechanism", "digest")
	require.ErrorContains(t, err, `-mechanism is "digest"`)

	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte("secret\n"), 0o600))
	a, err := onWindows("-mechanism", "ntlm", "-user", `LAB\backup`, "-password-file", password)
	require.NoError(t, err)
	require.IsType(t, (*smbpipe.Dialer)(nil), a.Client.Transport, "credentials are used as elsewhere")
	require.NoError(t, a.Close())
	a, err = flags(t, "-mechanism", "ntlm", "-user", `LAB\backup`, "-password-file", password, "-transport",
		"tcp:5555").Access()
	require.NoError(t, err)
	require.Nil(t, a.OpenShare)
	require.NoError(t, a.Close())
}
