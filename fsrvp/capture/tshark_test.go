package capture

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture/internal/smb2"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A reading is one request or response as tshark reads it, or as we do.
type reading struct {
	Frame     uint64            `json:"frame"`
	Time      string            `json:"time"` // seconds since 1970, with nine decimals
	From      string            `json:"from"`
	To        string            `json:"to"`
	Response  bool              `json:"response"`
	CallID    uint32            `json:"call_id"`
	Opnum     uint16            `json:"opnum"`
	BigEndian bool              `json:"big_endian,omitempty"`
	AuthType  uint8             `json:"auth_type,omitempty"`
	AuthLevel uint8             `json:"auth_level,omitempty"`
	Status    string            `json:"status,omitempty"`
	Fields    map[string]string `json:"fields"`
}

// noTshark are the captures that tshark 4.0 cannot decrypt: AES-256, and NTLM without a password.
// TestEncrypted has them.
func noTshark(r recording) bool {
	switch r.name()[:2] {
	case "15", "16", "18":
		return true
	}
	return false
}

// TestKeptReadings compares every call, field by field, with what tshark read when the captures
// were made.
func TestKeptReadings(t *testing.T) {
	for _, r := range recordings(t) {
		if noTshark(r) {
			continue
		}
		t.Run(r.name(), func(t *testing.T) {
			b, err := os.ReadFile("testdata/tshark/" + r.name() + ".json")
			require.NoError(t, err)
			var want []reading
			require.NoError(t, json.Unmarshal(b, &want))
			calls, sum := decode(t, r.file, &Config{Keytab: r.keys(t)})
			require.Equal(t, want, readings(t, calls))
			require.Zero(t, sum.Unreadable)
			require.Zero(t, sum.Unanswered)
		})
	}
}

// TestTshark compares them with what tshark reads now, and with -update keeps that.
func TestTshark(t *testing.T) {
	needTshark(t)
	for i, r := range recordings(t) {
		if noTshark(r) {
			continue
		}
		t.Run(r.name(), func(t *testing.T) {
			if testing.Short() && i%4 != 0 {
				t.Skip("tshark takes half a second for each; what it read is in testdata, for another test")
			}
			got := tsharkReadings(t, r.file, "-K", r.keytab, "-o", "kerberos.decrypt:TRUE", "-o", sessionKeys(t, r))
			calls, _ := decode(t, r.file, &Config{Keytab: r.keys(t)})
			require.Equal(t, got, readings(t, calls))
			if *update {
				b, err := json.MarshalIndent(got, "", "\t")
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(filepath.Join("testdata/tshark", r.name()+".json"), append(b, '\n'),
					0o644))
			}
		})
	}
}

// needTshark skips the test where there is no tshark.
func needTshark(t testing.TB) {
	if _, err := exec.LookPath("tshark"); err != nil {
		if os.Getenv("FSRVP_PEERS") == "require" {
			t.Fatal("FSRVP_PEERS=require, and there is no tshark")
		}
		t.Skip("tshark is not installed (Debian: apt install tshark)")
	}
}

// sessionKeys returns the preference that gives tshark the keys of SMB sessions, which it does not
// take out of Kerberos by itself.
func sessionKeys(t *testing.T, r recording) string {
	f, err := os.Open(r.file)
	require.NoError(t, err)
	defer f.Close()
	file, err := openFile(f)
	require.NoError(t, err)
	d := newDecoder((&Config{Keytab: r.keys(t)}).withDefaults())
	id, key := uint64(1), make([]byte, 16)
	for {
		b, ci, link, err := file.next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		d.packet(b, ci, link)
		for _, s := range d.sessions {
			if s.encrypted {
				id, key = s.key.id, s.handshake.sessionKey()[:16]
			}
		}
	}
	return fmt.Sprintf(`uat:smb2_seskey_list:%x,%x,"",""`, binary.LittleEndian.AppendUint64(nil, id), key)
}

// tsharkReadings runs tshark.
func tsharkReadings(t testing.TB, file string, args ...string) []reading {
	var out, stderr bytes.Buffer
	cmd := exec.Command("tshark", append([]string{"-r", file, "-Y", "fsrvp", "-T", "json"}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	require.NoError(t, cmd.Run(), stderr.String())
	var packets []struct {
		Source struct{ Layers map[string]any } `json:"_source"`
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &packets))
	list := []reading{}
	for _, p := range packets {
		list = append(list, tsharkReading(t, flatten(p.Source.Layers)))
	}
	return list
}

// flatten returns all leaves of a tree by their names.
func flatten(tree map[string]any) map[string]string {
	leaves := make(map[string]string)
	var walk func(map[string]any)
	walk = func(m map[string]any) {
		for k, v := range m {
			switch v := v.(type) {
			case map[string]any:
				walk(v)
			case string:
				leaves[k] = v
			}
		}
	}
	walk(tree)
	return leaves
}

func tsharkReading(t testing.TB, f map[string]string) reading {
	number := func(name string) uint64 {
		if f[name] == "" {
			return 0
		}
		n, err := strconv.ParseUint(f[name], 0, 64)
		require.NoError(t, err, name)
		return n
	}
	r := reading{
		Frame:     number("frame.number"),
		Time:      f["frame.time_epoch"],
		From:      f["ip.src"] + ":" + f["tcp.srcport"],
		To:        f["ip.dst"] + ":" + f["tcp.dstport"],
		Response:  number("dcerpc.pkt_type") == 2,
		CallID:    uint32(number("dcerpc.cn_call_id")),
		Opnum:     uint16(number("fsrvp.opnum")),
		BigEndian: f["dcerpc.drep.byteorder"] == "0",
		AuthType:  uint8(number("dcerpc.auth_type")),
		AuthLevel: uint8(number("dcerpc.auth_level")),
		Status:    f["fsrvp.status"],
		Fields:    make(map[string]string),
	}
	for k, v := range f {
		name, ours := strings.CutPrefix(k, "fsrvp.")
		_, name, parameter := strings.Cut(name, ".")
		if !ours || !parameter || name == "ShareMapping" || name == "ShareMapping1" {
			continue
		}
		if name == "tstamp" {
			at, err := time.Parse("Jan _2, 2006 15:04:05.000000000 MST", v)
			require.NoError(t, err)
			stamp, err := fsrvp.FiletimeOf(at)
			require.NoError(t, err)
			name, v = "CreationTimestamp", strconv.FormatInt(int64(stamp), 10)
		}
		r.Fields[name] = v
	}
	return r
}

// readings returns calls as tshark shows them.
func readings(t testing.TB, calls []*Call) []reading {
	list := []reading{}
	for _, c := range calls {
		require.NoError(t, c.RequestErr)
		require.NoError(t, c.ResponseErr)
		req := reading{
			Frame:     c.Packet,
			Time:      epoch(c.Time),
			From:      c.Client.String(),
			To:        c.Server.String(),
			CallID:    c.CallID,
			Opnum:     uint16(c.Opnum),
			BigEndian: c.Syntax == ndr.NDR20BE,
			AuthType:  uint8(c.Peer.AuthType),
			Fields:    fields(t, c.Request),
		}
		if c.Peer.AuthType != 0 {
			req.AuthLevel = uint8(c.Peer.Level)
		}
		resp := req
		resp.Frame, resp.Time = c.ResponsePacket, epoch(c.ResponseTime)
		resp.From, resp.To = req.To, req.From
		resp.Response = true
		resp.BigEndian = c.ResponseSyntax == ndr.NDR20BE
		resp.Fields = fields(t, c.Response)
		delete(resp.Fields, "Level") // the union's discriminant, which tshark does not show
		resp.Status = fmt.Sprintf("0x%08x", uint32(c.Response.Status()))
		list = append(list, req, resp)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Frame < list[j].Frame })
	return list
}

func epoch(at time.Time) string { return fmt.Sprintf("%d.%09d", at.Unix(), at.Nanosecond()) }

// fields returns the leaves of a message's JSON form, without what it returns. NULL has none.
func fields(t testing.TB, m fsrvp.Message) map[string]string {
	b, err := json.Marshal(m)
	require.NoError(t, err)
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var tree map[string]any
	require.NoError(t, d.Decode(&tree))
	var walk func(map[string]any)
	walk = func(m map[string]any) {
		for k, v := range m {
			switch v := v.(type) {
			case json.Number:
				m[k] = v.String()
			case map[string]any:
				walk(v)
			}
		}
	}
	walk(tree)
	leaves := flatten(tree)
	delete(leaves, "Return")
	return leaves
}

// TestEncrypted has the calls of the captures that SMB 3 encrypts, as rpcclient printed their
// results.
func TestEncrypted(t *testing.T) {
	for _, tt := range []struct {
		number  string
		dialect uint16
		cipher  smb2.Cipher
		level   uint8
	}{
		{"13", smb2.Dialect311, smb2.AES128GCM, 1},
		{"14", smb2.Dialect300, smb2.AES128CCM, 1},
		{"15", smb2.Dialect311, smb2.AES256GCM, 1},
		{"16", smb2.Dialect311, smb2.AES256CCM, 6},
	} {
		t.Run(tt.number, func(t *testing.T) {
			r := find(t, tt.number)
			dialect, cipher := negotiated(t, r)
			require.Equal(t, tt.dialect, dialect)
			require.Equal(t, tt.cipher, cipher)

			calls, sum := decode(t, r.file, &Config{Keytab: r.keys(t)})
			require.Empty(t, sum.Problems)
			require.Len(t, calls, 2)
			for _, c := range calls {
				require.NoError(t, c.Err())
				require.True(t, c.Peer.SessionEncrypted)
				require.Equal(t, "backup@FSRVP.TEST", c.User())
				require.Equal(t, tt.level, uint8(c.Peer.Level))
				require.Equal(t, fsrvp.PipeName, c.Pipe)
			}
			require.Equal(t, &fsrvp.GetSupportedVersionResponse{MinVersion: 1, MaxVersion: 1}, calls[0].Response)
			require.Equal(t, &fsrvp.IsPathSupportedRequest{ShareName: `\\FS.FSRVP.TEST\fsrvp_share\`}, calls[1].Request)
			require.Equal(t, &fsrvp.IsPathSupportedResponse{
				SupportedByThisProvider: 1,
				OwnerMachineName:        ndr.NullString{String: "FS", Valid: true},
			}, calls[1].Response)

			// Without the key there is nothing to see but that.
			calls, sum = decode(t, r.file, nil)
			require.Empty(t, calls)
			require.Len(t, sum.Problems, 1)
			require.Equal(t, ErrEncrypted, sum.Problems[0].Reason)
			require.Contains(t, sum.Problems[0].String(), "no keytab was given")

			// Another domain's keys are no use either.
			calls, sum = decode(t, r.file, &Config{Keytab: recordings(t)[0].keys(t)})
			require.Empty(t, calls)
			require.Equal(t, ErrKey, sum.Problems[0].Reason)
		})
	}
}

// negotiated returns what the first connection of a capture speaks.
func negotiated(t *testing.T, r recording) (dialect uint16, cipher smb2.Cipher) {
	f, err := os.Open(r.file)
	require.NoError(t, err)
	defer f.Close()
	file, err := openFile(f)
	require.NoError(t, err)
	for {
		b, _, _, err := file.next()
		require.NoError(t, err)
		i := bytes.Index(b, []byte(smb2.Magic))
		if i < 0 {
			continue
		}
		if h, ok := smb2.ParseHeader(b[i:]); ok && h.IsResponse() && h.Command == smb2.Negotiate {
			n, ok := smb2.ParseNegotiateResponse(b[i:])
			require.True(t, ok)
			return uint16(n.Dialect), n.Cipher
		}
	}
}

// TestUsers checks who is said to have called, with the server's keytab and without.
func TestUsers(t *testing.T) {
	for _, tt := range []struct {
		number, user, without string
		mechanism             string
	}{
		{"01", "backup@FSRVP.TEST", "", "krb5"},
		{"02", "backup@FSRVP.TEST", "", "krb5"},
		{"03", "backup@FSRVP.TEST", "", "krb5"},
		{"05", `FSRVP\backup`, `FSRVP\backup`, "ntlm"},
		{"06", `FSRVP\nobody1`, `FSRVP\nobody1`, "ntlm"},
		{"07", `FSRVP\Administrator`, `FSRVP\Administrator`, "ntlm"},
		{"12", "", "", ""},
		{"17", "backup@FSRVP.TEST", "", "krb5"},
		{"18", `FSRVP\backup`, `FSRVP\backup`, "ntlm"},
	} {
		t.Run(tt.number, func(t *testing.T) {
			r := find(t, tt.number)
			calls, _ := decode(t, r.file, &Config{Keytab: r.keys(t)})
			require.NotEmpty(t, calls)
			for _, c := range calls {
				require.Equal(t, tt.user, c.User())
				require.Equal(t, tt.mechanism, c.Peer.Mechanism)
				require.Equal(t, c.Client.String(), c.Peer.Addr.String())
			}
			calls, _ = decode(t, r.file, nil)
			for _, c := range calls {
				require.Equal(t, tt.without, c.User())
				require.Equal(t, tt.mechanism, c.Peer.Mechanism)
			}
		})
	}
}

// TestSealed checks what is left of calls whose stubs cannot be read.
func TestSealed(t *testing.T) {
	for number, why := range map[string]string{"03": "no keytab was given", "17": "no keytab was given",
		"18": "it is from NTLM"} {
		t.Run(number, func(t *testing.T) {
			calls, sum := decode(t, find(t, number).file, nil)
			require.NotEmpty(t, calls)
			require.EqualValues(t, len(calls), sum.Unreadable)
			for _, c := range calls {
				require.ErrorIs(t, c.RequestErr, ErrSealed)
				require.ErrorIs(t, c.ResponseErr, ErrSealed)
				require.ErrorContains(t, c.RequestErr, why)
				require.Nil(t, c.Request)
				require.Nil(t, c.RequestStub)
				require.True(t, c.Opnum.Valid())
				require.True(t, c.Answered())
				require.Equal(t, dcerpc.LevelPrivacy, c.Peer.Level)
			}
		})
	}
	// A keytab of other keys says so.
	calls, sum := decode(t, find(t, "03").file, &Config{Keytab: find(t, "17").keys(t)})
	require.ErrorIs(t, calls[0].RequestErr, ErrKey)
	require.Equal(t, ErrKey, sum.Problems[0].Reason)
}
