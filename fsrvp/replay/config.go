package replay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// DefaultCleanUpLimit is the longest time that [Run] takes to remove what it has made.
const DefaultCleanUpLimit = 2 * time.Minute

// Config configures [Run]. Exactly one of Service and Dial is required.
type Config struct {
	// Service gets all calls. It is not closed.
	Service fsrvp.Service
	// Dial connects for one Connection of the recording, when its first call is due; the context
	// bounds only the dialing. A Service that is an [io.Closer] is closed after its last call. The
	// clean-up uses new connections. Dial is called by one goroutine at a time.
	Dial func(ctx context.Context, recorded transcript.Connection) (fsrvp.Service, error)

	// Shares returns today's host and share for those of the recording. It does not get the path
	// below a share, which is kept. It gets an exposed share by the name of the copied share ("vms"
	// for "vms@{id}"), and the machine in an answer of IsPathSupported as a host without a share.
	// Names that are not UNC paths are replayed unchanged. It must be safe for concurrent use. Nil
	// means that names stay the same. See [ShareMap].
	Shares func(fsrvp.ShareName) fsrvp.ShareName
	// TimeoutScale multiplies the time-outs of Prepare, Commit and Expose; 0xFFFFFFFF (no end) and
	// zero stay. Zero means 1.
	TimeoutScale float64
	// Speed divides the time between calls: 1 is the pace of the recording, 10 is ten times as
	// fast. Zero means that each call is made as soon as its order allows.
	Speed float64
	// Tolerate has rules for differences that do not matter: Run only counts them.
	Tolerate []Rule
	// Keep leaves on the server what the recording left there, if all of it was replayed. Otherwise
	// the remaining sets of the replay are removed at the end.
	Keep bool
	// CleanUpLimit bounds the clean-up. Zero means [DefaultCleanUpLimit].
	CleanUpLimit time.Duration

	// OnCall, if not nil, is called after every call, one at a time, in the order in which they
	// end. Calls that must follow this one wait for it.
	OnCall func(*Result)
}

// A Result is the result of one call of a replay.
type Result struct {
	Index    int                  // of the Exchange in the recording that Run was given
	Exchange *transcript.Exchange // as it was recorded
	// Request is the request that was sent: the recorded one with today's ids and names, and its
	// time-out scaled.
	Request fsrvp.Message
	// One of these is set: a response, a fault, or an error, which ends the replay.
	Response fsrvp.Response
	Fault    *dcerpc.Fault
	Err      error
	// Time and ResponseTime are when the call began and ended.
	Time, ResponseTime time.Time
	// Differences from the recording; nil if the recorded answer is not known.
	Differences []Difference
	// Tolerated are the differences that match a rule of Config.Tolerate.
	Tolerated []Difference
}

// A Report sums up a replay.
type Report struct {
	Calls       int // answered calls
	Same        int // of these, those with the recorded answer, or with tolerated differences only
	Different   int // of these, those with differences
	Unanswered  int // of these, those whose recorded answer is not known, so that there was nothing to compare
	Tolerated   int // differences that match a rule of Config.Tolerate
	Differences []Difference
	// Removed are the sets that Run removed at the end, and Left those that it could not remove.
	Removed, Left []fsrvp.SetID
	Elapsed       time.Duration // of the calls, without the clean-up
}

// withDefaults checks the Config and returns a copy with its defaults set.
func (cfg *Config) withDefaults() (*Config, error) {
	if cfg == nil || (cfg.Service == nil) == (cfg.Dial == nil) {
		return nil, errors.New("replay: Config needs either a Service or a Dial")
	}
	c := *cfg
	if c.TimeoutScale == 0 {
		c.TimeoutScale = 1
	}
	if err := checkFactor("TimeoutScale", c.TimeoutScale); err != nil {
		return nil, err
	}
	if err := checkFactor("Speed", c.Speed); err != nil {
		return nil, err
	}
	if c.CleanUpLimit <= 0 {
		c.CleanUpLimit = DefaultCleanUpLimit
	}
	if c.OnCall == nil {
		c.OnCall = func(*Result) {}
	}
	return &c, nil
}

func checkFactor(name string, f float64) error {
	if f < 0 || math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Errorf("replay: %s is %v", name, f)
	}
	return nil
}

// divide returns d/speed.
func divide(d time.Duration, speed float64) time.Duration {
	f := float64(d) / speed
	if f >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(f)
}

// scaled returns a request with its time-out multiplied. The request may be changed.
func scaled(m fsrvp.Message, scale float64) fsrvp.Message {
	var ms *uint32
	switch m := m.(type) {
	case *fsrvp.PrepareShadowCopySetRequest:
		ms = &m.TimeOutInMilliseconds
	case *fsrvp.CommitShadowCopySetRequest:
		ms = &m.TimeOutInMilliseconds
	case *fsrvp.ExposeShadowCopySetRequest:
		ms = &m.TimeOutInMilliseconds
	default:
		return m
	}
	const infinite = math.MaxUint32
	if *ms != infinite && *ms != 0 {
		*ms = uint32(min(max(math.Ceil(float64(*ms)*scale), 1), infinite-1))
	}
	return m
}
