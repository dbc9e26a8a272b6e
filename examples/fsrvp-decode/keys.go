package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture"
)

// keyFlags name the sources of keys for encrypted traffic.
type keyFlags struct {
	keytab, ccache, ntlmUsers, passwordFile, hashFile string
}

func (k *keyFlags) register(flags *flag.FlagSet) {
	flags.StringVar(&k.keytab, "keytab", "", "keytab `file` of the file server, to read what Kerberos has encrypted")
	flags.StringVar(&k.ccache, "ccache", "",
		"credential cache (`file`, FILE:path or DIR:path) of the client, whose tickets do so too")
	flags.StringVar(&k.ntlmUsers, "ntlm-users", "",
		"`file` of NT hashes, lines DOMAIN\\user, tab, hash, to read what NTLM has encrypted")
	flags.StringVar(&k.passwordFile, "password-file", "",
		"`file` with passwords, one a line, that are tried for every account of NTLM")
	flags.StringVar(&k.hashFile, "nt-hash-file", "", "`file` with NT hashes, 32 digits a line, that are tried likewise")
}

// config reads the keys.
func (k *keyFlags) config() (*capture.Config, error) {
	cfg := new(capture.Config)
	var err error
	if k.keytab != "" {
		if cfg.Keytab, err = krb5.LoadKeytab(k.keytab); err != nil {
			return nil, fmt.Errorf("the keytab %s cannot be used: %w; a domain controller exports one with "+
				"ktpass, or samba-tool domain exportkeytab", k.keytab, err)
		}
	}
	if k.ccache != "" {
		if cfg.Tickets, err = krb5.LoadTickets(k.ccache); err != nil {
			return nil, fmt.Errorf("-ccache: %w", err)
		}
	}
	var hashes [][16]byte
	if k.passwordFile != "" {
		err := eachLine(k.passwordFile, func(line string) error {
			hashes = append(hashes, ntlm.NTHash(line))
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("-password-file: %w", err)
		}
	}
	if k.hashFile != "" {
		err := eachLine(k.hashFile, func(line string) error {
			h, err := hex.DecodeString(strings.TrimSpace(line))
			if err != nil || len(h) != 16 {
				return errors.New("it is not 32 hexadecimal digits")
			}
			hashes = append(hashes, [16]byte(h))
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("-nt-hash-file: %w", err)
		}
	}
	var users *ntlm.HashFile
	if k.ntlmUsers != "" {
		if users, err = ntlm.OpenHashFile(k.ntlmUsers); err != nil {
			return nil, fmt.Errorf("-ntlm-users: %w", err)
		}
	}
	if users != nil || len(hashes) > 0 {
		cfg.NTHashes = func(domain, user string) [][16]byte {
			all := hashes
			if users != nil {
				all = append(users.NTHashes(domain, user), all...)
			}
			return all
		}
	}
	return cfg, nil
}

// eachLine calls f for the lines of a file that are not empty. Its errors name the line, but not
// its contents.
func eachLine(name string, f func(line string) error) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	lines, n := bufio.NewScanner(file), 0
	for lines.Scan() {
		n++
		if line := strings.TrimRight(lines.Text(), "\r"); line != "" {
			if err := f(line); err != nil {
				return fmt.Errorf("%s:%d: %w", name, n, err)
			}
		}
	}
	return lines.Err()
}
