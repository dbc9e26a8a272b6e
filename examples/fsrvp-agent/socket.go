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

// listenAdmin serves administrators of an agent until close.
func listenAdmin(dir string, a *agent.Agent, log *slog.Logger) (*socket, error) {
	path := filepath.Join(dir, socketName)
	if err := removeOld(path); err != nil {
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

// removeOld removes the socket that an agent has left. It fails where an agent listens to it: one
// of a cluster, whose lock is not in this directory; or where it is no socket.
func removeOld(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is in the way: it is not a socket", path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestWait)
	defer cancel()
	c, err := dialUnix(ctx, path)
	if err == nil {
		return errors.Join(fmt.Errorf("%s is that of another agent, which is running; give each a directory of its own by -state", path), c.Close())
	}
	if !isNotRunning(err) {
		return err
	}
	return os.Remove(path)
}

func (s *socket) close() error {
	s.cancel()
	err := s.l.Close()
	s.conns.Wait()
	return err
}

func serveAdmin(ctx context.Context, c net.Conn, a *agent.Agent) error {
	if err := c.SetDeadline(time.Now().Add(requestWait)); err != nil {
		return err
	}
	if err := checkPeer(c); err != nil {
		return errors.Join(err, json.NewEncoder(c).Encode(&reply{Error: err.Error()}))
	}
	var req request
	if err := json.NewDecoder(io.LimitReader(c, maxRequest)).Decode(&req); err != nil {
		return err
	}
	if err := c.SetDeadline(time.Time{}); err != nil { // the answer may take long
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
	errSent := json.NewEncoder(c).Encode(req) // where it is refused, the answer says why
	var r reply
	if err := json.NewDecoder(c).Decode(&r); err != nil {
		return nil, fmt.Errorf("the agent has not answered: %w", errors.Join(errSent, err))
	}
	return &r, nil
}
