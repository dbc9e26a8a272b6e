package redirector

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
)

var le = binary.LittleEndian

// A fakeSystem has files of one share. Its answers are as those of ntdll.dll are documented.
type fakeSystem struct {
	mu     sync.Mutex
	files  map[string]*fakeNative
	handle int // that are open
}

func (s *fakeSystem) open(server, share, name string, o *smb2.OpenOptions) (native, smb2.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[name]
	switch {
	case server != "fs1" || share != "data":
		return nil, smb2.StatusBadNetworkName
	case f == nil:
		return nil, smb2.StatusObjectNameNotFound
	}
	s.handle++
	own := *f
	own.s, own.cancelled = s, make(chan struct{}, 1)
	return &own, smb2.StatusSuccess
}

type fakeNative struct {
	s          *fakeSystem
	data       []byte
	attributes uint32
	noNetwork  bool // knows no FileNetworkOpenInformation
	streams    []byte
	names      []string
	descriptor []byte
	ranges     []smb2.Range
	tag        uint32
	blocks     chan struct{} // read waits for it, or to be cancelled
	cancelled  chan struct{}
	listed     int
	closed     bool
}

func fill(out, answer []byte) (int, smb2.Status) {
	if n := copy(out, answer); n < len(answer) {
		return n, smb2.StatusBufferOverflow
	}
	return len(answer), smb2.StatusSuccess
}

func (f *fakeNative) queryInformation(class uint32, out []byte) (int, smb2.Status) {
	times := le.AppendUint64(le.AppendUint64(le.AppendUint64(le.AppendUint64(nil, 1), 2), 3), 4)
	sizes := le.AppendUint64(le.AppendUint64(nil, 4096), uint64(len(f.data)))
	switch {
	case class == classNetworkOpen && !f.noNetwork:
		return fill(out, append(le.AppendUint32(append(times, sizes...), f.attributes), 0, 0, 0, 0))
	case class == classBasic:
		return fill(out, append(le.AppendUint32(times, f.attributes), 0, 0, 0, 0))
	case class == classStandard:
		return fill(out, append(sizes, make([]byte, 8)...))
	case class == classStream && f.streams != nil:
		return fill(out, f.streams)
	case class == classAttributeTag:
		return fill(out, le.AppendUint32(le.AppendUint32(nil, f.attributes), f.tag))
	}
	return 0, smb2.StatusInvalidInfoClass
}

// entry is a FILE_ID_BOTH_DIR_INFORMATION.
func entry(name string) []byte {
	units, _ := smb2.AppendName(nil, name)
	b := make([]byte, 104, 104+len(units)+8)
	le.PutUint32(b[60:], uint32(len(units)))
	return append(b, units...)
}

func (f *fakeNative) queryDirectory(restart bool, out []byte) (n int, s smb2.Status) {
	if restart {
		f.listed = 0
	}
	last := -1
	for ; f.listed < len(f.names); f.listed++ {
		e := entry(f.names[f.listed])
		at := (n + 7) &^ 7
		if at+len(e) > len(out) {
			break
		}
		copy(out[at:], e)
		if last >= 0 {
			le.PutUint32(out[last:], uint32(at-last))
		}
		last, n = at, at+len(e)
	}
	if n == 0 {
		return 0, smb2.StatusNoMoreFiles
	}
	return n, smb2.StatusSuccess
}

func (f *fakeNative) querySecurity(_ uint32, out []byte) (int, smb2.Status) {
	if len(out) < len(f.descriptor) {
		return len(f.descriptor), smb2.StatusBufferTooSmall
	}
	return copy(out, f.descriptor), smb2.StatusSuccess
}

func (f *fakeNative) control(code uint32, in, out []byte) (int, smb2.Status) {
	switch {
	case code == smb2.FSCTLGetReparsePoint && f.tag != 0:
		return fill(out, le.AppendUint32(nil, f.tag))
	case code == smb2.FSCTLQueryAllocatedRanges && f.ranges != nil:
		from, length := int64(le.Uint64(in)), int64(le.Uint64(in[8:]))
		var b []byte
		for _, r := range f.ranges {
			if r.Offset+r.Length <= from || r.Offset >= from+length {
				continue
			}
			if len(b)+16 > len(out) {
				return copy(out, b), smb2.StatusBufferOverflow
			}
			b = le.AppendUint64(le.AppendUint64(b, uint64(r.Offset)), uint64(r.Length))
		}
		return copy(out, b), smb2.StatusSuccess
	}
	return 0, smb2.StatusInvalidDeviceRequest
}

func (f *fakeNative) read(off int64, out []byte) (int, smb2.Status) {
	if f.blocks != nil {
		select {
		case <-f.blocks:
		case <-f.cancelled:
			return 0, smb2.StatusCancelled
		}
	}
	if off >= int64(len(f.data)) {
		return 0, smb2.StatusEndOfFile
	}
	return copy(out, f.data[off:min(int64(len(f.data)), off+100_000)]), smb2.StatusSuccess // less than was asked for
}

func (f *fakeNative) cancel() {
	select {
	case f.cancelled <- struct{}{}:
	default:
	}
}

func (f *fakeNative) close() {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if f.closed {
		panic("closed twice")
	}
	f.closed = true
	f.s.handle--
}

func (s *fakeSystem) handles() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handle
}

func fakeShare(t *testing.T, files map[string]*fakeNative) (*Share, *fakeSystem) {
	sys := &fakeSystem{files: files}
	if files[""] == nil {
		files[""] = &fakeNative{attributes: smb2.AttributeDirectory}
	}
	s, err := openShare(t.Context(), sys, `\\fs1\data`)
	require.NoError(t, err)
	t.Cleanup(func() {
		s.Close()
		require.Zero(t, sys.handles(), "handles that are open")
	})
	return s, sys
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func TestReading(t *testing.T) {
	for _, size := range []int{0, 1, 1000, 1 << 20, 1<<20 + 1, 7_654_321} {
		data := pattern(size)
		s, _ := fakeShare(t, map[string]*fakeNative{"f": {data: data}})
		b, err := s.ReadFile(t.Context(), "f", nil, -1)
		require.NoError(t, err)
		require.Equal(t, len(data), len(b))
		require.Equal(t, data, append([]byte{}, b...))
		if size > 0 {
			_, err = s.ReadFile(t.Context(), "f", nil, int64(size-1))
			require.ErrorContains(t, err, "more than")
		}
		f, err := s.Open(t.Context(), "f", nil)
		require.NoError(t, err)
		require.EqualValues(t, size, f.Info().EndOfFile)
		for _, part := range [][2]int64{{0, int64(size)}, {0, -1}, {int64(size / 3), int64(size / 2)}, {int64(size), 5},
			{int64(size / 2), 1 << 40}} {
			for _, chunk := range []int{0, 1 << 16, 300_001} {
				r := f.NewReader(part[0], part[1], chunk, 0)
				end := int64(size)
				if part[1] >= 0 {
					end = min(end, part[0]+part[1])
				}
				var got []byte
				for i := 0; ; i++ {
					require.EqualValues(t, part[0]+int64(len(got)), r.Offset())
					p, err := r.Next(t.Context())
					if err == io.EOF {
						break
					}
					require.NoError(t, err)
					got = append(got, p...)
					if i%5 == 4 {
						r.Stop()
					}
				}
				r.Stop()
				require.Equal(t, append([]byte{}, data[part[0]:end]...), append([]byte{}, got...))
			}
		}
		if size > 10 {
			b := make([]byte, 10)
			n, err := f.ReadAt(t.Context(), b, int64(size-5))
			require.Equal(t, 5, n)
			require.Equal(t, io.EOF, err)
			require.Equal(t, data[size-5:], b[:5])
		}
		require.NoError(t, f.Close())
		require.ErrorIs(t, f.Close(), net.ErrClosed)
		_, err = f.ReadAt(t.Context(), make([]byte, 1), 0)
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = f.NewReader(0, -1, 0, 0).Next(t.Context())
		require.ErrorIs(t, err, net.ErrClosed)
	}
}

func TestCancel(t *testing.T) {
	blocks := make(chan struct{})
	s, sys := fakeShare(t, map[string]*fakeNative{"f": {data: pattern(100), blocks: blocks}})
	f, err := s.Open(t.Context(), "f", nil)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	// Another call on the same handle is cancelled along with it, and goes on.
	other := make(chan error, 1)
	go func() {
		_, err := f.ReadAt(context.Background(), make([]byte, 10), 0)
		other <- err
	}()
	_, err = f.ReadAt(ctx, make([]byte, 10), 0)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	blocks <- struct{}{}
	require.NoError(t, <-other)

	// Close ends what is underway.
	go func() {
		_, err := f.ReadAt(context.Background(), make([]byte, 10), 0)
		other <- err
	}()
	require.Eventually(t, func() bool { f.h.mu.Lock(); defer f.h.mu.Unlock(); return f.h.users == 1 }, time.Minute,
		time.Millisecond)
	require.NoError(t, f.Close())
	require.ErrorIs(t, <-other, net.ErrClosed)
	require.Eventually(t, func() bool { return sys.handles() == 1 }, time.Minute, time.Millisecond, "the root alone")

	// So does Stop of what is read ahead.
	close(blocks)
	s, _ = fakeShare(t, map[string]*fakeNative{"g": {data: pattern(1 << 20), blocks: blocks}})
	f, err = s.Open(t.Context(), "g", nil)
	require.NoError(t, err)
	r := f.NewReader(0, -1, 1<<16, 0)
	_, err = r.Next(t.Context())
	require.NoError(t, err)
	r.Stop()
	r.Stop()
	p, err := r.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, pattern(1 << 20)[1<<16:1<<17], p)
	r.Stop()
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	_, err = s.Open(ctx, "g", nil)
	require.True(t, err == nil || errors.Is(err, context.Canceled))
}

func TestQueries(t *testing.T) {
	var names []string
	for i := range 3000 {
		names = append(names, fmt.Sprintf("a name of some length %d", i))
	}
	stream := func(name string, size uint64, last bool) []byte {
		units, err := smb2.AppendName(nil, name)
		require.NoError(t, err)
		b := le.AppendUint32(le.AppendUint32(nil, 0), uint32(len(units)))
		b = append(le.AppendUint64(le.AppendUint64(b, size), size), units...)
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
		if !last {
			le.PutUint32(b, uint32(len(b)))
		}
		return b
	}
	streams := stream("::$DATA", 5, false)
	for i := range 2000 { // more than 64 KiB
		streams = append(streams, stream(fmt.Sprintf(":s%d:$DATA", i), uint64(i), i == 1999)...)
	}
	var ranges []smb2.Range
	for i := range int64(10000) { // more than fit
		ranges = append(ranges, smb2.Range{Offset: i * 100, Length: 50})
	}
	s, _ := fakeShare(t, map[string]*fakeNative{
		"dir":  {attributes: smb2.AttributeDirectory, names: names},
		"file": {data: pattern(77), attributes: smb2.AttributeArchive, streams: streams, descriptor: pattern(9000), ranges: ranges},
		"wine": {data: pattern(77), noNetwork: true, attributes: smb2.AttributeReadOnly},
		"link": {attributes: smb2.AttributeReparsePoint, tag: smb2.ReparseSymlink},
	})
	ctx := t.Context()
	dir, err := s.Open(ctx, "dir", nil)
	require.NoError(t, err)
	for range 2 {
		var got []string
		for restart := true; ; restart = false {
			piece, err := dir.List(ctx, restart)
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			for _, e := range piece {
				got = append(got, e.Name)
			}
		}
		require.Equal(t, names, got)
	}
	file, err := s.Open(ctx, "file", nil)
	require.NoError(t, err)
	list, err := file.Streams(ctx)
	require.NoError(t, err)
	require.Len(t, list, 2001)
	require.Equal(t, smb2.Stream{Name: "s1999", Type: "$DATA", Size: 1999, Allocation: 1999}, list[2000])
	sd, err := file.Descriptor(ctx, smb2.SecurityOwner)
	require.NoError(t, err)
	require.Equal(t, pattern(9000), sd)
	all, err := file.AllocatedRanges(ctx, 0, 1<<40)
	require.NoError(t, err)
	require.Equal(t, ranges, all)
	all, err = file.AllocatedRanges(ctx, 120, 100)
	require.NoError(t, err)
	require.Equal(t, []smb2.Range{{Offset: 120, Length: 30}, {Offset: 200, Length: 20}}, all)
	tag, err := file.ReparseTag(ctx)
	require.NoError(t, err)
	require.Zero(t, tag)

	wine, err := s.Open(ctx, "wine", nil)
	require.NoError(t, err)
	require.Equal(t, smb2.FileInfo{Created: 1, Accessed: 2, Written: 3, Changed: 4, AllocationSize: 4096, EndOfFile: 77,
		Attributes: smb2.AttributeReadOnly}, wine.Info())
	list, err = wine.Streams(ctx)
	require.NoError(t, err)
	require.Empty(t, list, "a system without streams")
	_, err = wine.AllocatedRanges(ctx, 0, 77)
	require.Equal(t, smb2.StatusInvalidDeviceRequest, smb2.StatusOf(err))

	link, err := s.Open(ctx, "link", nil)
	require.NoError(t, err)
	tag, err = link.ReparseTag(ctx)
	require.NoError(t, err)
	require.EqualValues(t, smb2.ReparseSymlink, tag)
	data, err := link.ReparsePoint(ctx)
	require.NoError(t, err)
	require.Len(t, data, 4)

	_, err = s.Open(ctx, "none", nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.EqualError(t, err, `smb: open \\fs1\data\none: STATUS_OBJECT_NAME_NOT_FOUND (0xC0000034)`)
	_, err = openShare(ctx, s.sys, `\\fs1\none`)
	require.ErrorContains(t, err, "the server has no such share")
	_, err = openShare(ctx, s.sys, `C:\x`)
	require.Error(t, err)
	require.NoError(t, s.Close())
	_, err = file.Stat(ctx)
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = s.Open(ctx, "file", nil)
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestOtherSystems(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("this is Windows")
	}
	_, err := OpenShare(t.Context(), `\\fs1\data`)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = OpenPipe(t.Context(), "fs1", "x", false)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}
