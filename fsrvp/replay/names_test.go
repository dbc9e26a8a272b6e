package replay

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

func TestShareMap(t *testing.T) {
	m, err := NewShareMap(map[string]string{
		`\\fs1`:                      `\\10.0.0.7`,
		`\\fs1\data`:                 `\\fs2\copy`,
		`\\FS1\logs\`:                `\\fs3`,
		`\\fs1\vms$`:                 `\\fs3\vms$`,
		`\\fe80--1.ipv6-literal.net`: `\\[2001:db8::1]`,
	})
	require.NoError(t, err)
	for from, to := range map[string]string{
		`\\fs1\other`: `\\10.0.0.7\other`,
		`\\FS1\DATA`:  `\\fs2\copy`,
		`\\fs1\Logs`:  `\\fs3\Logs`,
		`\\fs1\vms$`:  `\\fs3\vms$`,
		`\\fs2\data`:  `\\fs2\data`,
		`\\fe80::1\x`: `\\[2001:db8::1]\x`,
	} {
		n, err := fsrvp.ParseShareName(from)
		require.NoError(t, err)
		require.Equal(t, to, m.Rewrite(n).UNC(), from)
	}
	require.Equal(t, "10.0.0.7", m.Rewrite(fsrvp.ShareName{Host: "FS1"}).Host, "a machine")
	n := fsrvp.ShareName{Host: "a", Share: "b", Rest: "c"}
	require.Equal(t, n, (*ShareMap)(nil).Rewrite(n))

	for from, to := range map[string]string{
		`fs1`: `\\fs2`, `\\fs1`: `fs2`, `\\`: `\\fs2`, `\\fs1\a|b`: `\\fs2\b`, `\\?\x`: `\\fs2\b`, `\\fs1\`: `\\fs2\data`, ``: ``,
	} {
		_, err := NewShareMap(map[string]string{from: to})
		var nameErr *fsrvp.ShareNameError
		require.ErrorAs(t, err, &nameErr, from)
	}
	_, err = NewShareMap(map[string]string{`\\fs1\a`: `\\fs2\a`, `\\FS1\A`: `\\fs2\b`})
	require.ErrorContains(t, err, "twice")
}

// TestTranslationNames is about names with ids in them.
func TestTranslationNames(t *testing.T) {
	was, now, other := fsrvp.CopyID{1}, fsrvp.CopyID{2}, fsrvp.CopyID{3}
	m, err := NewShareMap(map[string]string{`\\fs1\data`: `\\fs2\copy`})
	require.NoError(t, err)
	tr := newTranslation(m.Rewrite)
	require.Nil(t, tr.learnCopy(was, now, `\\fs1\data`))
	require.Equal(t, now, tr.learnCopy(was, other, `\\fs1\vms$`), "one copy has become two")
	for from, to := range map[string]string{
		`\\fs1\data\`:                                         `\\fs2\copy\`,
		`\\fs1\data\dir\file`:                                 `\\fs2\copy\dir\file`,
		`\\fs1\data@{` + was.String() + `}`:                   `\\fs2\copy@{` + now.String() + `}`,
		`\\FS1\DATA@{01000000-0000-0000-0000-000000000000}\x`: `\\fs2\copy@{` + now.String() + `}\x`,
		`\\fs1\vms$@{` + was.String() + `}$`:                  `\\fs1\vms$@{` + other.String() + `}$`,
		`\\fs1\data@{` + other.String() + `}`:                 `\\fs2\copy@{` + other.String() + `}`,
		`\\fs1\data@{01000000-0000-0000-0000-0000000000`:      `\\fs2\copy@{01000000-0000-0000-0000-0000000000`,
		`\\fs1\data@{01000000-0000-0000-0000-00000000000x}`:   `\\fs2\copy@{01000000-0000-0000-0000-00000000000x}`,
		`data`:                      `data`,
		`\\fs1`:                     `\\fs1`,
		"\\\\fs1\\data\xed\xa0\x80": "\\\\fs1\\data\xed\xa0\x80",
		"":                          "",
	} {
		require.Equal(t, to, tr.unc(from))
	}
	require.Equal(t, "data", newTranslation(nil).name("", "data").Share)
}
