package fsrvptest_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// What a relay does to a connection.
const (
	relayBreaks    = iota // both ends are closed
	relayTruncates        // one direction ends, as if its sender had closed it
	relaySwallows         // what follows in one direction is lost, and the connection stays
	relayDelays
	relayCorrupts // one byte is another one
	relayFaults
)

// A relay stands between a client and a server on TCP, and does something to one in twenty
// connections.
type relay struct {
	listener net.Listener
	server   func() net.Addr
	from     string // the address that the server sees

	mu     sync.Mutex
	rand   *rand.Rand
	count  int
	hit    func(fault int)
	closed sync.WaitGroup
}

const oneIn = 20

func newRelay(t *testing.T, from string, seed uint64, server func() net.Addr, hit func(fault int)) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &relay{listener: l, server: server, from: from, rand: rand.New(rand.NewPCG(seed, 1)), hit: hit}
	r.closed.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.closed.Go(func() { r.carry(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.closed.Wait()
	})
	return r
}

// A fault is done to a connection once, when so many bytes have gone in one direction.
type fault struct {
	kind       int
	fromServer bool
	after      int
}

// next returns the fault of a connection; nil: it has none.
func (r *relay) next() *fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rand.IntN(oneIn) != 0 {
		return nil
	}
	r.count++
	return &fault{r.rand.IntN(relayFaults), r.rand.IntN(2) == 0, r.rand.IntN(3000)}
}

func (r *relay) carry(client net.Conn) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(r.from)}}
	server, err := d.Dial("tcp", r.server().String())
	if err != nil {
		client.Close() // the server restarts
		return
	}
	f := r.next()
	both := func() {
		client.Close()
		server.Close()
	}
	var wg sync.WaitGroup
	for _, way := range []struct {
		to, from   net.Conn
		fromServer bool
	}{{server, client, false}, {client, server, true}} {
		wg.Go(func() {
			if f == nil || f.fromServer != way.fromServer {
				_, _ = io.Copy(way.to, way.from)
			} else {
				r.copy(way.to, way.from, f, both)
			}
			_ = way.to.(*net.TCPConn).CloseWrite()
		})
	}
	wg.Wait()
	both()
}

// copy carries one direction, with a fault.
func (r *relay) copy(to io.Writer, from io.Reader, f *fault, both func()) {
	if n, _ := io.CopyN(to, from, int64(f.after)); n < int64(f.after) {
		return // it was over before
	}
	one := make([]byte, 1)
	if _, err := io.ReadFull(from, one); err != nil {
		return
	}
	r.hit(f.kind)
	switch f.kind {
	case relayBreaks:
		both()
	case relayTruncates:
	case relaySwallows:
		_, _ = io.Copy(io.Discard, from)
	case relayDelays:
		time.Sleep(300 * time.Millisecond)
		_, _ = to.Write(one)
		_, _ = io.Copy(to, from)
	case relayCorrupts:
		one[0] ^= 0x55
		_, _ = to.Write(one)
		_, _ = io.Copy(to, from)
	}
}

// TestRelay runs all cases through relays that do something to one in twenty connections. No
// verdict changes but those of the cases that were hit. FSRVP_RELAY_ROUNDS is how often; once
// without it. With -short it takes one case of three.
func TestRelay(t *testing.T) {
	t.Parallel()
	rounds := uint64(1)
	if v := os.Getenv("FSRVP_RELAY_ROUNDS"); v != "" {
		n, err := strconv.ParseUint(v, 10, 32)
		require.NoError(t, err)
		rounds = n
	}
	for seed := range rounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			s := newServer(t, &fsrvptest.ServerConfig{Agent: agent.Config{Profile: profiles[seed%2]}, TCP: true})
			whole, err := s.Target(t.Context())
			require.NoError(t, err)
			cases := fsrvptest.Cases()
			if testing.Short() {
				n := 0
				cases = slices.DeleteFunc(cases, func(fsrvptest.Case) bool { n++; return n%3 != 0 })
			}
			want := verdicts(t, &whole, cases)

			var mu sync.Mutex
			current, hits := "", map[string][]int{}
			hit := func(kind int) {
				mu.Lock()
				defer mu.Unlock()
				hits[current] = append(hits[current], kind)
			}
			target := whole
			through := func(from, user string, level dcerpc.AuthLevel) fsrvp.Service {
				r := newRelay(t, from, seed<<8+uint64(level)+uint64(from[len(from)-1]), s.Addr, hit)
				cfg := fsrvp.Config{Level: level, CallTimeout: time.Second, Transport: &dcerpc.TCPDialer{
					Port: strconv.Itoa(r.listener.Addr().(*net.TCPAddr).Port),
				}}
				if user != "" {
					cfg.Auth = s.Realm.Initiator(user)
				}
				return fsrvptest.NewLine(func(ctx context.Context) (fsrvp.Service, error) {
					ctx, cancel := context.WithTimeout(ctx, time.Second)
					defer cancel()
					return fsrvp.Dial(ctx, "127.0.0.1", &fsrvp.Config{
						Auth: cfg.Auth, Level: cfg.Level, CallTimeout: cfg.CallTimeout, Transport: cfg.Transport, Target: "host/" + fsrvptest.ServerName,
					})
				})
			}
			target.Client = through("127.0.0.1", fsrvptest.Operator, dcerpc.LevelPrivacy)
			target.SameHost = through("127.0.0.1", fsrvptest.Operator, dcerpc.LevelIntegrity)
			target.Other = through("127.0.0.2", fsrvptest.Operator, dcerpc.LevelPrivacy)
			target.Unprivileged = through("127.0.0.3", fsrvptest.Nobody, dcerpc.LevelPrivacy)
			target.Levels = map[dcerpc.AuthLevel]fsrvp.Service{
				dcerpc.LevelInsecureNone: through("127.0.0.4", "", dcerpc.LevelInsecureNone),
				dcerpc.LevelPacket:       through("127.0.0.4", fsrvptest.Operator, dcerpc.LevelPacket),
			}
			target.BlockedWait, target.CaseTimeout = 5*time.Second, 5*time.Second
			require.NoError(t, target.Check(t.Context()))
			n := 0
			for _, c := range cases {
				mu.Lock()
				current = c.Name
				mu.Unlock()
				var res fsrvptest.Result
				var faults []int
				w := want[c.Name]
				for range 3 { // a call that takes longer than a second is given up, and on a busy machine any may
					res = c.Run(t.Context(), &target)
					mu.Lock()
					faults = hits[c.Name]
					mu.Unlock()
					if res.Verdict == w || len(faults) > 0 {
						break
					}
				}
				n += len(faults)
				if res.Verdict != w && len(faults) == 0 && target.Levels[levelOf(c.Name)] != nil {
					t.Errorf("%s was not hit, and its verdict is %v, not %v: %s\n%s", c.Name, res.Verdict, w,
						res.Reason, res.Did)
				}
				if len(faults) > 0 {
					t.Logf("%s: hit %v in %v, %v %s", c.Name, faults, res.Took.Round(time.Millisecond), res.Verdict,
						res.Reason)
				}
			}
			require.Greater(t, n, 3, "hits")
			require.Empty(t, s.Agent().Table(), "sets are left")
			require.Equal(t, want, verdicts(t, &whole, cases), "the server is not as it was")
		})
	}
}

// levelOf is the level that a case is about; that of the others is one that all targets have.
func levelOf(name string) dcerpc.AuthLevel {
	switch name {
	case "Access/Level/CONNECT":
		return dcerpc.LevelInsecureConnect
	case "Access/Level/CALL":
		return dcerpc.LevelInsecureCall
	}
	return dcerpc.LevelPacket
}

// verdicts runs cases.
func verdicts(t *testing.T, target *fsrvptest.Target, cases []fsrvptest.Case) map[string]fsrvptest.Verdict {
	t.Helper()
	all := map[string]fsrvptest.Verdict{}
	for _, c := range cases {
		all[c.Name] = c.Run(t.Context(), target).Verdict
	}
	return all
}
