package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/replay"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// A callSummary is the result of a replay against a server.
type callSummary struct {
	Calls       int           `json:"calls"`
	Recorded    int           `json:"recorded"`
	Same        int           `json:"same"`
	Different   int           `json:"different"`
	Unanswered  int           `json:"unanswered"`
	Differences int           `json:"differences"`
	Tolerated   int           `json:"tolerated"`
	Removed     []fsrvp.SetID `json:"removed"`
	Left        []fsrvp.SetID `json:"left"`
	Seconds     float64       `json:"seconds"`
}

func (s *callSummary) String() string {
	text := fmt.Sprintf("%d of %d calls in %v: %d as recorded, %d different (%d results)", s.Calls, s.Recorded,
		time.Duration(s.Seconds*float64(time.Second)).Round(time.Millisecond), s.Same, s.Different, s.Differences)
	if s.Tolerated > 0 {
		text += fmt.Sprintf(", %d results tolerated", s.Tolerated)
	}
	if s.Unanswered > 0 {
		text += fmt.Sprintf(", %d without an answer in the recording", s.Unanswered)
	}
	for _, id := range s.Removed {
		text += fmt.Sprintf("\nremoved shadow copy set %v, which was left at the end", id)
	}
	for _, id := range s.Left {
		text += fmt.Sprintf("\nSHADOW COPY SET %v IS STILL ON THE SERVER: abort it, or delete its share mappings", id)
	}
	return text
}

// call replays against the server, with one connection for each of the recording's.
func (o *options) call(ctx context.Context, recording []*transcript.Exchange, out io.Writer, p *printer) (differs bool,
	err error) {
	access, err := o.cred.Access()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, access.Close()) }()
	recorders := &recorders{out: transcript.NewWriter(out)}
	report, err := replay.Run(ctx, recording, &replay.Config{
		Dial: func(ctx context.Context, _ transcript.Connection) (fsrvp.Service, error) {
			return fsrvp.Dial(ctx, o.server, access.Client)
		},
		Shares:       o.shares.Rewrite,
		TimeoutScale: o.timeoutScale,
		Speed:        o.speed,
		Tolerate:     o.rules,
		Keep:         o.keep,
		OnCall: func(r *replay.Result) {
			for i := range r.Differences {
				p.line(&r.Differences[i])
			}
			recorders.write(o.server, r)
		},
	})
	p.summary(&callSummary{
		Calls: report.Calls, Recorded: len(recording), Same: report.Same, Different: report.Different, Unanswered: report.Unanswered,
		Differences: len(report.Differences), Tolerated: report.Tolerated, Removed: report.Removed, Left: report.Left, Seconds: report.Elapsed.Seconds(),
	})
	return report.Different > 0, errors.Join(err, p.Err(), recorders.err)
}

// recorders writes the answers in a replay.
type recorders struct {
	out *transcript.Writer
	err error
}

func (r *recorders) write(server string, res *replay.Result) {
	e := &transcript.Exchange{
		Time: res.Time, ResponseTime: res.ResponseTime, Connection: res.Exchange.Connection,
		Request: res.Request, Response: res.Response, Fault: res.Fault,
	}
	e.Server = server
	if res.Err != nil {
		e.ResponseTime, e.Error = time.Time{}, res.Err.Error()
	}
	if err := r.out.Write(e); err != nil && r.err == nil {
		r.err = fmt.Errorf("-out: %w", err)
	}
}
