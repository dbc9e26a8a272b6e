package fsrvp

import (
	"fmt"
	"math"
	"time"
)

// MaxWait is the longest wait that the wire can express, about 50 days. Windows treats it as an
// endless wait.
const MaxWait = math.MaxUint32 * time.Millisecond

// milliseconds converts a wait to whole milliseconds, rounded up, as on the wire.
func milliseconds(wait time.Duration) (uint32, error) {
	if wait < 0 || wait > MaxWait {
		return 0, fmt.Errorf("fsrvp: wait of %v is not between 0 and %v", wait, MaxWait)
	}
	return uint32((wait + time.Millisecond - 1) / time.Millisecond), nil
}
