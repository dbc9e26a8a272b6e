package dcerpc

import (
	"sync/atomic"
	"time"
)

// A clock ends a connection whose peer is too slow. Its times count from the start of the
// connection. One timer serves all limits: when a limit begins that ends before the timer does, the
// timer is set to it; it is never set to a later time.
type clock struct {
	begin    time.Time
	active   atomic.Int64 // when bytes last arrived
	partial  atomic.Int64 // since when a PDU is incomplete; 0 if none is
	timer    *time.Timer  // under serverConn.mu, as all of the following
	wake     time.Duration
	request  time.Duration // since when a request is incomplete; 0 if none is
	exchange time.Duration // since when a bind or an exchange of tokens is due; 0 if none is
}

// now returns the time since the connection's start, which is never 0.
func (k *clock) now() time.Duration { return time.Since(k.begin) + 1 }

// touch records that bytes have arrived.
func (k *clock) touch() { k.active.Store(int64(k.now())) }

// deadlineLocked returns when the first limit ends the connection, and which one; 0 if none does.
func (c *serverConn) deadlineLocked() (end time.Duration, why reason) {
	k := &c.clock
	consider := func(since, limit time.Duration, r reason) {
		if since > 0 && limit > 0 && (end == 0 || since+limit < end) {
			end, why = since+limit, r
		}
	}
	consider(k.exchange, c.limits.BindTime, noBindInTime)
	consider(time.Duration(k.partial.Load()), c.limits.ReceiveTime, "no end of a PDU in time")
	consider(k.request, c.limits.ReceiveTime, "no end of a request in time")
	if k.exchange == 0 {
		idle := c.limits.IdleTime
		if limit := c.limits.UnauthenticatedIdleTime; !c.knownPeer && limit > 0 && (idle <= 0 || limit < idle) {
			idle = limit
		}
		since := time.Duration(k.active.Load())
		if c.busy > 0 {
			since = k.now() // not idle, but perhaps soon
		}
		consider(since, idle, idleTooLong)
	}
	return end, why
}

const (
	noBindInTime = reason("no bind, or no end of its security exchange, in time")
	idleTooLong  = reason("idle for too long")
)

// armLocked sets the timer if it would fire too late.
func (c *serverConn) armLocked() {
	end, _ := c.deadlineLocked()
	if end == 0 || c.clock.wake != 0 && c.clock.wake <= end || c.ended {
		return
	}
	c.clock.wake = end
	wait := end - c.clock.now()
	if c.clock.timer == nil {
		c.clock.timer = time.AfterFunc(wait, c.expire)
	} else {
		c.clock.timer.Reset(wait)
	}
}

// expire runs when a limit may have been reached.
func (c *serverConn) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock.wake = 0
	end, why := c.deadlineLocked()
	switch {
	case end == 0 || end > c.clock.now():
		c.armLocked()
	case why == idleTooLong:
		go c.hangUp()
	default:
		go c.abort(why)
	}
}

// exchanging records whether a bind or an exchange of security tokens is due.
func (c *serverConn) exchanging(due bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.knownPeer = c.known
	switch {
	case !due:
		c.clock.exchange = 0
	case c.clock.exchange == 0:
		c.clock.exchange = c.clock.now()
	}
	c.armLocked()
}

// requesting records whether a request is incomplete.
func (c *serverConn) requesting(incomplete bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.clock.request = 0; incomplete {
		c.clock.request = c.clock.now()
		c.armLocked()
	}
}

// Read reads for the framer. In the middle of a PDU, it counts the time that the PDU takes.
func (c *serverConn) Read(b []byte) (int, error) {
	if c.framer.Buffered() > 0 && c.clock.partial.Load() == 0 {
		c.clock.partial.Store(int64(c.clock.now()))
		c.mu.Lock()
		c.armLocked()
		c.mu.Unlock()
	}
	return c.conn.Read(b)
}
