package fsrvptest_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5/krb5test"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// memoryServer makes a process of the test's binary a server: with all the default "limits", or
// with those of "bytes" alone.
const memoryServer = "FSRVP_TEST_MEMORY_SERVER"

// usage is what a server in a process of its own has in use, in bytes.
type usage struct{ Heap, Stacks, RSS int64 }

// greeting is what it says first.
type greeting struct {
	Addr   string
	Etype  int
	Key    string
	Ticket string
}

// serveForMemory serves MS-FSRVP with an agent until standard input ends, and answers each line
// with its usage.
func serveForMemory() error {
	realm := krb5test.NewRealm("FSRVP.TEST", krb5.Etype(0))
	realm.AddService("host/fs1")
	realm.AddUser("backup", dcerpc.SIDBuiltinBackupOperators)
	dir, err := os.MkdirTemp("", "fsrvp-memory-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	mem := fsrvptest.NewMemory()
	a, err := agent.New(context.Background(), &agent.Config{Snapshots: mem.Snapshots, Shares: mem.Shares,
		StorePath: dir + "/agent.db", Names: []string{"fs1"}})
	if err != nil {
		return err
	}
	defer a.Close()
	kerberos := realm.Acceptor("host/fs1")
	nt, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: nobody{}, ComputerName: "FS1"})
	if err != nil {
		return err
	}
	negotiate, err := spnego.NewAcceptor(kerberos, nt)
	if err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	srv := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{kerberos, nt, negotiate}, Logger: quiet}
	if os.Getenv(memoryServer) == "bytes" { // 2,000 of one address are more than are let in
		srv.Limits = dcerpc.Limits{Connections: -1, ConnectionsPerAddress: -1, UnauthenticatedConnections: -1,
			BindTime: -1}
	}
	fsrvp.Register(srv, a, &fsrvp.HandlerConfig{Logger: quiet})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go srv.Serve(l)
	defer srv.Close()
	ticket, err := realm.Ticket("backup", "host/fs1", nil)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(greeting{l.Addr().String(), int(ticket.SessionKey.Etype),
		hex.EncodeToString(ticket.SessionKey.Value), hex.EncodeToString(ticket.Raw)}); err != nil {
		return err
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		u := usage{RSS: rss()} // first as it is, with what the collector has not given back
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		u.Heap, u.Stacks = int64(m.HeapInuse), int64(m.StackInuse)
		if err := out.Encode(u); err != nil {
			return err
		}
	}
	return nil
}

type nobody struct{}

func (nobody) Verify(context.Context, *ntlm.Challenge) (*ntlm.Result, error) {
	return nil, ntlm.ErrLogonFailure
}

// rss is the memory that the process has in RAM.
func rss() int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return -1
			}
			return kib << 10
		}
	}
	return -1
}

// A process is a server in a process of its own.
type process struct {
	in   io.Writer
	out  *json.Decoder
	addr string
	auth dcerpc.Initiator
}

type oneTicket struct{ t *krb5.Ticket }

func (o oneTicket) Ticket(context.Context, string) (*krb5.Ticket, error) {
	t := *o.t
	return &t, nil
}

// serverBinary returns the test's binary, or, since the race detector needs memory of its own, one
// without it.
func serverBinary(t *testing.T) string {
	t.Helper()
	if !raceDetector {
		exe, err := os.Executable()
		require.NoError(t, err)
		return exe
	}
	exe := filepath.Join(t.TempDir(), "server.test")
	out, err := exec.Command("go", "test", "-c", "-o", exe, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return exe
}

func startProcess(t *testing.T, limits string) *process {
	t.Helper()
	cmd := exec.Command(serverBinary(t))
	cmd.Env = append(os.Environ(), memoryServer+"="+limits)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		require.NoError(t, cmd.Wait())
	})
	p := &process{in: in, out: json.NewDecoder(out)}
	var g greeting
	require.NoError(t, p.out.Decode(&g))
	key, err := hex.DecodeString(g.Key)
	require.NoError(t, err)
	raw, err := hex.DecodeString(g.Ticket)
	require.NoError(t, err)
	p.addr = g.Addr
	p.auth = krb5.NewInitiator(oneTicket{&krb5.Ticket{
		Client:     krb5.Principal{Name: []string{"backup"}, Realm: "FSRVP.TEST"},
		Service:    krb5.Principal{Name: []string{"host", "fs1"}, Realm: "FSRVP.TEST"},
		SessionKey: krb5.Key{Etype: krb5.Etype(g.Etype), Value: key}, EndTime: time.Now().Add(time.Hour), Raw: raw,
	}}, nil)
	return p
}

func (p *process) usage(t *testing.T) usage {
	t.Helper()
	_, err := fmt.Fprintln(p.in)
	require.NoError(t, err)
	var u usage
	require.NoError(t, p.out.Decode(&u))
	return u
}

func (p *process) connect(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

type dialed struct{ net.Conn }

func (d dialed) DialRPC(context.Context, string, string) (net.Conn, error) { return d.Conn, nil }

func bindPDU(trailer pdu.Auth) *pdu.Bind {
	return &pdu.Bind{
		Header: pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 1}, MaxXmit: 5840, MaxRecv: 5840,
		Contexts: []pdu.ContextElement{{Abstract: fsrvp.Interface(),
			Transfer: []pdu.SyntaxID{pdu.NDR20()}}}, Auth: trailer,
	}
}

// answered sends a PDU and waits for a bind_ack.
func answered(t *testing.T, c net.Conn, p pdu.PDU) {
	t.Helper()
	b, err := p.AppendBinary(nil)
	require.NoError(t, err)
	_, err = c.Write(b)
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(30*time.Second)))
	head := make([]byte, pdu.HeaderSize)
	_, err = io.ReadFull(c, head)
	require.NoError(t, err)
	h, err := pdu.ParseHeader(head)
	require.NoError(t, err)
	require.Equal(t, pdu.TypeBindAck, h.Type)
	_, err = io.CopyN(io.Discard, c, int64(h.FragLength)-pdu.HeaderSize)
	require.NoError(t, err)
}

// TestMemoryOfConnections holds what a connection costs a server, in each state that a peer can
// leave it in.
func TestMemoryOfConnections(t *testing.T) {
	for _, test := range []struct {
		state string
		n     int
		limit int64 // bytes for each
		open  func(t *testing.T, p *process)
	}{
		{"silent", 1000, 6 << 10, func(t *testing.T, p *process) { p.connect(t) }},
		{"anonymous bind", 1000, 8 << 10, func(t *testing.T, p *process) { answered(t, p.connect(t), bindPDU(pdu.Auth{})) }},
		{"open NTLM challenge", 1000, 10 << 10, func(t *testing.T, p *process) {
			i, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "A", User: "b", Password: "c"})
			require.NoError(t, err)
			x, err := i.NewContext("host/fs1", dcerpc.LevelPrivacy)
			require.NoError(t, err)
			token, _, err := x.Step(t.Context(), nil)
			require.NoError(t, err)
			answered(t, p.connect(t), bindPDU(pdu.Auth{Type: uint8(dcerpc.AuthNTLM), Level: uint8(dcerpc.LevelPrivacy),
				ContextID: 1, Token: token}))
		}},
		{"unfinished PDU", 2000, 16 << 10, func(t *testing.T, p *process) {
			b := make([]byte, 40000)
			copy(b, []byte{5, 0, 11, 3, 0x10, 0, 0, 0, 0xFF, 0xFF, 0, 0, 1, 0, 0, 0})
			_, err := p.connect(t).Write(b)
			require.NoError(t, err)
		}},
		{"sealed, idle", 1000, 20 << 10, func(t *testing.T, p *process) {
			c, err := fsrvp.Dial(t.Context(), "fs1", &fsrvp.Config{Transport: dialed{p.connect(t)}, Auth: p.auth})
			require.NoError(t, err)
			_, err = c.GetSupportedVersion(t.Context())
			require.NoError(t, err)
		}},
	} {
		t.Run(test.state, func(t *testing.T) {
			p := startProcess(t, "bytes")
			for range 50 { // what the first ones cost all share
				test.open(t, p)
			}
			before := p.settled(t)
			for range test.n {
				test.open(t, p)
			}
			after := p.settled(t)
			each := (after.Heap + after.Stacks - before.Heap - before.Stacks) / int64(test.n)
			t.Logf("%d bytes of heap and stack each", each)
			require.LessOrEqual(t, each, test.limit)
			require.Positive(t, each)
		})
	}
}

// settled is the usage when the server has seen to all that was sent: when it does not change any
// more.
func (p *process) settled(t *testing.T) usage {
	t.Helper()
	last := p.usage(t)
	for range 100 {
		time.Sleep(50 * time.Millisecond)
		u := p.usage(t)
		if d := u.Heap + u.Stacks - last.Heap - last.Stacks; d > -64<<10 && d < 64<<10 {
			return u
		}
		last = u
	}
	t.Fatal("the server's memory does not settle")
	return last
}

// TestMemoryOfBesiegedAgent holds what four addresses, with 128 connections each, can make the
// process of an agent take.
func TestMemoryOfBesiegedAgent(t *testing.T) {
	p := startProcess(t, "limits")
	alone := p.usage(t).RSS
	if alone < 0 {
		t.Skip("only Linux says in /proc what a process has in RAM")
	}
	for i := range 512 {
		besiege(t, p.addr, fmt.Sprintf("127.0.0.%d", 1+i%4), i/4)
	}
	most := p.usage(t).RSS
	for range 20 {
		time.Sleep(20 * time.Millisecond)
		most = max(most, p.usage(t).RSS)
	}
	t.Logf("RSS %d KiB, alone %d KiB", most>>10, alone>>10)
	require.Less(t, most, int64(64<<20))
}
