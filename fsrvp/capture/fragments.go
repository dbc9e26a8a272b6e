package capture

import (
	"slices"
	"time"

	"github.com/gopacket/gopacket"
)

// The number of IP packets that may wait for fragments, and for how long by the capture's clock
// (RFC 8200 4.5).
const (
	maxFragmented   = 1024
	fragmentTimeout = 60 * time.Second
	// fragmentCost is what a fragment costs besides its bytes.
	fragmentCost = 64
	maxIPPayload = 65535
)

// A fragmentKey identifies the packet of a fragment.
type fragmentKey struct {
	flow     gopacket.Flow
	id       uint32
	protocol byte
}

// A fragment is a part of an IP packet's payload.
type fragment struct {
	offset int
	data   []byte
}

// fragmented is a packet of which some fragments have arrived.
type fragmented struct {
	key   fragmentKey
	parts []fragment // in order, without overlaps
	have  int        // bytes
	size  int        // of the whole payload; 0 until the last fragment has arrived
	at    moment     // of the first that arrived
	cost  account
}

// fragments reassembles IP packets. The zero value with a budget is ready to use.
type fragments struct {
	budget  *budget
	lost    func(at moment) // called for a packet that was given up
	packets map[fragmentKey]*fragmented
	order   []*fragmented // in the order of arrival
}

// add takes a fragment, of which cut bytes were not captured. When the payload is complete it
// returns the payload, which the caller owns; otherwise errWaits, or why the packet was given up.
func (f *fragments) add(key fragmentKey, part fragment, more bool, cut int, at moment) ([]byte, error) {
	f.expire(at)
	p := f.packets[key]
	if p == nil {
		if len(f.order) >= maxFragmented {
			f.drop(f.order[0])
		}
		p = &fragmented{key: key, at: at, cost: account{budget: f.budget}}
		if f.packets == nil {
			f.packets = make(map[fragmentKey]*fragmented)
		}
		f.packets[key] = p
		f.order = append(f.order, p)
	}
	if err := p.add(part, more, cut); err != nil {
		if err == errWaits {
			return nil, err
		}
		f.remove(p)
		return nil, err
	}
	f.remove(p)
	whole := make([]byte, 0, p.size)
	for _, part := range p.parts {
		whole = append(whole, part.data...)
	}
	return whole, nil
}

func (p *fragmented) add(part fragment, more bool, cut int) error {
	end := part.offset + len(part.data)
	switch {
	case cut > 0:
		return errShort
	case end > maxIPPayload, more && len(part.data)%8 != 0, len(part.data) == 0,
		p.size != 0 && (end > p.size || !more && end != p.size):
		return errHeaders
	}
	i, found := slices.BinarySearchFunc(p.parts, part.offset,
		func(f fragment, offset int) int { return f.offset - offset })
	switch {
	case found && len(p.parts[i].data) == len(part.data):
		return errWaits // a repetition
	case found, i < len(p.parts) && end > p.parts[i].offset,
		i > 0 && p.parts[i-1].offset+len(p.parts[i-1].data) > part.offset:
		return errOverlap // RFC 5722 4
	case !more && len(p.parts) > i:
		return errHeaders // the end is not in the last fragment
	case !p.cost.take(len(part.data) + fragmentCost):
		return errFull
	}
	if !more {
		p.size = end
	}
	p.parts = slices.Insert(p.parts, i, fragment{part.offset, slices.Clone(part.data)})
	if p.have += len(part.data); p.size == 0 || p.have < p.size {
		return errWaits
	}
	return nil
}

// expire gives up what has waited too long.
func (f *fragments) expire(at moment) {
	for len(f.order) > 0 && at.time.Sub(f.order[0].at.time).Abs() > fragmentTimeout {
		f.drop(f.order[0])
	}
}

// drop gives a packet up.
func (f *fragments) drop(p *fragmented) {
	f.remove(p)
	f.lost(p.at)
}

// close gives all up.
func (f *fragments) close() {
	for len(f.order) > 0 {
		f.drop(f.order[0])
	}
}

func (f *fragments) remove(p *fragmented) {
	p.cost.close()
	delete(f.packets, p.key)
	if i := slices.Index(f.order, p); i >= 0 {
		f.order = slices.Delete(f.order, i, i+1)
	}
}
