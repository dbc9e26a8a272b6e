package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// A supervisor is the service manager that has started the process, as systemd: it is told when the
// agent is ready, what it is doing, and, where it asks for that, that the agent still answers.
// Without one, nothing is told to anybody.
type supervisor struct {
	monitor  *monitor
	log      *slog.Logger
	watchdog time.Duration // how often the manager wants to hear of the agent; 0: not at all
	send     func(state string) error
}

func newSupervisor(m *monitor, log *slog.Logger) *supervisor {
	s := &supervisor{monitor: m, log: log, send: func(state string) error {
		_, err := daemon.SdNotify(false, state)
		return err
	}}
	var err error
	if s.watchdog, err = daemon.SdWatchdogEnabled(false); err != nil {
		log.Warn("the service manager's watchdog is not fed", "err", err)
	}
	return s
}

func (s *supervisor) notify(state string) {
	if err := s.send(state); err != nil {
		s.log.Warn("the service manager cannot be told of the agent's state", "err", err)
	}
}

func (s *supervisor) ready() {
	s.notify(daemon.SdNotifyReady + "\nSTATUS=" + s.monitor.status())
}

func (s *supervisor) stopping() {
	s.notify(daemon.SdNotifyStopping + "\nSTATUS=ending the calls under way")
}

func (s *supervisor) reloading() {
	s.notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec() + "\nSTATUS=reading the configuration")
}

// run keeps the manager informed until ctx ends. The watchdog is fed only while the agent answers.
func (s *supervisor) run(ctx context.Context) {
	var feed <-chan time.Time
	if s.watchdog > 0 {
		t := time.NewTicker(s.watchdog / 4)
		defer t.Stop()
		feed = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.monitor.changed:
			s.notify("STATUS=" + s.monitor.status())
		case <-feed:
			if err := s.monitor.answers(ctx, s.watchdog/4); err == nil {
				s.notify(daemon.SdNotifyWatchdog)
			} else if ctx.Err() == nil {
				s.log.Error("the agent does not answer; the service manager's watchdog ends it soon", "err", err)
			}
		}
	}
}

// fromSystemd returns the TCP sockets that systemd has passed.
func fromSystemd() ([]net.Listener, error) {
	list, err := activation.Listeners()
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("systemd has passed no socket; start the agent by its socket unit, as fsrvp-agent.socket, or listen at tcp:HOST:PORT")
	}
	for i, l := range list {
		_, ok := l.(*net.TCPListener)
		if !ok {
			err = errors.Join(err,
				fmt.Errorf("socket %d that systemd has passed is no listening TCP socket; the socket unit needs ListenStream=HOST:PORT", i))
		}
	}
	if err != nil {
		for _, l := range list {
			if l != nil {
				l.Close()
			}
		}
		return nil, err
	}
	return list, nil
}
