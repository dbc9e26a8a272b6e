package ntlm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// A HashFile is a [Verifier] that reads NT hashes from a text file, one account a line:
//
//	# comment
//	FSRVP\backup<TAB>8846f7eaee8fb117ad06bdd830b7586c
//	FSRVP\admin<TAB>0123456789abcdef0123456789abcdef<TAB>S-1-5-21-1-2-3-1104,S-1-5-32-551
//
// The third field, which may be missing, holds the SIDs that the account's Identity gets: its own
// first, then its groups'. Names are compared without regard to case. A client that sends no domain
// matches a line without one, "\backup@fsrvp.test<TAB>...". Empty lines and lines that begin with #
// are skipped.
//
// A hash is as good as its password: let no other user read the file.
//
// The file is read again when its time, size or identity has changed. While it cannot be read, or
// has an error, every log-on fails; to replace it without a gap, rename the new file over it. A
// HashFile is safe for concurrent use.
type HashFile struct {
	path string

	mu       sync.Mutex
	info     os.FileInfo // of the file that accounts were read from; nil before the first
	accounts map[string]hashAccount
}

type hashAccount struct {
	hash         [16]byte
	domain, user string
	sids         []dcerpc.SID
}

// OpenHashFile reads the file, so that errors in it appear at once. They name file and line.
func OpenHashFile(path string) (*HashFile, error) {
	f := &HashFile{path: path}
	_, _, err := f.lookup("", "")
	return f, err
}

// Verify checks the response against the account's line.
func (f *HashFile) Verify(_ context.Context, c *Challenge) (*Result, error) {
	account, ok, err := f.lookup(c.Domain, c.User)
	if err != nil {
		return nil, err
	}
	// An account that does not exist takes the same computation.
	key, proved := c.Check(account.hash)
	if !ok || !proved {
		return nil, ErrLogonFailure
	}
	return &Result{SessionBaseKey: key, Identity: dcerpc.Identity{
		Account: account.user, Domain: account.domain, SIDs: slices.Clone(account.sids),
	}}, nil
}

// lookup finds an account in the file as it is now.
func (f *HashFile) lookup(domain, user string) (hashAccount, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.refresh(); err != nil {
		return hashAccount{}, false, err
	}
	a, ok := f.accounts[accountKey(domain, user)]
	return a, ok, nil
}

// NTHashes returns the hashes of the accounts with a user's name: the one in the domain first, then
// those in others, since clients do not always send the domain of an account. It is for an
// [Observer], which tries them all. If the file cannot be read, NTHashes returns nil.
func (f *HashFile) NTHashes(domain, user string) [][16]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refresh() != nil {
		return nil
	}
	var hashes [][16]byte
	first, ok := f.accounts[accountKey(domain, user)]
	if ok {
		hashes = append(hashes, first.hash)
	}
	for _, a := range f.accounts {
		if strings.EqualFold(a.user, user) && (!ok || a.hash != first.hash) {
			hashes = append(hashes, a.hash)
		}
	}
	return hashes
}

// settled is the age from which on the time of a file proves that it is unchanged: the clocks of
// file systems are that coarse.
const settled = 2 * time.Second

// refresh reads the file if it is not the one that accounts were read from.
func (f *HashFile) refresh() error {
	info, err := os.Stat(f.path)
	if err != nil {
		return fmt.Errorf("ntlm: hash file: %w", err)
	}
	if f.info != nil && os.SameFile(f.info, info) && f.info.Size() == info.Size() &&
		f.info.ModTime().Equal(info.ModTime()) && time.Since(info.ModTime()) > settled {
		return nil
	}
	f.info, f.accounts = nil, nil
	file, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("ntlm: hash file: %w", err)
	}
	defer file.Close()
	// Use the open file: the path may name another one by now.
	if info, err = file.Stat(); err != nil {
		return fmt.Errorf("ntlm: hash file: %w", err)
	}
	accounts := map[string]hashAccount{}
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimRight(lines.Bytes(), "\r")
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		a, err := parseHashLine(string(line))
		if err != nil {
			return fmt.Errorf("ntlm: %s:%d: %w", f.path, n, err)
		}
		key := accountKey(a.domain, a.user)
		if _, ok := accounts[key]; ok {
			return fmt.Errorf(`ntlm: %s:%d: a second line for %s\%s`, f.path, n, a.domain, a.user)
		}
		accounts[key] = a
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("ntlm: hash file %s: %w", f.path, err)
	}
	f.info, f.accounts = info, accounts
	return nil
}

// parseHashLine reads DOMAIN\user, a tab, the hash, and SIDs after another tab. No error
// repeats the hash.
func parseHashLine(line string) (hashAccount, error) {
	var a hashAccount
	fields := strings.Split(line, "\t")
	if len(fields) < 2 || len(fields) > 3 {
		return a, fmt.Errorf(`%d fields where DOMAIN\user, tab, NT hash and perhaps tab, SIDs must be`, len(fields))
	}
	var ok bool
	if a.domain, a.user, ok = strings.Cut(fields[0], `\`); !ok || a.user == "" {
		return a, fmt.Errorf(`%q is not DOMAIN\user`, fields[0])
	}
	hash, err := hex.DecodeString(strings.TrimSpace(fields[1]))
	if err != nil || len(hash) != len(a.hash) {
		return a, fmt.Errorf("the hash of %s is not 32 hexadecimal digits", fields[0])
	}
	copy(a.hash[:], hash)
	if len(fields) == 3 {
		for s := range strings.SplitSeq(fields[2], ",") {
			sid, err := dcerpc.ParseSID(strings.TrimSpace(s))
			if err != nil {
				return a, err
			}
			a.sids = append(a.sids, sid)
		}
	}
	return a, nil
}

// accountKey returns the same key for every spelling of an account.
func accountKey(domain, user string) string {
	return strings.ToUpper(domain) + `\` + strings.ToUpper(user)
}
