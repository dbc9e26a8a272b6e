package tree

import "time"

// A wallClock notices that the system's clock was turned back: then a file that changes can get
// times that it had, or those of long ago.
type wallClock struct {
	begun time.Time     // zero: not used yet
	ahead time.Duration // how much further the wall's clock has come since than the monotonic one
}

// turnedBack reports whether the clock was turned back since the last call, by more than the step
// that nothing is trusted within.
func (c *wallClock) turnedBack() bool {
	if c.begun.IsZero() {
		c.begun = time.Now()
		return false
	}
	ahead := c.measure()
	for range 2 { // a thread that rests between the two readings sees the wall's clock behind
		ahead = max(ahead, c.measure())
	}
	back := ahead < c.ahead-5*time.Millisecond
	c.ahead = ahead
	return back
}

func (c *wallClock) measure() time.Duration {
	now := time.Now()
	return now.Round(0).Sub(c.begun.Round(0)) - now.Sub(c.begun)
}
