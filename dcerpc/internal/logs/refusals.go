package logs

import (
	"log/slog"
	"sync"
	"time"
)

// Window is the time for which refusals of one address are counted before their sum is logged.
const Window = time.Minute

// maxAddresses is the number of addresses whose refusals are counted separately; those of all
// others are summed up together.
const maxAddresses = 256

// Refusals logs why peers are refused: the first refusal of an address at once, those of the next
// minute as one line at its end. The zero value is ready to use. It is safe for concurrent use.
type Refusals struct {
	mu     sync.Mutex
	closed bool
	counts map[string]*count
}

type count struct {
	more   int // beyond the one that was logged
	last   string
	logger *slog.Logger
	timer  *time.Timer
}

// Note logs a refusal of a peer with this address, or counts it.
func (r *Refusals) Note(logger *slog.Logger, address string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.counts[address]
	if c == nil && len(r.counts) >= maxAddresses {
		address = "other addresses"
		c = r.counts[address]
	}
	if c != nil {
		c.more, c.last = c.more+1, Cut(err.Error())
		return
	}
	logger.Info("dcerpc: peer refused", "err", Error(err))
	if r.closed {
		return
	}
	if r.counts == nil {
		r.counts = make(map[string]*count)
	}
	c = &count{logger: logger}
	c.timer = time.AfterFunc(Window, func() { r.expire(address, c) })
	r.counts[address] = c
}

// expire logs the sum of a minute. A minute with refusals is followed by another one.
func (r *Refusals) expire(address string, c *count) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts[address] != c {
		return
	}
	if c.more == 0 {
		delete(r.counts, address)
		return
	}
	c.logLocked(address)
	c.timer.Reset(Window)
}

func (c *count) logLocked(address string) {
	if c.more > 0 {
		c.logger.Info("dcerpc: peers refused", "address", Cut(address), "times", c.more, "last", c.last)
		c.more, c.last = 0, ""
	}
}

// Close logs what has been counted and stops counting; refusals that come later are logged one by
// one.
func (r *Refusals) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for address, c := range r.counts {
		c.timer.Stop()
		c.logLocked(address)
	}
	r.counts = nil
}
