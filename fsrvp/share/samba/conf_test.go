package samba

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// printed is what testparm of Samba 4.17 prints.
const printed = `# Global parameters
[global]
	registry shares = Yes
	server role = standalone server
	idmap config * : backend = tdb
	read only = No
	vfs objects = acl_xattr


[base]
	comment = "hello ; # there"
	path = /srv/a=b
	valid users = root "foo bar"
	write list = 
	odd:param = a; b # c
	btrfs: manipulate snapshots = yes


[a[b]
	available = No
	path = /srv/a
	read only = Yes


[]
	path = /srv


[Bücher$]
	comment = one
two
	path = /srv/b
`

func TestParseConf(t *testing.T) {
	c, err := parseConf(printed)
	require.NoError(t, err)
	require.Len(t, c.shares, 4)
	require.True(t, c.yes(&c.global, "Registry Shares", false))

	base := c.share("BASE")
	require.Equal(t, &section{name: "base", params: []param{
		{"comment", `"hello ; # there"`}, {"path", "/srv/a=b"}, {"valid users", `root "foo bar"`}, {"write list", ""},
		{"odd:param", "a; b # c"}, {"btrfs: manipulate snapshots", "yes"},
	}}, base)
	value, ok := base.get("BTRFS:ManipulateSnapshots")
	require.True(t, ok)
	require.Equal(t, "yes", value)
	require.True(t, c.available(base))
	require.False(t, c.yes(base, "read only", true), "of [global]")
	require.Equal(t, "acl_xattr", c.value(base, "vfs objects"))

	require.False(t, c.available(c.share("A[B")))
	require.True(t, c.isReadOnly(c.share("a[b")))
	require.Equal(t, "two", c.share("bÜCHER$").strange)
	require.NotNil(t, c.share(""))
	require.Nil(t, c.share("global"))
	require.Nil(t, c.share("nosuch"))

	crlf, err := parseConf(strings.ReplaceAll(printed, "\n", "\r\n"))
	require.NoError(t, err)
	require.Equal(t, c, crlf)
	for _, bad := range []string{"", "\n", "# Global parameters\n", "[share]\n\tpath = /\n", "\tpath = /\n[global]\n",
		"Error loading services.\n"} {
		_, err := parseConf(bad)
		require.Error(t, err, bad)
	}
}

func TestUsersOf(t *testing.T) {
	const out = `
Service      pid     Machine       Connected at                     Encryption   Signing     
---------------------------------------------------------------------------------------------
a b          12      10.99.0.3     Mon Nov 23 16:23:00 2026 UTC     -            -           
A B          0:13    10.99.0.3     Mon Nov 23 16:23:00 2026 UTC     -            -           
a b          12      10.99.0.4     Mon Nov 23 16:23:00 2026 UTC     -            -           
a bc         14      10.99.0.3     Mon Nov 23 16:23:00 2026 UTC     -            -           
a b c        15      10.99.0.3     Mon Nov 23 16:23:00 2026 UTC     -            -           
IPC$         16      10.99.0.3     Mon Nov 23 16:23:00 2026 UTC     -            -           
a b
`
	require.Equal(t, []string{"12", "0:13"}, usersOf(out, "a B"))
	require.Equal(t, []string{"14"}, usersOf(out, "a bc"))
	require.Empty(t, usersOf(out, "a"))
	require.Empty(t, usersOf(out, "---"))
	require.Empty(t, usersOf(out, "Service"))
	require.Empty(t, usersOf("", "a"))
}
