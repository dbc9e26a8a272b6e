package sharefs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
)

var errBroken = errors.New("connection reset by peer")

// A fakeShare is a connection to a server with files in memory that breaks after some operations.
type fakeShare struct {
	*fakeServer
	mu    sync.Mutex
	left  int // operations until it breaks; negative: none
	ended bool
}

type fakeServer struct {
	files map[string][]byte
	mu    sync.Mutex
	// lives are how many operations each further connection lasts; without any more, a server that
	// refuses connections.
	lives  []int
	dials  int
	opened int
}

// use counts an operation.
func (s *fakeShare) use() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return net.ErrClosed
	case s.left == 0:
		s.ended = true
		return errBroken
	}
	s.left--
	return nil
}

func (s *fakeShare) open(_ context.Context, name string, _ *smb2.OpenOptions) (handle, error) {
	if err := s.use(); err != nil {
		return nil, err
	}
	s.fakeServer.mu.Lock()
	defer s.fakeServer.mu.Unlock()
	b, ok := s.files[name]
	if !ok {
		return nil, &smb2.Error{Op: "open", Path: name, Status: smb2.StatusObjectNameNotFound}
	}
	s.opened++
	return &fakeHandle{s: s, name: name, data: b}, nil
}

func (s *fakeShare) ReadFile(ctx context.Context, name string, o *smb2.OpenOptions, _ int64) ([]byte, error) {
	h, err := s.open(ctx, name, o)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(h.(*fakeHandle).data), s.use()
}

func (s *fakeShare) alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.ended
}

func (s *fakeShare) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return nil
}

// A fakeHandle is an open file; a directory lists all files.
type fakeHandle struct {
	handle // no method that is not here is called
	s      *fakeShare
	name   string
	data   []byte
	listed bool
}

func (h *fakeHandle) Name() string        { return h.name }
func (h *fakeHandle) Info() smb2.FileInfo { return smb2.FileInfo{EndOfFile: uint64(len(h.data))} }
func (h *fakeHandle) CloseLater() error   { return nil }

func (h *fakeHandle) Stat(context.Context) (smb2.FileInfo, error) { return h.Info(), h.s.use() }

func (h *fakeHandle) ReadAt(_ context.Context, b []byte, off int64) (int, error) {
	n := 0
	for n < len(b) { // a kilobyte an operation
		if err := h.s.use(); err != nil {
			return n, err
		}
		m := copy(b[n:min(len(b), n+1024)], h.data[min(off+int64(n), int64(len(h.data))):])
		if n += m; m == 0 {
			return n, io.EOF
		}
	}
	return n, nil
}

func (h *fakeHandle) AllocatedRanges(_ context.Context, off, length int64) ([]smb2.Range, error) {
	return []smb2.Range{{Offset: off, Length: length}}, h.s.use()
}

func (h *fakeHandle) List(context.Context, bool) ([]smb2.DirEntry, error) {
	if err := h.s.use(); err != nil {
		return nil, err
	}
	if h.listed {
		return nil, io.EOF
	}
	h.listed = true
	var out []smb2.DirEntry
	for name := range h.s.files {
		if name != "" {
			out = append(out, smb2.DirEntry{Name: name})
		}
	}
	return out, nil
}

func (h *fakeHandle) reader(off, length int64, _, _ int) reader {
	end := int64(len(h.data))
	if length >= 0 {
		end = min(end, off+length)
	}
	return &fakeReader{h, off, end}
}

type fakeReader struct {
	h        *fakeHandle
	off, end int64
}

func (r *fakeReader) Next(ctx context.Context) ([]byte, error) {
	if r.off >= r.end {
		return nil, io.EOF
	}
	b := make([]byte, min(1024, r.end-r.off))
	n, err := r.h.ReadAt(ctx, b, r.off)
	if n == len(b) {
		err = nil
	}
	r.off += int64(n)
	return b[:n], err
}

func (r *fakeReader) Stop() {}

// fake returns a share whose first connection, and later ones, last so many operations each.
func fake(files map[string][]byte, cfg *Config, lives ...int) (*FS, *fakeServer) {
	srv := &fakeServer{files: files, lives: lives[1:]}
	f := newFS(&fakeShare{fakeServer: srv, left: lives[0]}, cfg)
	f.c.open = func(context.Context) (share, error) {
		srv.mu.Lock()
		defer srv.mu.Unlock()
		srv.dials++
		if len(srv.lives) == 0 {
			return nil, errBroken
		}
		n := srv.lives[0]
		srv.lives = srv.lives[1:]
		return &fakeShare{fakeServer: srv, left: n}, nil
	}
	return f, srv
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b) // has no errors
	return b
}

// TestReconnect reads in every way over connections that break after each number of operations.
func TestReconnect(t *testing.T) {
	want := random(20<<10 + 100)
	files := map[string][]byte{"": nil, "big": want, "small": []byte("small")}
	for first := range 30 {
		lives := []int{first, 7, 9, 100000}
		for name, read := range map[string]func(f *FS) ([]byte, error){
			"Read": func(f *FS) ([]byte, error) {
				file, err := f.Open("big")
				if err != nil {
					return nil, err
				}
				defer file.Close()
				return io.ReadAll(file)
			},
			"WriteTo": func(f *FS) ([]byte, error) {
				file, err := f.OpenFile("big", nil)
				if err != nil {
					return nil, err
				}
				defer file.Close()
				var b bytes.Buffer
				n, err := file.WriteTo(&b)
				if n != int64(b.Len()) {
					return nil, errors.New("WriteTo miscounts")
				}
				return b.Bytes(), err
			},
			"ReadAt": func(f *FS) ([]byte, error) {
				file, err := f.OpenFile("big", nil)
				if err != nil {
					return nil, err
				}
				defer file.Close()
				b := make([]byte, len(want)+10)
				n, err := file.ReadAt(b, 0)
				if err == io.EOF {
					err = nil
				}
				return b[:n], err
			},
			"DataTo": func(f *FS) ([]byte, error) {
				file, err := f.OpenFile("big", nil)
				if err != nil {
					return nil, err
				}
				defer file.Close()
				out := make(sliceAt, len(want))
				_, err = file.DataTo(out)
				return out, err
			},
		} {
			f, _ := fake(files, nil, lives...)
			got, err := read(f)
			require.NoError(t, err, "%s, %d", name, first)
			require.True(t, bytes.Equal(want, got), "%s, %d", name, first)
			require.NoError(t, f.Close())
		}
		f, _ := fake(files, nil, first%4, 1, 100)
		b, err := f.ReadFile("small")
		require.NoError(t, err)
		require.Equal(t, "small", string(b))
		list, err := f.ReadDir(".")
		require.NoError(t, err)
		require.Len(t, list, 2)
		_, err = f.Stat("none")
		require.ErrorIs(t, err, smb2.StatusObjectNameNotFound, "what the server says is not asked for again")
	}
}

type sliceAt []byte

func (s sliceAt) WriteAt(b []byte, off int64) (int, error) { return copy(s[off:], b), nil }

// TestReconnectFails has a server that does not come back, one that is not wanted back, and a file
// that is another one.
func TestReconnectFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := map[string][]byte{"": nil, "big": random(5000)}
		f, srv := fake(files, &Config{ReconnectTime: time.Minute}, 0)
		begin := time.Now()
		_, err := f.ReadFile("big")
		require.ErrorIs(t, err, errBroken)
		require.ErrorContains(t, err, "connecting to the share again")
		require.InDelta(t, time.Minute, time.Since(begin), float64(6*time.Second))
		require.Greater(t, srv.dials, 10)

		begin = time.Now()
		_, err = f.ReadFile("big")
		require.ErrorIs(t, err, net.ErrClosed)
		require.Zero(t, time.Since(begin), "a server that did not come back is not waited for again")
		require.NoError(t, f.Close())

		f, _ = fake(files, &Config{ReconnectTime: time.Minute}, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin = time.Now()
		_, err = f.WithContext(ctx).ReadFile("big")
		require.Error(t, err)
		require.Equal(t, time.Second, time.Since(begin), "the context bounds the waiting")
		require.NoError(t, f.Close())

		f, srv = fake(files, &Config{ReconnectTime: -1}, 1, 100)
		_, err = f.ReadFile("big")
		require.ErrorIs(t, err, errBroken)
		require.Zero(t, srv.dials)

		f, srv = fake(files, nil, 2, 100)
		file, err := f.OpenFile("big", nil)
		require.NoError(t, err)
		srv.files = map[string][]byte{"big": random(4000)}
		_, err = io.ReadAll(file)
		require.ErrorIs(t, err, errChanged)
		require.NoError(t, file.Close())

		f, _ = fake(files, nil, 1, 100)
		file, err = f.OpenFile("big", nil)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		_, err = file.Stat()
		require.Error(t, err, "after Close")
		require.NoError(t, f.Close())
		_, err = f.Stat("big")
		require.ErrorIs(t, err, net.ErrClosed)
		synctest.Wait()
	})
}

// TestReconnectOnce has many readers share one new connection.
func TestReconnectOnce(t *testing.T) {
	files := map[string][]byte{"": nil}
	for _, name := range strings.Fields("a b c d e f g h") {
		files[name] = random(10_000)
	}
	f, srv := fake(files, nil, 40, 1000)
	var wg sync.WaitGroup
	for name := range files {
		if name == "" {
			continue
		}
		wg.Go(func() {
			file, err := f.OpenFile(name, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer file.Close()
			b, err := io.ReadAll(file)
			if err != nil || !bytes.Equal(b, files[name]) {
				t.Errorf("%s: %d bytes, %v", name, len(b), err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, 1, srv.dials)
	require.NoError(t, f.Close())
}
