package krb5

import (
	"crypto/sha256"
	"sync"
	"time"
)

// A replayCache remembers the authenticators of some minutes (RFC 4120 section 3.2.3), up to a
// limit; beyond it the oldest are forgotten. That is safe because a replayed AP-REQ does not open a
// context by itself: the acceptor's subkey and the sequence number that the third leg returns are
// new every time, and an attacker who replays has no key to read them. (With RC4 and without a
// third leg there is neither; no RPC client works like that.)
type replayCache struct {
	limit int

	mu   sync.Mutex
	seen map[replayKey]struct{}
	// order is a queue of the entries in seen, oldest first, in a slice that head walks through.
	order []replayEntry
	head  int
}

type replayKey [sha256.Size]byte

type replayEntry struct {
	key     replayKey
	expires time.Time
}

// add remembers an encrypted authenticator until the given time, and reports whether it is new.
func (c *replayCache) add(authenticator []byte, now, expires time.Time) bool {
	key := replayKey(sha256.Sum256(authenticator))
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.head < len(c.order) && (!now.Before(c.order[c.head].expires) || len(c.seen) >= c.limit) {
		delete(c.seen, c.order[c.head].key)
		c.head++
	}
	if c.head > len(c.order)/2 {
		c.order = append(c.order[:0], c.order[c.head:]...)
		c.head = 0
	}
	if _, ok := c.seen[key]; ok {
		return false
	}
	if c.seen == nil {
		c.seen = make(map[replayKey]struct{})
	}
	c.seen[key] = struct{}{}
	c.order = append(c.order, replayEntry{key, expires})
	return true
}
