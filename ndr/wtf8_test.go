package ndr

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNullStringJSON(t *testing.T) {
	for _, tt := range []struct {
		value NullString
		text  string
	}{
		{NullString{}, `null`},
		{StringOf(""), `""`},
		{StringOf(`\\FS01\"x"`), `"\\\\FS01\\\"x\""`},
		{StringOf("a\x01\n\u007fü\U0001F4BE\uFFFD"), "\"a\\u0001\\u000a\u007fü\U0001F4BE\uFFFD\""},
		{StringOf("\xed\xa0\xbdx"), `"\ud83dx"`},
		{StringOf("\xed\xb2\xbe"), `"\udcbe"`},
	} {
		text, err := json.Marshal(tt.value)
		require.NoError(t, err)
		require.Equal(t, tt.text, string(text))
		got := StringOf("before")
		require.NoError(t, json.Unmarshal(text, &got))
		require.Equal(t, tt.value, got)
	}
	// Where no surrogate is alone, the form is what the json package makes of a string.
	var n NullString
	require.NoError(t, json.Unmarshal([]byte(`"\/\b\f\n\r\t\"\\\u00fc\ud83d\udcbe\ud83d\n"`), &n))
	require.Equal(t, "/\b\f\n\r\t\"\\ü\U0001F4BE\xed\xa0\xbd\n", n.String)
}

func TestWTF8JSONErrors(t *testing.T) {
	_, err := WTF8("\xff").MarshalJSON()
	require.Error(t, err)
	for _, text := range []string{`5`, `{}`, `"`, ``, `"\x"`, `"\u12"`, `"\u12g4"`, `"\`} {
		var s WTF8
		require.Error(t, s.UnmarshalJSON([]byte(text)), text)
	}
	var n NullString
	require.Error(t, n.UnmarshalJSON([]byte(`5`)))
}
