package capture

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A wiretap is a dcerpc.Dialer that writes what its connections carry into a pcap file, as the
// packets of TCP connections.
type wiretap struct {
	dcerpc.Dialer

	port layers.TCPPort // of the server

	mu    sync.Mutex
	w     *pcapgo.Writer
	conns int
}

func newWiretap(t *testing.T, file *bytes.Buffer, d dcerpc.Dialer) *wiretap {
	w := pcapgo.NewWriterNanos(file)
	require.NoError(t, w.WriteFileHeader(65535, layers.LinkTypeEthernet))
	return &wiretap{Dialer: d, port: 49152, w: w}
}

func (w *wiretap) DialRPC(ctx context.Context, server, endpoint string) (net.Conn, error) {
	conn, err := w.Dialer.DialRPC(ctx, server, endpoint)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns++
	t := &tapped{Conn: conn, w: w, port: layers.TCPPort(40000 + w.conns), seq: [2]uint32{1000, 2000}}
	for _, flags := range []layers.TCP{{SYN: true}, {SYN: true, ACK: true}, {ACK: true}} {
		from := 0
		if flags.SYN && flags.ACK {
			from = 1
		}
		if err := t.packet(from, flags, nil); err != nil {
			return nil, err
		}
		if flags.SYN {
			t.seq[from]++
		}
	}
	return t, nil
}

// A tapped connection notes what it reads and writes.
type tapped struct {
	net.Conn
	w    *wiretap
	port layers.TCPPort
	seq  [2]uint32 // of the client, of the server
}

func (t *tapped) Write(b []byte) (int, error) {
	if err := t.note(0, b, nil); err != nil { // first: the answer comes quickly
		return 0, err
	}
	return t.Conn.Write(b)
}

func (t *tapped) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	return n, t.note(1, b[:n], err)
}

// note writes a packet for each 1400 bytes.
func (t *tapped) note(from int, b []byte, err error) error {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	for len(b) > 0 {
		n := min(len(b), 1400)
		if err := t.packet(from, layers.TCP{ACK: true, PSH: true}, b[:n]); err != nil {
			return err
		}
		t.seq[from] += uint32(n)
		b = b[n:]
	}
	return err
}

func (t *tapped) packet(from int, tcp layers.TCP, data []byte) error {
	ends := [2]net.IP{net.IPv4(10, 0, 0, 1), net.IPv4(10, 0, 0, 2)}
	ports := [2]layers.TCPPort{t.port, t.w.port}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: ends[from], DstIP: ends[1-from]}
	tcp.SrcPort, tcp.DstPort, tcp.Seq, tcp.Window = ports[from], ports[1-from], t.seq[from], 65535
	if tcp.ACK {
		tcp.Ack = t.seq[1-from]
	}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		return err
	}
	buf := gopacket.NewSerializeBuffer()
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2},
		EthernetType: layers.EthernetTypeIPv4}
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		eth, ip, &tcp, gopacket.Payload(data)); err != nil {
		return err
	}
	return t.w.w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: len(buf.Bytes()),
		Length: len(buf.Bytes())}, buf.Bytes())
}

// TestOwnTraffic captures our own client and server, and has tshark, which knows the service's
// keys, read what was said. It has to unseal and dissect all of it, as we do ourselves.
func TestOwnTraffic(t *testing.T) {
	needTshark(t)
	server, err := fsrvptest.NewServer(&fsrvptest.ServerConfig{TCP: true})
	require.NoError(t, err)
	defer server.Close()
	dir := t.TempDir()
	keytab := filepath.Join(dir, "keytab")
	b, err := server.Realm.Keytab().AppendBinary(nil)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(keytab, b, 0o600))

	for _, level := range []dcerpc.AuthLevel{dcerpc.LevelIntegrity, dcerpc.LevelPrivacy} {
		for _, syntax := range []ndr.Syntax{ndr.NDR20, ndr.NDR64, ndr.NDR20BE} {
			t.Run(fmt.Sprintf("level %d, %v", level, syntax), func(t *testing.T) {
				if testing.Short() && (level == dcerpc.LevelPrivacy) != (syntax == ndr.NDR20) {
					t.Skip("tshark takes a second for each; each level and each syntax has one")
				}
				var pcap bytes.Buffer
				cfg := server.ClientConfig(fsrvptest.Operator)
				cfg.Transport, cfg.Level, cfg.Syntaxes = newWiretap(t, &pcap,
					cfg.Transport), level, []ndr.Syntax{syntax}
				c, err := fsrvp.Dial(t.Context(), fsrvptest.ServerName, cfg)
				require.NoError(t, err)
				const calls = 13
				lifeCycle(t, c)
				require.NoError(t, c.Close())
				file := filepath.Join(dir, fmt.Sprintf("%d-%v.pcap", level, syntax))
				require.NoError(t, os.WriteFile(file, pcap.Bytes(), 0o600))

				got := tsharkReadings(t, file, "-K", keytab, "-o", "kerberos.decrypt:TRUE")
				keys, err := krb5.LoadKeytab(keytab)
				require.NoError(t, err)
				ours, sum := decode(t, file, &Config{Keytab: keys})
				require.Len(t, ours, calls)
				require.Zero(t, sum.Unreadable)
				require.Zero(t, sum.Unanswered)
				if syntax != ndr.NDR64 { // tshark dissects no NDR64 stub of FSRVP
					require.Equal(t, got, readings(t, ours))
				}
				out, err := exec.Command("tshark", "-r", file, "-K", keytab, "-o", "kerberos.decrypt:TRUE", "-Y",
					"_ws.malformed").CombinedOutput()
				require.NoError(t, err, string(out))
				require.NotContains(t, string(out), "10.0.0.", "malformed packets")
			})
		}
	}
}

// lifeCycle calls each method once.
func lifeCycle(t *testing.T, c *fsrvp.Client) {
	t.Helper()
	ctx, share := t.Context(), `\\`+fsrvptest.ServerName+`\share`
	_, err := c.GetSupportedVersion(ctx)
	require.NoError(t, err)
	_, err = c.IsPathSupported(ctx, share)
	require.NoError(t, err)
	require.NoError(t, c.SetContext(ctx, fsrvp.ContextBackup))
	set, err := c.StartShadowCopySet(ctx, fsrvp.NewSetID())
	require.NoError(t, err)
	id, err := c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, share)
	require.NoError(t, err)
	require.NoError(t, c.PrepareShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, c.CommitShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, c.ExposeShadowCopySet(ctx, set, time.Minute))
	_, err = c.GetShareMapping(ctx, id, set, share, 1)
	require.NoError(t, err)
	_, err = c.IsPathShadowCopied(ctx, share)
	require.NoError(t, err)
	require.NoError(t, c.RecoveryCompleteShadowCopySet(ctx, set))
	require.ErrorIs(t, c.AbortShadowCopySet(ctx, set), fsrvp.ErrBadState)
	require.NoError(t, c.DeleteShareMapping(ctx, set, id, share))
}
