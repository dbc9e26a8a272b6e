package smb2

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// A buffer is pooled memory that several messages may share: the answers of one frame.
type buffer struct {
	b    []byte
	refs atomic.Int32
	pool *sync.Pool
}

// slack is capacity beyond a message for the tag of its cipher.
const slack = tagSize

const smallestBuffer = 10 // bits

// buffers are pools by the binary logarithm of what fits in, slack aside: 1 KiB to 16 MiB.
var buffers [25 - smallestBuffer]sync.Pool

// getBuffer returns a buffer of n bytes, at most 16 MiB and 128 bytes, with slack beyond; it is
// held once.
func getBuffer(n int) *buffer {
	// Frames of a power of two have headers on top: those shall not double them.
	const headers = 128
	class := max(bits.Len(uint(max(n-headers-1, 0))), smallestBuffer)
	pool := &buffers[class-smallestBuffer]
	b, _ := pool.Get().(*buffer)
	if b == nil {
		b = &buffer{b: make([]byte, 0, 1<<class+headers+slack), pool: pool}
	}
	b.b = b.b[:n]
	b.refs.Store(1)
	return b
}

// release ends one hold. A nil buffer has none.
func (b *buffer) release() {
	if b != nil && b.refs.Add(-1) == 0 {
		b.pool.Put(b)
	}
}
