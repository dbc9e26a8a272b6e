package backend

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOwner(t *testing.T) {
	a, b, c := NewOwner("host /state"), NewOwner("host /state"), NewOwner("host /other")
	require.NotEqual(t, a, b, "each state has an id of its own")
	require.True(t, a.SamePlace(b))
	require.False(t, a.SamePlace(c))
	require.False(t, Owner{}.SamePlace(Owner{}), "nobody is nowhere")
	require.Equal(t, byte('8'), a.String()[14], "a UUID of version 8")
	require.Contains(t, "89ab", string(a.String()[19]))
	require.True(t, Owner{}.IsZero())
	require.False(t, a.IsZero())

	text, err := json.Marshal(a)
	require.NoError(t, err)
	var read Owner
	require.NoError(t, json.Unmarshal(text, &read))
	require.Equal(t, a, read)
	for _, bad := range []string{`""`, `"{` + a.String() + `}"`, `"urn:uuid:` + a.String() + `"`, `"0"`} {
		require.Error(t, json.Unmarshal([]byte(bad), &read), bad)
	}
}

func TestMark(t *testing.T) {
	owner := NewOwner("host /state")
	for _, m := range []Mark{{}, {Owner: owner}, {owner, 1}, {owner, math.MaxUint64}, {Sequence: 7}} {
		got, err := ParseMark(m.String())
		require.NoError(t, err)
		require.Equal(t, m, got)
		require.LessOrEqual(t, len(m.String()), 57)
	}
	require.Empty(t, Mark{}.String())
	for _, bad := range []string{"x", owner.String() + ".", owner.String() + ".0", owner.String() + ".01",
		owner.String() + ".+1", owner.String() + ".1.2", " " + owner.String(), Owner{}.String()} {
		_, err := ParseMark(bad)
		require.Error(t, err, bad)
	}
	require.True(t, Mark{Owner: owner, Sequence: 3}.Allows(owner))
	require.True(t, Mark{}.Allows(owner), "what was made before there were marks")
	require.False(t, Mark{Owner: owner}.Allows(NewOwner("host /state")))
	require.False(t, Mark{Owner: owner}.Allows(Owner{}))
}

func FuzzParseMark(f *testing.F) {
	f.Add("")
	f.Add("00112233-4455-8677-8899-aabbccddeeff.42")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMark(s)
		if err == nil && m.String() != s {
			t.Fatalf("%q is read as %q", s, m)
		}
	})
}
