package fsrvp

import (
	"fmt"
	"math"
	"time"
)

// A Filetime is a moment as the wire has it: units of 100 ns since 1601-01-01 UTC.
type Filetime int64

const (
	filetimeEpoch  = -11644473600 // 1601-01-01 in seconds since 1970-01-01
	filetimePerSec = 1e7
)

// Time returns the moment in UTC. Every Filetime has one, and FiletimeOf gives it back unchanged.
func (f Filetime) Time() time.Time {
	sec, ticks := int64(f)/filetimePerSec, int64(f)%filetimePerSec
	if ticks < 0 {
		sec, ticks = sec-1, ticks+filetimePerSec
	}
	return time.Unix(sec+filetimeEpoch, ticks*100).UTC()
}

// FiletimeOf returns the 100 ns that t falls in. It fails where t is further from 1601 than the
// wire can say, some 29,227 years.
func FiletimeOf(t time.Time) (Filetime, error) {
	sec := t.Unix() - filetimeEpoch
	ticks := int64(t.Nanosecond() / 100)
	const last = math.MaxInt64 / int64(filetimePerSec)
	if sec < -last-1 || sec > last {
		return 0, fmt.Errorf("fsrvp: %v is out of a FILETIME's range", t)
	}
	// Around both ends the seconds alone may not fit; the sum decides.
	if sec < 0 {
		sec, ticks = sec+1, ticks-filetimePerSec
	}
	f := sec*filetimePerSec + ticks
	if (sec > 0 && f < 0) || (sec < 0 && f > 0) {
		return 0, fmt.Errorf("fsrvp: %v is out of a FILETIME's range", t)
	}
	return Filetime(f), nil
}
