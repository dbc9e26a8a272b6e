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

// DefaultCleanUpLimit is how long Run takes at most to remove what it has made.
const DefaultCleanUpLimit = 2 * time.Minute

// Config says how Run replays. Exactly one of Service and Dial is required.
type Config struct {
	// Service is what all calls are made on. It is not closed.
	Service fsrvp.Service
	// Dial connects for one Connection of the recording, when its first call is due; the context
	// bounds that alone. A Service that is an io.Closer is closed after its last call. What was
	// made is removed over connections of their own. Dial is called by one goroutine at a time.
	Dial func(ctx context.Context, recorded transcript.Connection) (fsrvp.Service, error)

	// Shares says what a host and a share of the recording are called today. The path below a share
	// is kept, and not given to it. It is given exposed shares by the name of the share that was
	// copied ("vms" for "vms@{id}"), and the machine of IsPathSupported's answer as a host without
	// a share. Names that are no UNC paths are replayed as they are. It may be called by several
	// goroutines at once. Nil: names stay. See ShareMap.
	Shares func(fsrvp.ShareName) fsrvp.ShareName
	// TimeoutScale is what the time-outs of Prepare, Commit and Expose are multiplied by;
	// 0xFFFFFFFF, without end, and zero stay. Zero: 1.
	TimeoutScale float64
	// Speed keeps the calls' distances in time, divided by it: 1 is the pace of the recording, 10
	// ten times as fast. Zero: each call is made as soon as its order allows.
	Speed float64
	// Tolerate are rules of differences that are no matter: they are counted, and nothing else.
	Tolerate []Rule
	// Keep leaves on the server what the recording left there, when all of it was replayed. False:
	// sets that the replay has made and that are still there are removed at the end.
	Keep bool
	// CleanUpLimit bounds the removal. Zero: DefaultCleanUpLimit.
	CleanUpLimit time.Duration

	// OnCall is told of every call that has ended, one at a time, in the order in which they end.
	// It holds up the calls that wait for this one. Nil: nobody is told.
	OnCall func(*Result)
}

// A Result is what became of one call of a replay.
type Result struct {
	Index    int                  // of the Exchange in the recording that Run was given
	Exchange *transcript.Exchange // as it was recorded
	// Request is what was sent: the recorded one in today's ids and names, with its time-out
	// scaled.
	Request fsrvp.Message
	// One of these is what came of it: a response, a fault, or an error, which ends the replay.
	Response fsrvp.Response
	Fault    *dcerpc.Fault
	Err      error
	// Time and ResponseTime are when the call began and ended.
	Time, ResponseTime time.Time
	// Differences from the recording; nil where it has no answer to compare with.
	Differences []Difference
	// Tolerated are those that Config.Tolerate has rules for.
	Tolerated []Difference
}

// A Report is what came of a replay.
type Report struct {
	Calls       int // that were answered
	Same        int // of these, those that were answered as they were recorded, or as Config.Tolerate lets them
	Different   int // of these, those with differences
	Unanswered  int // of these, those whose recorded answer is not known, so that nothing was compared
	Tolerated   int // differences that Config.Tolerate has rules for
	Differences []Difference
	// Removed are the sets that Run removed at the end, Left those that it could not remove.
	Removed, Left []fsrvp.SetID
	Elapsed       time.Duration // of the calls, without the removal
}

// withDefaults checks the Config and returns a copy without zero values.
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
