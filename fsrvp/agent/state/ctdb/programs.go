//go:build linux

package ctdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

// memberPrefix precedes the number of a node in its name.
const memberPrefix = "node"

// programTimeout bounds CTDB's program, which would wait for ever for a daemon that hangs.
const programTimeout = 10 * time.Second

func (c *Config) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, programTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Program, args...)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("ctdb: \"%s %s\": %w: %s", c.Program, strings.Join(args, " "), err,
			bytes.TrimSpace(stderr.Bytes()))
	}
	return string(out), nil
}

// pnn returns CTDB's number of this node.
func (c *Config) pnn(ctx context.Context) (int, error) {
	out, err := c.run(ctx, "pnn")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(out), "PNN:"))
}

// life returns what CTDB knows about a node.
func (s *Store) life(ctx context.Context, member string) (state.Life, error) {
	digits, ok := strings.CutPrefix(member, memberPrefix)
	pnn, err := strconv.Atoi(digits)
	if !ok || err != nil {
		return state.Present, nil // not a name from CTDB
	}
	nodes, err := s.nodes(ctx)
	if err != nil {
		return state.Present, err
	}
	return judge(nodes, pnn), nil
}

// ownLife is what the cluster says of this node.
func (s *Store) ownLife(ctx context.Context) (state.Life, error) {
	if s.cfg.Life != nil {
		return s.cfg.Life(ctx, s.cfg.Member)
	}
	nodes, err := s.nodes(ctx)
	if err != nil {
		return state.Lost, err
	}
	for _, n := range nodes {
		if n.this && n.out {
			return state.Lost, nil
		}
	}
	return state.Present, nil
}

// checkCluster makes sure that those who have the table open are of this cluster: a directory that
// two clusters reach is for one of them. A member's file has the address by which CTDB knows it.
func (s *Store) checkCluster(ctx context.Context) error {
	nodes, err := s.nodes(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if n.this {
			s.addr = n.addr
		}
	}
	for _, n := range nodes {
		member := fmt.Sprint(memberPrefix, n.pnn)
		if member == s.cfg.Member {
			continue
		}
		b, err := readFile(s.cfg.lockPath(member))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		free, err := s.isFree(member)
		if err != nil {
			return err
		}
		if addr := strings.TrimSpace(string(b)); !free && addr != "" && addr != n.addr {
			return fmt.Errorf("the table in %s is that of another cluster, whose %s has the address %s, and is open there; give each cluster a directory of its own",
				s.cfg.Dir, member, addr)
		}
	}
	return s.signLock()
}

// signLock writes this node's address to the file of its lock.
func (s *Store) signLock() error {
	if s.addr == "" {
		return nil
	}
	if err := s.lock.Truncate(0); err != nil {
		return err
	}
	_, err := s.lock.WriteAt([]byte(s.addr+"\n"), 0)
	return err
}

// statusAge is the largest age of an answer of CTDB.
const statusAge = 900 * time.Millisecond

// nodes returns CTDB's status of all nodes.
func (s *Store) nodes(ctx context.Context) ([]node, error) {
	s.status.Lock()
	defer s.status.Unlock()
	if time.Since(s.status.at) < statusAge {
		return s.status.nodes, nil
	}
	out, err := s.cfg.run(ctx, "-X", "status")
	if err != nil {
		return nil, err
	}
	nodes, err := parseStatus(out)
	if err == nil {
		s.status.at, s.status.nodes = time.Now(), nodes
	}
	return nodes, err
}

// A node is one line of CTDB's status.
type node struct {
	pnn  int
	addr string
	out  bool // of the cluster: disconnected, banned, stopped or deleted
	this bool // it is the node that was asked
}

// judge returns the Life of a node in the view of the asked node. If that one is itself out of the
// cluster, its view does not count.
func judge(nodes []node, pnn int) state.Life {
	life, inside := state.Present, false
	for _, n := range nodes {
		if n.pnn == pnn && n.out {
			life = state.Lost
		}
		inside = inside || n.this && !n.out
	}
	if !inside {
		return state.Present
	}
	return life
}

// parseStatus reads what "ctdb -X status" prints: a line with the names of columns, and one for
// each node.
func parseStatus(out string) ([]node, error) {
	var columns []string
	var nodes []node
	for line := range strings.Lines(out) {
		fields := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if columns == nil {
			columns = fields
			continue
		}
		if len(fields) < 2 {
			continue
		}
		pnn, err := strconv.Atoi(fields[0])
		if err != nil {
			return nil, fmt.Errorf("ctdb: unknown status %q", line)
		}
		n := node{pnn: pnn}
		for i, f := range fields {
			if i >= len(columns) {
				break
			}
			switch columns[i] {
			case "Disconnected", "Unknown", "Banned", "Stopped", "Inactive", "Deleted":
				n.out = n.out || f == "1"
			case "IP":
				n.addr = f
			case "ThisNode":
				n.this = f == "Y"
			}
		}
		nodes = append(nodes, n)
	}
	if len(nodes) == 0 {
		return nil, errors.New("ctdb: the program printed no status")
	}
	return nodes, nil
}
