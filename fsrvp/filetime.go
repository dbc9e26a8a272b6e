package fsrvp

import (
	"fmt"
	"math"
	"time"
)

// A Filetime is a time as on the wire: units of 100 ns since 1601-01-01 UTC.
type Filetime int64

const (
	filetimeEpoch  = -11644473600 // 1601-01-01 in seconds since 1970-01-01
	filetimePerSec = 1e7
)

// Time returns the time in UTC. It works for every Filetime, and [FiletimeOf] returns the same
// Filetime again.
func (f Filetime) Time() time.Time {
	sec, ticks := int64(f)/filetimePerSec, int64(f)%filetimePerSec
	if ticks < 0 {
		sec, ticks = sec-1, ticks+filetimePerSec
	}
	return time.Unix(sec+filetimeEpoch, ticks*100).UTC()
}

// FiletimeOf returns the Filetime of t, rounded down to 100 ns. It fails if t is more than about
// 29,227 years away from 1601, which the wire cannot express.
func FiletimeOf(t time.Time) (Filetime, error) {
	sec := t.Unix() - filetimeEpoch
	ticks := int64(t.Nanosecond() / 100)
	const last = math.MaxInt64 / int64(filetimePerSec)
	if sec < -last-1 || sec > last {
		return 0, fmt.Errorf("fsrvp: %v is out of a FILETIME's range", t)
	}
	// Near both ends the seconds alone may not fit although the sum does.
	if sec < 0 {
		sec, ticks = sec+1, ticks-filetimePerSec
	}
	f := sec*filetimePerSec + ticks
	if (sec > 0 && f < 0) || (sec < 0 && f > 0) {
		return 0, fmt.Errorf("fsrvp: %v is out of a FILETIME's range", t)
	}
	return Filetime(f), nil
}
