package agent

import (
	"context"
	"sync/atomic"
	"time"
)

// A stall is a time in which this process did not run: somebody has stopped it, or its machine had
// no processor for it. On a node of a cluster that matters to calls: when the process runs again it
// finds some that wait in its connections, and whose clients have given them up and gone on at
// another node. To do them now would take away what was made there since.
//
// The times are since the begin, by a clock that nobody sets.
type stalls struct {
	begin time.Time
	last  atomic.Int64 // when the process was last seen to run
	until atomic.Int64 // until when calls may be old ones
}

const (
	stallTick = time.Second
	// stallMin is how long a stall is that a client may have given up in.
	stallMin = 3 * time.Second
	// stallWait is how long a call that may be an old one waits. Its connection has ended, which is
	// noticed in less time, also behind a smbd that does not pass it on.
	stallWait = 3 * time.Second
)

// watch notes that the process runs, until ctx ends.
func (s *stalls) watch(ctx context.Context) {
	t := time.NewTicker(stallTick)
	defer t.Stop()
	for {
		s.runs()
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// runs notes that the process runs.
func (s *stalls) runs() {
	now := int64(time.Since(s.begin))
	if now-s.last.Swap(now) > int64(stallMin) {
		s.until.Store(now + int64(stallWait))
	}
}

// recent reports whether a stall has just ended.
func (s *stalls) recent() bool {
	now := int64(time.Since(s.begin))
	return now-s.last.Load() > int64(stallMin) || now < s.until.Load()
}

// wait has a call that may be an old one wait until that would have been noticed.
func (s *stalls) wait(ctx context.Context) error {
	if !s.recent() {
		return nil
	}
	t := time.NewTimer(stallWait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
