package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// socketName is the socket of a running agent, in the directory of its state. Root, or the user of
// the agent, sends a request in JSON and gets a reply.
const socketName = "admin.sock"

const (
	maxRequest  = 64 << 10
	requestWait = 10 * time.Second
)

// errNotRunning is what askSocket returns when no agent has the socket.
var errNotRunning = errors.New("no agent is running with this state")

// A socket serves administrators.
type socket struct {
	l      net.Listener
	cancel context.CancelFunc
	conns  sync.WaitGroup
}

// listenAdmin serves administrators of an agent until close. The state's lock is the agent's: a
// socket that is there is an old one.
func listenAdmin(dir string, a *agent.Agent, log *slog.Logger) (*socket, error) {
	path := filepath.Join(dir, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := listenUnix(path)
	if err != nil {
		return nil, fmt.Errorf("the administrator's socket: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &socket{l: l, cancel: cancel}
	s.conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.conns.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				if err := serveAdmin(ctx, c, a); err != nil {
					log.Warn("administrator's request failed", "err", err)
				}
			})
		}
	})
	return s, nil
}

func (s *socket) close() error {
	s.cancel()
	err := s.l.Close()
	s.conns.Wait()
	return err
}

func serveAdmin(ctx context.Context, c net.Conn, a *agent.Agent) error {
	if err := checkPeer(c); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(requestWait)); err != nil {
		return err
	}
	var req request
	if err := json.NewDecoder(io.LimitReader(c, maxRequest)).Decode(&req); err != nil {
		return err
	}
	return json.NewEncoder(c).Encode(answer(ctx, a, &req))
}

// askSocket sends a request to the agent that runs.
func askSocket(ctx context.Context, dir string, req *request) (*reply, error) {
	c, err := dialUnix(ctx, filepath.Join(dir, socketName))
	if err != nil {
		if isNotRunning(err) {
			return nil, errNotRunning
		}
		return nil, fmt.Errorf("the agent's socket: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := json.NewEncoder(c).Encode(req); err != nil {
		return nil, err
	}
	var r reply
	if err := json.NewDecoder(c).Decode(&r); err != nil {
		return nil, fmt.Errorf("the agent has not answered: %w", err)
	}
	return &r, nil
}
