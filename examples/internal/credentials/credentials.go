// Package credentials has the flags by which the examples are told who they are, and makes of them what
// fsrvp.Config and smbpipe.Dialer need.
package credentials

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// Usage is the flags in short, for a usage line.
const Usage = `-user U@REALM (-keytab F | -ccache C | -password-file F) [-krb5-conf F] [-mechanism krb5|spnego|ntlm] [-level privacy|integrity] [-transport smb|tcp:PORT]`

// Flags are the values of the flags.
type Flags struct {
	User, Keytab, CCache, PasswordFile, Krb5Conf string
	Mechanism, Level, Transport                  string
	Encrypt                                      bool
}

// Register declares the flags.
func Register(flags *flag.FlagSet) *Flags {
	f := new(Flags)
	flags.StringVar(&f.User, "user", "", `the account: USER@REALM for Kerberos, DOMAIN\USER for NTLM`)
	flags.StringVar(&f.Keytab, "keytab", "", "log in with the keys of this keytab `file`")
	flags.StringVar(&f.CCache, "ccache", "", "use the tickets of this credential `cache` (kinit's): a file, FILE:path or DIR:path;\nwithout this, -keytab and -password-file that of KRB5CCNAME")
	flags.StringVar(&f.PasswordFile, "password-file", "", "log in with the password on the first line of this `file`")
	flags.StringVar(&f.Krb5Conf, "krb5-conf", "", "Kerberos configuration `file` (default those of KRB5_CONFIG, or else /etc/krb5.conf)")
	flags.StringVar(&f.Mechanism, "mechanism", "krb5", "security mechanism inside RPC: krb5, spnego (Kerberos within), ntlm")
	flags.StringVar(&f.Level, "level", "privacy", "protection of calls: privacy, integrity")
	flags.StringVar(&f.Transport, "transport", "smb", "smb, the standard's named pipe, or tcp:PORT")
	flags.BoolVar(&f.Encrypt, "smb-encrypt", false, "demand SMB encryption")
	return f
}

// Given tells whether the flags name somebody.
func (f *Flags) Given() bool {
	return f.User != "" || f.Keytab != "" || f.CCache != "" || f.PasswordFile != ""
}

// Config returns how to reach servers. The Dialer is nil with a transport other than smb; else the caller closes it.
func (f *Flags) Config() (*fsrvp.Config, *smbpipe.Dialer, error) {
	mech, err := f.initiator()
	if err != nil {
		return nil, nil, err
	}
	cfg := &fsrvp.Config{Auth: mech}
	switch f.Level {
	case "privacy":
		cfg.Level = dcerpc.LevelPrivacy
	case "integrity":
		cfg.Level = dcerpc.LevelIntegrity
	default:
		return nil, nil, fmt.Errorf("-level is %q; it has to be privacy or integrity", f.Level)
	}
	if port, ok := strings.CutPrefix(f.Transport, "tcp:"); ok {
		cfg.Transport = &dcerpc.TCPDialer{Port: port}
		return cfg, nil, nil
	}
	if f.Transport != "smb" {
		return nil, nil, fmt.Errorf("-transport is %q; it has to be smb or tcp:PORT", f.Transport)
	}
	d := &smbpipe.Dialer{Auth: mech, Encrypt: f.Encrypt}
	cfg.Transport = d
	return cfg, d, nil
}

// initiator makes the mechanism that the flags describe.
func (f *Flags) initiator() (dcerpc.Initiator, error) {
	sources := 0
	for _, s := range []string{f.Keytab, f.CCache, f.PasswordFile} {
		if s != "" {
			sources++
		}
	}
	ccache := f.CCache
	if name := os.Getenv("KRB5CCNAME"); sources == 0 && name != "" && f.Mechanism != "ntlm" {
		ccache, sources = name, 1
	}
	if sources != 1 {
		return nil, errors.New("one of -keytab, -ccache and -password-file has to say how to log in; so does KRB5CCNAME in the environment")
	}
	if f.User == "" && ccache == "" {
		return nil, errors.New(`-user is missing: USER@REALM, or DOMAIN\USER with -mechanism ntlm`)
	}
	switch f.Mechanism {
	case "ntlm":
		return f.ntlm()
	case "krb5":
		return f.krb5(ccache)
	case "spnego":
		mech, err := f.krb5(ccache)
		if err != nil {
			return nil, err
		}
		return spnego.NewInitiator(mech)
	}
	return nil, fmt.Errorf("-mechanism is %q; it has to be krb5, spnego or ntlm", f.Mechanism)
}

// krb5 makes an initiator; ccache is -ccache or KRB5CCNAME.
func (f *Flags) krb5(ccache string) (*krb5.Initiator, error) {
	cfg := &krb5.InitiatorConfig{Krb5Conf: f.krb5Conf()}
	switch {
	case ccache != "":
		return krb5.NewInitiatorFromCCache(ccache, cfg)
	case f.Keytab != "":
		kt, err := krb5.LoadKeytab(f.Keytab)
		if err != nil {
			return nil, err
		}
		return krb5.NewInitiatorWithKeytab(f.User, kt, cfg)
	}
	password, err := f.password()
	if err != nil {
		return nil, err
	}
	return krb5.NewInitiatorWithPassword(f.User, password, cfg)
}

// krb5Conf is -krb5-conf, or the files of KRB5_CONFIG that exist: as with MIT's programs others of that list are left out.
func (f *Flags) krb5Conf() string {
	env := os.Getenv("KRB5_CONFIG")
	if f.Krb5Conf != "" || env == "" {
		return f.Krb5Conf
	}
	var files []string
	for _, name := range filepath.SplitList(env) {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			files = append(files, name)
		}
	}
	if len(files) == 0 {
		return os.DevNull // which has nothing to say, and keeps /etc/krb5.conf out
	}
	return strings.Join(files, string(filepath.ListSeparator))
}

func (f *Flags) ntlm() (*ntlm.Initiator, error) {
	if f.PasswordFile == "" {
		return nil, errors.New("-mechanism ntlm needs -password-file")
	}
	password, err := f.password()
	if err != nil {
		return nil, err
	}
	cred := ntlm.Credentials{User: f.User, Password: password}
	if domain, user, ok := strings.Cut(f.User, `\`); ok {
		cred.Domain, cred.User = domain, user
	}
	return ntlm.NewInitiator(cred)
}

// password is the first line of the password file.
func (f *Flags) password() (string, error) {
	b, err := os.ReadFile(f.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("-password-file: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" {
		return "", fmt.Errorf("-password-file: the first line of %s is empty", f.PasswordFile)
	}
	return line, nil
}
