package interop

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/sharefs"
)

// benchRounds is how often both programs are timed, in turn; the medians are compared.
const benchRounds = 5

// smbClientTime runs Samba's smbclient on the client's host, and returns how long it took, its
// log-in included.
func smbClientTime(b *testing.B, n *peers.Network, share string, args []string, command string) time.Duration {
	b.Helper()
	u := n.User("backup")
	all := append([]string{"//nas.fsrvp.test/" + share, "-U", peers.Domain + `\` + u.Name + "%" + u.Password, "-c",
		command}, args...)
	start := time.Now()
	out, err := n.Host("cl").Command(b.Context(), "smbclient", all...).CombinedOutput()
	elapsed := time.Since(start)
	require.NoError(b, err, "%s", out)
	return elapsed
}

// BenchmarkSMBRead reads a file of 256 MiB from Samba over the network of the test, with this
// module and with smbclient in turn, each with its log-in. It gives the median MB/s of both, and
// ours as a multiple of smbclient's when that signs by GMAC. The aims are 1.5 signed by GMAC, 1.2
// encrypted by GCM, 0.6 signed by CMAC.
//
//	go test -run '^$' -bench SMBRead -benchtime 1x ./fsrvp/internal/peers/interop
func BenchmarkSMBRead(b *testing.B) {
	const size = 256 << 20
	n := peers.Start(b)
	nas := n.Host("nas")
	nas.Claim(b)
	addShare(b, nas, "bench", "/srv/btrfs/data")
	f, err := os.Create(nas.Path("/srv/btrfs/data/big"))
	require.NoError(b, err)
	_, err = io.CopyN(f, rand.Reader, size)
	require.NoError(b, err)
	require.NoError(b, f.Close())
	var baseline time.Duration
	for _, tt := range []struct {
		name string
		set  func(*smb2.Config)
		args []string // smbclient's
	}{
		{"signed by GMAC", func(*smb2.Config) {}, []string{"--client-protection=sign"}},
		{"encrypted by GCM-128", func(c *smb2.Config) { c.Encrypt, c.Ciphers = true, []smb2.Cipher{smb2.AES128GCM} },
			[]string{"--client-protection=encrypt", "--option=client smb3 encryption algorithms=AES-128-GCM"}},
		{"encrypted by GCM-256", func(c *smb2.Config) { c.Encrypt, c.Ciphers = true, []smb2.Cipher{smb2.AES256GCM} },
			[]string{"--client-protection=encrypt", "--option=client smb3 encryption algorithms=AES-256-GCM"}},
		{"signed by CMAC", func(c *smb2.Config) { c.Signing = []smb2.SigningAlgorithm{smb2.AESCMAC} },
			[]string{"--client-protection=sign", "--option=client smb3 signing algorithms=AES-128-CMAC"}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			cfg := smbConfig(n, ntlmAuth(b, n.User("backup")))
			tt.set(cfg)
			var ours, theirs []time.Duration
			for b.Loop() {
				for range benchRounds {
					start := time.Now()
					s, err := smb2.Dial(b.Context(), nas.FQDN, cfg)
					require.NoError(b, err)
					tree, err := s.TreeConnect(b.Context(), "bench")
					require.NoError(b, err)
					file, err := sharefs.New(tree, nil).OpenFile("big", nil)
					require.NoError(b, err)
					got, err := file.WriteTo(io.Discard)
					require.NoError(b, err)
					require.EqualValues(b, size, got)
					ours = append(ours, time.Since(start))
					require.NoError(b, s.Close())
					theirs = append(theirs, smbClientTime(b, n, "bench", tt.args, "get big /dev/null"))
				}
			}
			mine, other := median(ours), median(theirs)
			if baseline == 0 {
				baseline = other
			}
			mb := func(d time.Duration) float64 { return size / 1e6 / d.Seconds() }
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(mb(mine), "MB/s")
			b.ReportMetric(mb(other), "MB/s-smbclient")
			b.ReportMetric(float64(other)/float64(mine), "times-smbclient")
			b.ReportMetric(float64(baseline)/float64(mine), "times-smbclient-GMAC")
		})
	}
}

// BenchmarkSMBSmallFiles reads 3,000 files of 4 kB, with this module by 16 goroutines and with
// smbclient's mget. The aim is 4 times as many.
func BenchmarkSMBSmallFiles(b *testing.B) {
	const files = 3000
	n := peers.Start(b)
	nas := n.Host("nas")
	nas.Claim(b)
	addShare(b, nas, "bench", "/srv/btrfs/data")
	dir := nas.Path("/srv/btrfs/data/many")
	require.NoError(b, os.Mkdir(dir, 0o755))
	for i := range files {
		require.NoError(b, os.WriteFile(fmt.Sprintf("%s/f%05d", dir, i), make([]byte, 4096), 0o644))
	}
	var ours, theirs []time.Duration
	for b.Loop() {
		for range benchRounds {
			s := smbSession(b, nas, smbConfig(n, ntlmAuth(b, n.User("backup"))))
			f := smbShare(b, s, "bench")
			start := time.Now()
			require.NoError(b, readAll(f, "many", 16))
			ours = append(ours, time.Since(start))
			out := b.TempDir()
			theirs = append(theirs, smbClientTime(b, n, "bench", []string{"--client-protection=sign"},
				fmt.Sprintf("lcd %s; cd many; prompt off; mget *", out)))
		}
	}
	mine, other := median(ours), median(theirs)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(files/mine.Seconds(), "files/s")
	b.ReportMetric(files/other.Seconds(), "files/s-smbclient")
	b.ReportMetric(float64(other)/float64(mine), "times-smbclient")
}

// readAll reads every file of a directory.
func readAll(f *sharefs.FS, dir string, workers int) error {
	entries, err := f.ReadDir(dir)
	if err != nil {
		return err
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() {
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= len(entries) {
					return
				}
				var data []byte
				if data, errs[w] = f.ReadFile(dir + "/" + entries[i].Name()); errs[w] == nil && len(data) != 4096 {
					errs[w] = fmt.Errorf("%d bytes", len(data))
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// A delayedConn delivers what is read from it later, as a long wire does; and takes what is written
// at once but sends it later.
type delayedConn struct {
	net.Conn
	read, write chan delayed
	rest        []byte
	once        sync.Once
	closed      chan struct{}
}

type delayed struct {
	b   []byte
	due time.Time
	err error
}

func newDelayedConn(c net.Conn, delay time.Duration) *delayedConn {
	d := &delayedConn{Conn: c, read: make(chan delayed, 1<<14), write: make(chan delayed, 1<<14),
		closed: make(chan struct{})}
	go func() {
		for {
			b := make([]byte, 256<<10)
			n, err := c.Read(b)
			select {
			case d.read <- delayed{b[:n], time.Now().Add(delay), err}:
			case <-d.closed:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	go func() {
		for {
			select {
			case w := <-d.write:
				time.Sleep(time.Until(w.due))
				if _, err := c.Write(w.b); err != nil {
					return
				}
			case <-d.closed:
				return
			}
		}
	}()
	return d
}

func (d *delayedConn) Read(b []byte) (int, error) {
	for len(d.rest) == 0 {
		select {
		case r := <-d.read:
			time.Sleep(time.Until(r.due))
			if d.rest = r.b; r.err != nil && len(r.b) == 0 {
				return 0, r.err
			}
		case <-d.closed:
			return 0, net.ErrClosed
		}
	}
	n := copy(b, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

func (d *delayedConn) Write(b []byte) (int, error) {
	select {
	case d.write <- delayed{append([]byte(nil), b...), time.Now().Add(2500 * time.Microsecond), nil}:
		return len(b), nil
	case <-d.closed:
		return 0, net.ErrClosed
	}
}

func (d *delayedConn) Close() error {
	d.once.Do(func() { close(d.closed) })
	return d.Conn.Close()
}

// BenchmarkSMBDelay reads over a wire that takes 2.5 ms each way, with 1, 8 and 16 requests of 1 MiB
// in flight, and with 8 of 4 MiB, as a share of the speed without it ("of-loopback"), and of that at which the same wire
// carries bytes that nobody has to ask for ("of-wire").
func BenchmarkSMBDelay(b *testing.B) {
	const size = 128 << 20
	n := peers.Start(b)
	nas := n.Host("nas")
	nas.Claim(b)
	addShare(b, nas, "bench", "/srv/btrfs/data")
	f, err := os.Create(nas.Path("/srv/btrfs/data/big"))
	require.NoError(b, err)
	_, err = io.CopyN(f, rand.Reader, size)
	require.NoError(b, err)
	require.NoError(b, f.Close())
	read := func(b *testing.B, delay time.Duration, window, chunk int) time.Duration {
		cfg := smbConfig(n, ntlmAuth(b, n.User("backup")))
		dial := cfg.Dial
		if delay > 0 {
			cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := dial(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return newDelayedConn(c, delay), nil
			}
		}
		s, err := smb2.Dial(b.Context(), nas.FQDN, cfg)
		require.NoError(b, err)
		defer s.Close()
		tree, err := s.TreeConnect(b.Context(), "bench")
		require.NoError(b, err)
		file, err := sharefs.New(tree, &sharefs.Config{Window: window, Chunk: chunk}).OpenFile("big", nil)
		require.NoError(b, err)
		start := time.Now()
		_, err = file.WriteTo(io.Discard)
		require.NoError(b, err)
		return time.Since(start)
	}
	// carry has the wire carry as many bytes as fast as it can.
	carry := func(b *testing.B) time.Duration {
		l, err := nas.Listen(b.Context(), "tcp", nas.Addr.String()+":0")
		require.NoError(b, err)
		defer l.Close()
		sent := make(chan error, 1)
		go func() {
			c, err := l.Accept()
			if err == nil {
				_, err = io.CopyN(c, zeros{}, size)
				c.Close()
			}
			sent <- err
		}()
		c, err := n.Host("cl").Dial(b.Context(), "tcp", l.Addr().String())
		require.NoError(b, err)
		d := newDelayedConn(c, 2500*time.Microsecond)
		defer d.Close()
		start := time.Now()
		_, err = io.CopyN(io.Discard, d, size)
		require.NoError(b, err)
		took := time.Since(start)
		require.NoError(b, <-sent)
		return took
	}
	for _, tt := range []struct{ window, chunk int }{{1, 1 << 20}, {8, 1 << 20}, {16, 1 << 20}, {8, 4 << 20}} {
		b.Run(fmt.Sprintf("%d in flight of %d MiB", tt.window, tt.chunk>>20), func(b *testing.B) {
			var near, far, wire []time.Duration
			for b.Loop() {
				for range benchRounds {
					near = append(near, read(b, 0, 8, 1<<20))
					far = append(far, read(b, 2500*time.Microsecond, tt.window, tt.chunk))
					wire = append(wire, carry(b))
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(size/1e6/median(far).Seconds(), "MB/s")
			b.ReportMetric(float64(median(near))/float64(median(far)), "of-loopback")
			b.ReportMetric(float64(median(wire))/float64(median(far)), "of-wire")
		})
	}
}

// zeros reads as zero bytes without an end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
