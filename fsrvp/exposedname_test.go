package fsrvp

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseExposedName(t *testing.T) {
	id := NewCopyID()
	for _, share := range []string{"vms", "vms$", "a@{b}", "x@{" + id.String() + "}", "\xff", "é$$"} {
		for _, name := range []string{ExposedName(share, id), ExposedNameNoDollar(share, id),
			share + "@{" + strings.ToUpper(id.String()) + "}"} {
			got, gotID, ok := ParseExposedName(name)
			require.True(t, ok, name)
			require.Equal(t, share, got, name)
			require.Equal(t, id, gotID, name)
		}
	}
	for _, name := range []string{
		"", "vms", "@{" + id.String() + "}", "vms@" + id.String(), "vms@{" + id.String(), "vms@{" + id.String() + "}}", "vms@{" + id.String() + "}$$",
		"vms@{" + id.String()[1:] + "}", "vms@{g" + id.String()[1:] + "}", "vms@{" + strings.ReplaceAll(id.String(), "-", "") + "}",
		"vms@{" + strings.ReplaceAll(id.String(), "-", "x") + "}", "vms@[" + id.String() + "]", "vms@{{" + id.String()[2:] + "}}", "vms@{" + id.String() + "} ",
	} {
		_, _, ok := ParseExposedName(name)
		require.False(t, ok, name)
	}
}
