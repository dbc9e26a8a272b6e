package samba

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

const anID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

func TestCheckName(t *testing.T) {
	for _, name := range []string{
		"vms", "VMs$", "a b", "#1", "&", "'", "~^`()!{}[$", "@", "x@{y}", "Bücher", ".", strings.Repeat("n", 216), strings.Repeat("日", 72),
	} {
		require.NoError(t, (*Shares)(nil).CheckName(name+"@{"+anID+"}"), name)
	}
	require.NoError(t, (*Shares)(nil).CheckName(strings.Repeat("n", 214)+"$@{"+strings.ToUpper(anID)+"}$"))
	for _, name := range []string{
		"", "vms", "@{" + anID + "}", "vms@{" + anID + "}x", "vms@{" + anID, "vms@{" + anID + "}$$", "vms@" + anID,
		"vms@{" + anID[1:] + "}", "vms@{" + strings.ReplaceAll(anID, "-", "") + "}", "vms@{urn:uuid:" + anID + "}",
		"vms@{" + strings.Replace(anID, "6", "g", 1) + "}",
	} {
		require.ErrorIs(t, (*Shares)(nil).CheckName(name), fsrvp.ErrNotSupported, name)
	}
	for _, name := range []string{
		strings.Repeat("n", 217), strings.Repeat("n", 215) + "\u00fc", "-v", " v", "a  b", "a]b", "a\tb", "a\nb", "a\x00b", "a\x7fb", "\xff",
		"a%b", "a<", "a>", "a*", "a?", "a|", "a/b", `a\b`, "a+", "a=", "a;", "a:", `a"`, "a,",
	} {
		require.ErrorIs(t, (*Shares)(nil).CheckName(name+"@{"+anID+"}"), fsrvp.ErrNotSupported, name)
	}
}

func TestExposedID(t *testing.T) {
	id, ok := exposedID("vms$@{" + strings.ToUpper(anID) + "}$")
	require.True(t, ok)
	require.Equal(t, anID, id.String())
	id = fsrvp.NewCopyID()
	got, ok := exposedID(fsrvp.ExposedName("x@{"+anID+"}", id))
	require.True(t, ok)
	require.Equal(t, id, got)
}
