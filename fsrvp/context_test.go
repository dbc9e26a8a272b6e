package fsrvp

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestContextValue(t *testing.T) {
	for _, tt := range []struct {
		value uint32
		valid bool
		text  string
	}{
		{0x0, true, "BACKUP"},
		{0x10, true, "FILE_SHARE_BACKUP"},
		{0x19, true, "NAS_ROLLBACK"},
		{0x9, true, "APP_ROLLBACK"},
		{0x2, true, "BACKUP|NO_AUTO_RECOVERY"},
		{0xB, true, "APP_ROLLBACK|NO_AUTO_RECOVERY"},
		{0x400000, true, "BACKUP|AUTO_RECOVERY"},
		{0x400019, true, "NAS_ROLLBACK|AUTO_RECOVERY"},
		{0x400002, false, "NO_AUTO_RECOVERY|AUTO_RECOVERY"},
		{0x1, false, "PERSISTENT"},
		{0x8, false, "NO_AUTO_RELEASE"},
		{0x11, false, "PERSISTENT|NO_WRITERS"},
		{0x18, false, "NO_AUTO_RELEASE|NO_WRITERS"},
		{0x4, false, "0x4"},
		{0x80000009, false, "PERSISTENT|NO_AUTO_RELEASE|0x80000000"},
	} {
		c := ContextValue(tt.value)
		require.Equal(t, tt.valid, c.Valid(), "%#x", tt.value)
		require.Equal(t, tt.text, c.String())
	}
	// Of all combinations of the attributes, the four contexts with none or one of the recovery
	// attributes are valid.
	valid := 0
	for mask := range 1 << 5 {
		var c ContextValue
		for i, a := range []ContextValue{AttrPersistent, AttrNoAutoRecovery, AttrNoAutoRelease, AttrNoWriters,
			AttrAutoRecovery} {
			if mask&(1<<i) != 0 {
				c |= a
			}
		}
		if c.Valid() {
			valid++
		}
	}
	require.Equal(t, 4*3, valid)
}

func TestContextValueAttributes(t *testing.T) {
	c := ContextNASRollback | AttrAutoRecovery
	require.True(t, c.Persistent())
	require.True(t, c.NoAutoRelease())
	require.True(t, c.NoWriters())
	require.True(t, c.AutoRecovery())
	require.False(t, c.NoAutoRecovery())
	require.Equal(t, ContextNASRollback, c.Base())
	c = AttrNoAutoRecovery
	require.True(t, c.NoAutoRecovery())
	require.False(t, c.Persistent() || c.NoAutoRelease() || c.NoWriters() || c.AutoRecovery())
	require.Equal(t, ContextBackup, c.Base())
}

func TestCompatibility(t *testing.T) {
	require.Equal(t, "0", Compatibility(0).String())
	require.Equal(t, "DISABLE_DEFRAG|DISABLE_CONTENTINDEX", (DisableDefrag | DisableContentIndex).String())
	require.Equal(t, "DISABLE_CONTENTINDEX|0x10", Compatibility(0x12).String())
}
