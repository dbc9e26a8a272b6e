package credentials

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func flags(t *testing.T, args ...string) *Flags {
	t.Helper()
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	f := Register(fs)
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
	_, _, err := flags(t, "-user", "backup", "-password-file", password).Config()
	require.NoError(t, err, "default_realm is not read")
	t.Setenv("KRB5_CONFIG", filepath.Join(dir, "none"))
	require.Equal(t, os.DevNull, flags(t).krb5Conf())
	_, _, err = flags(t, "-user", "backup@A.TEST", "-password-file", password).Config()
	require.NoError(t, err, "a configuration that is not there is no error")
	t.Setenv("KRB5_CONFIG", "")
	require.Empty(t, flags(t).krb5Conf())
}

func TestCCacheOfTheEnvironment(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KRB5CCNAME", "")
	_, _, err := flags(t).Config()
	require.ErrorContains(t, err, "one of -keytab, -ccache and -password-file")
	t.Setenv("KRB5CCNAME", "FILE:"+filepath.Join(dir, "cc"))
	_, _, err = flags(t).Config()
	require.ErrorContains(t, err, filepath.Join(dir, "cc"))
	_, _, err = flags(t, "-ccache", filepath.Join(dir, "other")).Config()
	require.ErrorContains(t, err, filepath.Join(dir, "other"))
	_, _, err = flags(t, "-mechanism", "ntlm", "-user", "u").Config()
	require.ErrorContains(t, err, "one of -keytab, -ccache and -password-file")
	_, _, err = flags(t, "-keytab", filepath.Join(dir, "keytab"), "-user", "u").Config()
	require.ErrorContains(t, err, filepath.Join(dir, "keytab"))
}
