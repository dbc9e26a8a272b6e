package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// level is what is logged.
func (o *options) level() slog.Level {
	if o.verbose {
		return slog.LevelDebug
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(o.logLevel)); err != nil {
		return slog.LevelInfo
	}
	return l
}

// A reloader reads the configuration again while the agent is at work.
type reloader struct {
	args       []string // of the process: flags go before the file
	current    *options // in force; the reloader's goroutine alone changes it
	agent      *agent.Agent
	access     *access
	level      *slog.LevelVar
	monitor    *monitor
	supervisor *supervisor
	log        *slog.Logger

	drainFor atomic.Int64 // a time.Duration
}

// run reloads at each SIGHUP until ctx ends.
func (r *reloader) run(ctx context.Context, hangups <-chan os.Signal) {
	for {
		select {
		case <-hangups:
			r.supervisor.reloading()
			r.monitor.reloaded(r.reload())
			r.supervisor.ready()
		case <-ctx.Done():
			return
		}
	}
}

// reload takes over what has changed and can be taken over, and says of the rest that it cannot. It
// returns an error where the file has mistakes: then nothing changes.
func (r *reloader) reload() error {
	if r.current.config == "" {
		r.log.Info("SIGHUP: there is no configuration file to read again, since the agent was started without -config; nothing has changed")
		return nil
	}
	next, err := parse(r.args, io.Discard)
	if err != nil {
		for _, line := range strings.Split(err.Error(), "\n") {
			r.log.Error("SIGHUP: the configuration has a mistake; nothing has changed", "mistake", line)
		}
		return err
	}
	refused := false
	var taken []string
	merged := *r.current
	for _, name := range changes(r.current, next) {
		s := settingNamed(name)
		if why := r.fixed(s, next); why != "" {
			refused = true
			r.log.Warn("SIGHUP: a setting is not taken over", "setting", next.from.where(s), "why", why)
			continue
		}
		taken = append(taken, name)
		s.copy(&merged, next)
	}
	if err := r.access.reload(&merged); err != nil {
		r.log.Error("SIGHUP: nothing has changed", "err", err)
		return err
	}
	if err := r.agent.SetAccess(merged.allow, merged.exact); err != nil { // parse has looked at them: it cannot be
		return err
	}
	r.level.Set(merged.level())
	r.drainFor.Store(int64(merged.drain))
	merged.from = next.from
	r.current = &merged
	r.monitor.configure(r.current)
	r.log.Info("SIGHUP: the configuration was read again", "file", merged.config, "taken over",
		strings.Join(taken, " "), "all", !refused)
	return nil
}

// fixed returns why a setting's new value cannot be taken over; "": it can.
func (r *reloader) fixed(s *setting, next *options) string {
	switch {
	case !s.reload:
		return fmt.Sprintf("%s is read at the start alone; restart the agent, whose persistent sets stay", s.name)
	case (s.name == "keytab" || s.name == "ntlm-users") &&
		(len(s.values(r.current)) == 0) != (len(s.values(next)) == 0):
		return fmt.Sprintf("%s can name another file, but a mechanism of security comes and goes with a restart of the agent alone", s.name)
	}
	return ""
}

// drain returns how long calls may take to end.
func (r *reloader) drain() time.Duration { return time.Duration(r.drainFor.Load()) }

// where names all places of a setting.
func (f *origin) where(s *setting) string {
	lines := f.lines[s.name]
	if len(lines) == 0 {
		return string(f.missing(s.name))
	}
	places := make([]string, 0, len(lines))
	for i := range lines {
		places = append(places, string(f.at(s.name, i)))
	}
	return strings.Join(slices.Compact(places), ", ")
}
