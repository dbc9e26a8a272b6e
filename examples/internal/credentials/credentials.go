// Package credentials has the flags for the credentials of the examples, and makes from them what
// fsrvp.Config, smbpipe.Dialer and sharefs need.
//
// On Windows, if no flag names credentials, it uses the log-on of the process: dcerpc/sspi, and
// Windows' SMB client for pipes and shares.
package credentials

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/sspi"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/sharefs"
)

// Usage is a short form of the flags, for a usage line.
const Usage = `-user U@REALM (-keytab F | -ccache C | -password-file F) [-krb5-conf F] [-mechanism krb5|spnego|ntlm] [-level privacy|integrity] [-no-header-signing] [-transport smb|tcp:PORT]`

// Flags are the values of the flags.
type Flags struct {
	User, Keytab, CCache, PasswordFile, Krb5Conf string
	Mechanism, Level, Transport                  string
	Encrypt, NoHeaderSigning                     bool

	windows bool            // the system is
	cache   *krb5.Initiator // with the tickets of a cache, or nil
}

// Register declares the flags.
func Register(flags *flag.FlagSet) *Flags {
	f := &Flags{windows: runtime.GOOS == "windows"}
	flags.StringVar(&f.User, "user", "", `the account: USER@REALM for Kerberos, DOMAIN\USER for NTLM`)
	flags.StringVar(&f.Keytab, "keytab", "", "log in with the keys of this keytab `file`")
	flags.StringVar(&f.CCache, "ccache", "", "use the tickets of this credential `cache` (kinit's): a file, FILE:path, DIR:path, KCM:, KEYRING:name; they are renewed\nas long as the KDC does so; without this, -keytab and -password-file that of KRB5CCNAME; on Windows, the log-on of\nthis process")
	flags.StringVar(&f.PasswordFile, "password-file", "", "log in with the password on the first line of this `file`")
	flags.StringVar(&f.Krb5Conf, "krb5-conf", "", "Kerberos configuration `file` (default those of KRB5_CONFIG, or else /etc/krb5.conf)")
	flags.StringVar(&f.Mechanism, "mechanism", "", "security mechanism inside RPC: krb5, spnego (Kerberos within), ntlm (default krb5; with the log-on of\nWindows spnego, which is Kerberos or NTLM there)")
	flags.StringVar(&f.Level, "level", "privacy", "protection of calls: privacy, integrity")
	flags.BoolVar(&f.NoHeaderSigning, "no-header-signing", false, "leave the headers of RPC's messages out of what is signed: for Wine's Kerberos, which cannot sign them")
	flags.StringVar(&f.Transport, "transport", "smb", "smb, the standard's named pipe, or tcp:PORT")
	flags.BoolVar(&f.Encrypt, "smb-encrypt", false, "demand SMB encryption")
	return f
}

// Given reports whether the flags name credentials.
func (f *Flags) Given() bool {
	return f.User != "" || f.Keytab != "" || f.CCache != "" || f.PasswordFile != ""
}

// An Access says how to reach servers. Its owner must close it.
type Access struct {
	Client *fsrvp.Config
	// OpenShare opens a share for reading. It is nil if SMB cannot be used: with another transport
	// and credentials for it.
	OpenShare func(ctx context.Context, unc string) (*sharefs.FS, error)

	dialer *smbpipe.Dialer // or nil
	// renewal ends the renewing of tickets; renewed is closed when it has ended.
	renewal context.CancelFunc
	renewed chan struct{}
}

// Close ends what is open.
func (a *Access) Close() error {
	if a.renewal != nil {
		a.renewal()
		<-a.renewed
	}
	if a.dialer == nil {
		return nil
	}
	return a.dialer.Close()
}

// Access returns how to reach servers.
func (f *Flags) Access() (*Access, error) {
	mech, system, err := f.initiator()
	if err != nil {
		return nil, err
	}
	a := &Access{Client: &fsrvp.Config{Auth: mech, NoHeaderSigning: f.NoHeaderSigning}}
	switch f.Level {
	case "privacy":
		a.Client.Level = dcerpc.LevelPrivacy
	case "integrity":
		a.Client.Level = dcerpc.LevelIntegrity
	default:
		return nil, fmt.Errorf("-level is %q; it must be privacy or integrity", f.Level)
	}
	port, tcp := strings.CutPrefix(f.Transport, "tcp:")
	switch {
	case tcp:
		a.Client.Transport = &dcerpc.TCPDialer{Port: port}
	case f.Transport != "smb":
		return nil, fmt.Errorf("-transport is %q; it must be smb or tcp:PORT", f.Transport)
	case system && f.Encrypt:
		return nil, errors.New("-smb-encrypt needs credentials; what the SMB client of Windows encrypts is set with it (Set-SmbClientConfiguration)")
	case system:
		a.Client.Transport = new(smbpipe.SystemDialer)
	default:
		a.dialer = &smbpipe.Dialer{Auth: mech, Encrypt: f.Encrypt}
		a.Client.Transport = a.dialer
		a.OpenShare = func(ctx context.Context, unc string) (*sharefs.FS, error) {
			return sharefs.Open(ctx, a.dialer, unc, nil)
		}
	}
	if f.cache != nil {
		var ctx context.Context
		ctx, a.renewal = context.WithCancel(context.Background())
		a.renewed = make(chan struct{})
		go func() {
			defer close(a.renewed)
			f.cache.KeepRenewed(ctx)
		}()
	}
	if system {
		a.OpenShare = func(ctx context.Context, unc string) (*sharefs.FS, error) { return sharefs.OpenSystem(ctx, unc, nil) }
	}
	return a, nil
}

// system makes the mechanism for the Windows log-on.
func (f *Flags) system() (dcerpc.Initiator, error) {
	if f.User != "" {
		return nil, errors.New("-user needs -keytab, -ccache or -password-file; without all of them it is the log-on of this process")
	}
	p, ok := map[string]sspi.Package{"": sspi.Negotiate, "spnego": sspi.Negotiate, "krb5": sspi.Kerberos, "ntlm": sspi.NTLM}[f.Mechanism]
	if !ok {
		return nil, f.badMechanism()
	}
	return sspi.NewInitiator(&sspi.InitiatorConfig{Package: p})
}

func (f *Flags) badMechanism() error {
	return fmt.Errorf("-mechanism is %q; it must be krb5, spnego or ntlm", f.Mechanism)
}

// initiator makes the mechanism that the flags describe, and reports whether it uses the Windows
// log-on.
func (f *Flags) initiator() (_ dcerpc.Initiator, system bool, _ error) {
	sources := 0
	for _, s := range []string{f.Keytab, f.CCache, f.PasswordFile} {
		if s != "" {
			sources++
		}
	}
	if f.windows && sources == 0 {
		mech, err := f.system()
		return mech, true, err
	}
	mech, err := f.own(sources)
	return mech, false, err
}

// own makes one of this module's mechanisms.
func (f *Flags) own(sources int) (dcerpc.Initiator, error) {
	ccache := f.CCache
	if name := os.Getenv("KRB5CCNAME"); sources == 0 && name != "" && f.Mechanism != "ntlm" {
		ccache, sources = name, 1
	}
	if sources != 1 {
		return nil, errors.New("say how to log in: -keytab, -ccache, -password-file, or KRB5CCNAME in the environment")
	}
	if f.User == "" && ccache == "" {
		return nil, errors.New(`-user is missing: USER@REALM, or DOMAIN\USER with -mechanism ntlm`)
	}
	switch f.Mechanism {
	case "ntlm":
		return f.ntlm()
	case "", "krb5":
		return f.krb5(ccache)
	case "spnego":
		mech, err := f.krb5(ccache)
		if err != nil {
			return nil, err
		}
		return spnego.NewInitiator(mech)
	}
	return nil, f.badMechanism()
}

// krb5 makes an initiator; ccache is -ccache or KRB5CCNAME.
func (f *Flags) krb5(ccache string) (*krb5.Initiator, error) {
	cfg := &krb5.InitiatorConfig{Krb5Conf: f.krb5Conf()}
	switch {
	case ccache != "":
		i, err := krb5.NewInitiatorFromCCache(ccache, cfg)
		f.cache = i
		return i, err
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

// krb5Conf returns -krb5-conf, or the existing files of KRB5_CONFIG: like MIT's programs it ignores
// missing files in that list.
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
		return os.DevNull // which is empty, and keeps /etc/krb5.conf from being read
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

// password returns the first line of the password file.
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
