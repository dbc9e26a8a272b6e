package ntlm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// hashLine is the line of an account with this password.
func hashLine(account, password string) string {
	return fmt.Sprintf("%s\t%x", account, NTHash(password))
}

func writeHashFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hashes")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// answer is the challenge and response of a client with this password.
func answer(domain, user, password string) *Challenge {
	c := &Challenge{Domain: domain, User: user, ServerChallenge: [8]byte{1, 2, 3}}
	client := appendClientChallenge(nil, 0, [8]byte{4, 5, 6}, appendAV(nil, 0, nil))
	proof, _ := ntProof(ntowfv2(NTHash(password), user, domain), c.ServerChallenge, client)
	c.Response = append(proof[:], client...)
	return c
}

func TestHashFile(t *testing.T) {
	path := writeHashFile(t, "# accounts\n\n"+
		hashLine(`FSRVP\backup`, "Secret1")+"\tS-1-5-21-1-2-3-1104, S-1-5-32-551\r\n"+
		hashLine(`\admin@fsrvp.test`, "Secret2")+"\n"+
		hashLine(`FSRVP\Jürgen`, "pässwörd")) // no newline at the end
	f, err := OpenHashFile(path)
	require.NoError(t, err)
	for _, tc := range []struct {
		domain, user, password string
		ok                     bool
	}{
		{"FSRVP", "backup", "Secret1", true},
		{"fsrvp", "BACKUP", "Secret1", true},
		{"", "admin@fsrvp.test", "Secret2", true},
		{"FSRVP", "jürgen", "pässwörd", true},
		{"FSRVP", "backup", "Secret2", false},
		{"FSRVP", "nobody", "Secret1", false},
		{"FSRVP", "nobody", "", false},
		{"OTHER", "backup", "Secret1", false},
		{"", "backup", "Secret1", false},
		{"", "", "", false},
	} {
		r, err := f.Verify(context.Background(), answer(tc.domain, tc.user, tc.password))
		if !tc.ok {
			require.ErrorIs(t, err, ErrLogonFailure, "%+v", tc)
			continue
		}
		require.NoError(t, err, "%+v", tc)
		require.NotZero(t, r.SessionBaseKey)
	}

	// The names are the file's, whatever case the client wrote.
	r, err := f.Verify(context.Background(), answer("fsrvp", "BACKUP", "Secret1"))
	require.NoError(t, err)
	require.Equal(t, dcerpc.Identity{
		Account: "backup", Domain: "FSRVP", SIDs: []dcerpc.SID{"S-1-5-21-1-2-3-1104", dcerpc.SIDBuiltinBackupOperators},
	}, r.Identity)
	r.Identity.SIDs[0] = "S-1-5-18"
	r, err = f.Verify(context.Background(), answer("FSRVP", "backup", "Secret1"))
	require.NoError(t, err)
	require.EqualValues(t, "S-1-5-21-1-2-3-1104", r.Identity.SIDs[0], "the caller's copy is its own")
}

// TestResponseWithoutDomain is a client that leaves its domain out of the key (MS-NLMP 3.2.5.1.2).
func TestResponseWithoutDomain(t *testing.T) {
	f, err := OpenHashFile(writeHashFile(t, hashLine(`FSRVP\backup`, "Secret1")))
	require.NoError(t, err)
	c := answer("", "backup", "Secret1")
	c.Domain = "FSRVP"
	_, err = f.Verify(context.Background(), c)
	require.NoError(t, err)
}

func TestHashFileErrors(t *testing.T) {
	good := hashLine(`FSRVP\backup`, "Secret1")
	for want, content := range map[string]string{
		`hashes:3: "FSRVP" is not DOMAIN\user`:                 "#\n" + good + "\nFSRVP\t8846f7eaee8fb117ad06bdd830b7586c\n",
		`hashes:1: "FSRVP\\" is not DOMAIN\user`:               "FSRVP\\\t8846f7eaee8fb117ad06bdd830b7586c\n",
		`hashes:1: 1 fields where`:                             "FSRVP\\backup 8846f7eaee8fb117ad06bdd830b7586c\n",
		`hashes:1: 4 fields where`:                             good + "\tS-1-5-18\tx\n",
		`hashes:1: the hash of FSRVP\backup is not 32 hexadec`: "FSRVP\\backup\t8846f7eaee8fb117ad06bdd830b7586\n",
		`hashes:2: a second line for fsrvp\BACKUP`:             good + "\n" + hashLine(`fsrvp\BACKUP`, "x") + "\n",
		`"nonsense" is not a SID`:                              good + "\tnonsense\n",
	} {
		_, err := OpenHashFile(writeHashFile(t, content))
		require.ErrorContains(t, err, want)
		require.NotErrorIs(t, err, ErrLogonFailure)
		require.NotContains(t, err.Error(), "8846f7eaee8fb117ad06bdd830b7586", "hashes are secrets")
	}
	_, err := OpenHashFile(filepath.Join(t.TempDir(), "missing"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestHashFileIsReloaded(t *testing.T) {
	path := writeHashFile(t, hashLine(`FSRVP\backup`, "Secret1"))
	f, err := OpenHashFile(path)
	require.NoError(t, err)
	verify := func(password string) error {
		_, err := f.Verify(context.Background(), answer("FSRVP", "backup", password))
		return err
	}
	require.NoError(t, verify("Secret1"))

	// Written in place, with the same length and within the same tick of the clock.
	require.NoError(t, os.WriteFile(path, []byte(hashLine(`FSRVP\backup`, "Secret2")), 0o600))
	require.ErrorIs(t, verify("Secret1"), ErrLogonFailure)
	require.NoError(t, verify("Secret2"))

	// Replaced by a file that is as long and as old.
	old := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(path, old, old))
	require.NoError(t, verify("Secret2"))
	other := path + ".new"
	require.NoError(t, os.WriteFile(other, []byte(hashLine(`FSRVP\backup`, "Secret3")), 0o600))
	require.NoError(t, os.Chtimes(other, old, old))
	require.NoError(t, os.Rename(other, path))
	require.NoError(t, verify("Secret3"))

	// Broken, nobody gets in; mended, everybody does.
	require.NoError(t, os.WriteFile(path, []byte("nonsense"), 0o600))
	require.ErrorContains(t, verify("Secret3"), "hashes:1:")
	require.ErrorContains(t, verify("Secret3"), "hashes:1:")
	require.NoError(t, os.Remove(path))
	require.ErrorIs(t, verify("Secret3"), os.ErrNotExist)
	require.NoError(t, os.WriteFile(path, []byte(hashLine(`FSRVP\backup`, "Secret1")), 0o600))
	require.NoError(t, verify("Secret1"))
}

func TestHashFileIsReadOnlyWhenItChanged(t *testing.T) {
	path := writeHashFile(t, hashLine(`FSRVP\backup`, "Secret1"))
	old := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(path, old, old))
	f, err := OpenHashFile(path)
	require.NoError(t, err)
	before := f.info
	_, err = f.Verify(context.Background(), answer("FSRVP", "backup", "Secret1"))
	require.NoError(t, err)
	require.Same(t, before, f.info)
}

func TestHashFileByManyAtOnce(t *testing.T) {
	path := writeHashFile(t, hashLine(`FSRVP\backup`, "Secret1"))
	f, err := OpenHashFile(path)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if _, err := f.Verify(context.Background(), answer("FSRVP", "backup", "Secret1")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestNTHashes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	line := func(account, password string) string { return fmt.Sprintf("%s\t%x\n", account, NTHash(password)) }
	require.NoError(t, os.WriteFile(path, []byte(line(`FSRVP\backup`, "one")+line(`OTHER\Backup`,
		"two")+line(`FSRVP\admin`, "three")), 0o600))
	f, err := OpenHashFile(path)
	require.NoError(t, err)
	require.Equal(t, [][16]byte{NTHash("one"), NTHash("two")}, f.NTHashes("fsrvp", "BACKUP"))
	require.ElementsMatch(t, [][16]byte{NTHash("one"), NTHash("two")}, f.NTHashes("", "backup"))
	require.Empty(t, f.NTHashes("FSRVP", "nobody"))
}
