package krb5

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fakeKCM answers the n-th request with what reply returns, and then ends the connection where it
// says so.
func fakeKCM(t testing.TB, reply func(n int, req []byte) (_ []byte, end bool)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kcm") // a short path
	require.NoError(t, err)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			for n := 0; ; n++ {
				size, err := c.Read(buf)
				if err != nil {
					break
				}
				out, end := reply(n, buf[:size])
				if c.Write(out); end {
					break
				}
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done; os.RemoveAll(dir) })
	return l.Addr().String()
}

// kcmReply has the transport's success, a code and results.
func kcmReply(code int32, results []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(4+len(results)))
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, results...)
}

// kcmScript is the replies about one cache with one ticket, whose file cacheOf has made.
func kcmScript(t testing.TB, path string) [][]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b = b[4:] // version, no header
	r := &ccacheReader{b: b}
	r.principal()
	require.False(t, r.bad)
	return [][]byte{
		kcmReply(0, []byte("0:default\x00")), kcmReply(0, b[:len(b)-len(r.b)]),
		kcmReply(0, bytes.Repeat([]byte{7}, kcmUUIDSize)), kcmReply(0, r.b),
	}
}

func TestKCM(t *testing.T) {
	script := kcmScript(t, cacheOf(t, time.Now().Add(time.Hour), time.Time{}))
	var asked []string
	socket := fakeKCM(t, func(n int, req []byte) ([]byte, bool) {
		asked = append(asked, string(req))
		return script[n], false
	})
	c, err := readKCM(t.Context(), socket, "")
	require.NoError(t, err)
	require.Equal(t, renewClient, c.client)
	require.Len(t, c.tickets, 1)
	require.Equal(t, renewService, c.tickets[0].Service)
	name := "0:default\x00"
	require.Equal(t, []string{
		"\x00\x00\x00\x04\x02\x00\x00\x14", "\x00\x00\x00\x0e\x02\x00\x00\x08" + name, "\x00\x00\x00\x0e\x02\x00\x00\x09" + name,
		"\x00\x00\x00\x1e\x02\x00\x00\x0a" + name + strings.Repeat("\x07", 16),
	}, asked)

	// What a manager may do instead, at each of the four replies.
	for n := range script {
		for what, tt := range map[string]struct {
			reply []byte
			text  string
		}{
			"nothing":                {nil, "reply"},
			"half a head":            {[]byte{0, 0, 0}, "reply"},
			"a failure":              {[]byte{0, 0, 0, 0, 0, 0, 0, 13}, "code 13"},
			"4 GiB":                  {[]byte{255, 255, 255, 255, 0, 0, 0, 0}, "malformed"},
			"no code":                {[]byte{0, 0, 0, 3, 0, 0, 0, 0, 1, 2, 3}, "malformed"},
			"less than it says":      {[]byte{0, 0, 0, 9, 0, 0, 0, 0, 1, 2, 3}, "reply"},
			"an error":               {kcmReply(5, nil), "code 5"},
			"no such cache":          {kcmReply(codeFCCNoFile, nil), kcmErrorText(n)},
			"no more":                {kcmReply(codeCCEnd, nil), kcmErrorText(n)},
			"results that are short": {kcmReply(0, []byte{1}), map[bool]string{true: "malformed", false: "cut short"}[n < 3]},
		} {
			t.Run(what, func(t *testing.T) {
				socket := fakeKCM(t, func(m int, _ []byte) ([]byte, bool) {
					if m != n {
						return script[m], false
					}
					return tt.reply, true
				})
				c, err := readKCM(t.Context(), socket, "")
				if tt.text == "" {
					require.NoError(t, err)
					require.Empty(t, c.tickets, "it was removed meanwhile")
					return
				}
				require.ErrorIs(t, err, ErrConfig, "reply %d", n)
				require.ErrorContains(t, err, tt.text)
				require.ErrorContains(t, err, "KCM:")
			})
		}
	}
	_, err = readKCM(t.Context(), filepath.Join(t.TempDir(), "none"), "x")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "start sssd-kcm")
}

// kcmErrorText is what the error says where the n-th reply has it that there is no such thing; "":
// there is none.
func kcmErrorText(n int) string {
	if n == 3 {
		return ""
	}
	return "run kinit"
}

// FuzzKCM gives what a cache manager says to the client.
func FuzzKCM(f *testing.F) {
	f.Add(bytes.Join(kcmScript(f, cacheOf(f, time.Now().Add(time.Hour), time.Time{})), nil))
	f.Add(bytes.Join([][]byte{kcmReply(0, []byte("x\x00")), kcmReply(codeFCCNoFile, nil)}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := (&kcm{&replies{r: bytes.NewReader(b)}}).cache("")
		if err == nil {
			require.NotEmpty(t, c.client.Name)
		}
	})
}

// replies are what a peer says, whatever it is asked.
type replies struct {
	net.Conn
	r *bytes.Reader
}

func (r *replies) Read(b []byte) (int, error)  { return r.r.Read(b) }
func (r *replies) Write(b []byte) (int, error) { return len(b), nil }
