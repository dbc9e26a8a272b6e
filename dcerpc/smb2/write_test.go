package smb2

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWriteFile makes a file, gives it other content, and meets a server that refuses.
func TestWriteFile(t *testing.T) {
	s := newTestServer()
	s.hook = func(c *testConn, h Header, msg []byte) bool {
		switch h.Command {
		case CommandCreate:
			q, err := ParseCreateRequest(msg)
			if err != nil || q.Disposition != dispositionOverwriteIf {
				return false
			}
			if q.Name == "refused" {
				c.reply(h, StatusAccessDenied, nil)
				return true
			}
			s.files[q.Name] = []byte{}
			return false
		case CommandWrite:
			q, err := ParseWriteRequest(msg)
			if err != nil || q.Offset != 0 || c.file(q.ID) == nil {
				c.reply(h, StatusInvalidParameter, nil)
				return true
			}
			s.files["made"] = append([]byte{}, q.Data...)
			c.reply(h, StatusSuccess, &WriteResponse{Count: uint32(len(q.Data))})
			return true
		}
		return false
	}
	_, tree := s.dial(t, s.config())
	for _, content := range []string{"first", "", "the second content"} {
		require.NoError(t, tree.WriteFile(t.Context(), "made", []byte(content)))
		got, err := tree.ReadFile(t.Context(), "made", nil, -1)
		require.NoError(t, err)
		require.Equal(t, content, string(got))
	}
	require.ErrorIs(t, tree.WriteFile(t.Context(), "refused", nil), StatusAccessDenied)
	require.ErrorContains(t, tree.WriteFile(t.Context(), "made", make([]byte, creditSize+1)), "65537 bytes")
}
