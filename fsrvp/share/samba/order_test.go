//go:build unix

package samba

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

const (
	testparm   = "testparm --suppress-prompt --skip-logic-checks"
	closeShare = "smbcontrol all close-share X"
	reload     = "smbcontrol all reload-config"
	smbstatus  = "smbstatus --shares"
)

func TestOrder(t *testing.T) {
	f, share := newFake(t, Config{})
	e := exposureOf(share, share.Path)
	e.Writable = true

	require.NoError(t, f.Expose(t.Context(), e))
	commands := f.commands(e)
	require.ElementsMatch(t, []string{testparm, "sharesec data --viewsddl"}, commands[:2])
	require.Equal(t, []string{
		"net conf import FILE X", "sharesec X --setsddl=" + strict, "net conf setparm -- X available Yes", reload,
	}, commands[2:])
	require.Equal(t, strict, f.state().SDs[e.Name])
	require.Contains(t, f.state().Registry[e.Name], "\tread only = No\n")

	require.NoError(t, f.Expose(t.Context(), e), "exposing the same again is no error")
	require.Len(t, f.commands(e), 2)

	require.NoError(t, f.SealShare(t.Context(), e))
	require.Equal(t, []string{
		testparm, "net conf setparm -- X available No", "net conf setparm -- X read only Yes", "net conf setparm -- X write list ",
		closeShare, reload, smbstatus, "net conf setparm -- X available Yes", reload,
	}, f.commands(e))
	require.NoError(t, f.SealShare(t.Context(), e))
	require.Equal(t, []string{testparm}, f.commands(e))

	require.NoError(t, f.Unexpose(t.Context(), backend.Owner{}, e.Name))
	require.Equal(t, []string{testparm, "net conf delshare X", closeShare, reload, smbstatus}, f.commands(e))
	require.Empty(t, f.state().Registry)
	require.NoError(t, f.Unexpose(t.Context(), backend.Owner{}, e.Name))
	require.Equal(t, []string{testparm, closeShare, reload, smbstatus}, f.commands(e))

	// A share with no security descriptor is made in one step.
	open, err := f.Lookup(t.Context(), "OPEN")
	require.NoError(t, err)
	f.calls()
	e = exposureOf(open, open.Path)
	require.NoError(t, f.Expose(t.Context(), e))
	require.Equal(t, []string{"net conf import FILE X"}, f.commands(e)[2:])
	require.NotContains(t, f.state().SDs, e.Name)
}
