package tree

import "time"

// A wallClock notices that the system's clock was turned back: then a changed file can get the same
// times as before, or much older ones.
type wallClock struct {
	begun time.Time     // zero before the first use
	ahead time.Duration // the advance of the wall clock over the monotonic one since then
}

// turnedBack reports whether the clock was turned back since the last call by more than the step
// within which no time is trusted.
func (c *wallClock) turnedBack() bool {
	if c.begun.IsZero() {
		c.begun = time.Now()
		return false
	}
	ahead := c.measure()
	for range 2 { // if the thread is preempted between the two readings, the wall clock seems to be behind
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
