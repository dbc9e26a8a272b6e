package pdu

// Limits of a Reassembler that sets none: Windows and Samba accept 4 MiB of stub.
const (
	DefaultMaxStub      = 4 << 20
	DefaultMaxFragments = 1 << 16
)

// A Reassembler puts the fragments of one call at a time together, in one direction: requests or
// responses. A peer that interleaves the fragments of several calls needs one for each.
//
// The zero value is ready to use.
type Reassembler struct {
	MaxStub      int // bytes of one stub; zero means DefaultMaxStub
	MaxFragments int // fragments of one stub; zero means DefaultMaxFragments

	first Fragment
	stub  []byte
	count int
	busy  bool
}

// A Fragment is what a Reassembler needs of a request or response.
type Fragment struct {
	Header
	AllocHint uint32
	ContextID uint16
	Opnum     uint16 // of a request
	Stub      []byte // plain, without auth padding
}

// Fragment returns p in the form that a Reassembler takes. The stub is not copied.
func (p *Request) Fragment() Fragment {
	return Fragment{p.Header, p.AllocHint, p.ContextID, p.Opnum, p.Stub}
}

// Fragment returns p in the form that a Reassembler takes. The stub is not copied.
func (p *Response) Fragment() Fragment {
	return Fragment{p.Header, p.AllocHint, p.ContextID, 0, p.Stub}
}

// Add takes the next fragment. When it is the last one of its call, Add returns the whole stub and
// true. The stub of a call of one fragment is that fragment's Stub; any other belongs to the
// Reassembler and is valid until the next Add or Reset.
//
// Add fails with one of these problems, and leaves the call that is underway unchanged:
//
//   - [ErrSequence]: a first fragment while a call is underway, one of another call, or one that is
//     not first while none is (Pending tells them apart)
//   - [ErrChanged]: the type or data representation of the call has changed
//   - [ErrTooLarge]: the stub with this fragment, or with the alloc_hint of a fragment that is not
//     the last, is over MaxStub, or there are too many fragments
//
// The alloc_hint has no other use. Memory grows with the bytes that arrive.
func (r *Reassembler) Add(f Fragment) (stub []byte, done bool, err error) {
	first, last := f.Flags.Has(FirstFrag), f.Flags.Has(LastFrag)
	switch {
	case first == r.busy:
		return nil, false, fail(ErrSequence, f.Type, "call %d, first %v, underway %v", f.CallID, first, r.busy)
	case r.busy && f.CallID != r.first.CallID:
		return nil, false, fail(ErrSequence, f.Type, "call %d while call %d is underway", f.CallID, r.first.CallID)
	case r.busy && (f.DataRep != r.first.DataRep || f.Type != r.first.Type):
		return nil, false, fail(ErrChanged, f.Type, "call %d", f.CallID)
	}
	if err := r.checkSize(&f, first, last); err != nil {
		return nil, false, err
	}
	if first && last {
		return f.Stub, true, nil
	}
	if first {
		r.first, r.busy, r.count = f, true, 0
		r.first.Stub = nil
		r.stub = r.stub[:0]
	}
	r.stub = append(r.stub, f.Stub...)
	r.count++
	if !last {
		return nil, false, nil
	}
	r.busy = false
	return r.stub, true, nil
}

func (r *Reassembler) checkSize(f *Fragment, first, last bool) error {
	maxStub, maxCount := r.MaxStub, r.MaxFragments
	if maxStub == 0 {
		maxStub = DefaultMaxStub
	}
	if maxCount == 0 {
		maxCount = DefaultMaxFragments
	}
	have, count := len(r.stub), r.count
	if first {
		have, count = 0, 0
	}
	switch {
	case len(f.Stub) > maxStub-have:
		return fail(ErrTooLarge, f.Type, "stub of %d bytes, limit %d", have+len(f.Stub), maxStub)
	case !last && uint64(f.AllocHint)+uint64(have) > uint64(maxStub):
		return fail(ErrTooLarge, f.Type, "alloc_hint %d after %d bytes, limit %d", f.AllocHint, have, maxStub)
	case count >= maxCount:
		return fail(ErrTooLarge, f.Type, "more than %d fragments", maxCount)
	}
	return nil
}

// Pending returns the first fragment, without its stub, of the call that is underway.
func (r *Reassembler) Pending() (Fragment, bool) {
	if !r.busy {
		return Fragment{}, false
	}
	return r.first, true
}

// Reset forgets the call that is underway and builds the next stub in buf, so that the caller may
// keep the last one. The slice buf may be nil.
func (r *Reassembler) Reset(buf []byte) {
	r.first, r.busy, r.count = Fragment{}, false, 0
	r.stub = buf[:0]
}
