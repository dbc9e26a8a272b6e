package transcript_test

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// TestRequest fills the fields of every request that name a set and a share.
func TestRequest(t *testing.T) {
	sets, shares := 0, 0
	for op := fsrvp.OpGetSupportedVersion; op.Valid(); op++ {
		req := fsrvp.NewRequest(op)
		var set fsrvp.SetID
		var share string
		fields := reflect.ValueOf(req).Elem()
		if f := fields.FieldByName("ShadowCopySetID"); f.IsValid() {
			set = fsrvp.NewSetID()
			f.Set(reflect.ValueOf(set))
			sets++
		}
		if f := fields.FieldByName("ShareName"); f.IsValid() {
			share = `\\fs1\` + op.String()
			f.SetString(share)
			shares++
		}
		require.Equal(t, set, transcript.SetOf(req), op)
		require.Equal(t, share, transcript.ShareOf(req), op)
	}
	require.Equal(t, 8, sets)
	require.Equal(t, 5, shares)
}
