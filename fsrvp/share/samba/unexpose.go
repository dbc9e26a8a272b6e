package samba

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// Unexpose removes an exposed share and disconnects all its users. The base share need not be there. After a failure, also
// that somebody is still connected after Config.DisconnectWait, it has to be called again. A share of that
// name that is no exposed copy, or another agent's, is left alone, and an error.
func (s *Shares) Unexpose(ctx context.Context, owner backend.Owner, name string) error {
	if nameFault(name) != "" {
		return nil // no such share can have been made
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	c, err := s.conf(ctx)
	if err != nil {
		return err
	}
	share := c.share(name)
	if share != nil {
		if err := mayTouch(share, owner); err != nil {
			return err
		}
	}
	return s.remove(ctx, name, share != nil)
}

// List returns the exposed shares. Those that are half-made or half-sealed, which no client can use, are Partial.
func (s *Shares) List(ctx context.Context, owner backend.Owner) (own, foreign []backend.ExposedShare, err error) {
	if err := s.lock(ctx); err != nil {
		return nil, nil, err
	}
	defer s.unlock()
	c, err := s.conf(ctx)
	if err != nil {
		return nil, nil, err
	}
	for i := range c.shares {
		share := &c.shares[i]
		if !isExposed(share) {
			continue
		}
		mark, err := markOf(share)
		if err != nil {
			s.log.WarnContext(ctx, "an exposed share that is left alone", "share", share.name, "err", err)
			continue
		}
		found := backend.ExposedShare{Name: share.name, Mark: mark, Partial: !c.available(share)}
		if mark.Owner == owner {
			own = append(own, found)
		} else {
			foreign = append(foreign, found)
		}
	}
	return own, foreign, nil
}

// remove deletes a share, unless it is not there, and disconnects who uses it. That is done for a share that is not there too: it may
// have been deleted before a crash. Smbd processes that know a share go on serving it until they are told.
func (s *Shares) remove(ctx context.Context, name string, there bool) error {
	if there {
		if err := s.delete(ctx, name); err != nil {
			return err
		}
	}
	return s.disconnect(ctx, name)
}

// delete deletes a share, which may be gone, and its security descriptor.
func (s *Shares) delete(ctx context.Context, name string) error {
	_, err := s.tools.run(ctx, "net", "conf", "delshare", name)
	if err == nil {
		return nil
	}
	if c, confErr := s.conf(ctx); confErr == nil && c.share(name) == nil {
		return nil
	}
	return err
}

// disconnect ends all use of a share that has been deleted or made unavailable, and returns when nobody is connected to it.
func (s *Shares) disconnect(ctx context.Context, name string) error {
	limited, cancel := context.WithTimeout(ctx, s.disconnectWait)
	defer cancel()
	if err := s.closeShare(ctx, name); err != nil {
		return err
	}
	if err := s.reload(ctx); err != nil {
		return err
	}
	for delay := 5 * time.Millisecond; ; delay = min(2*delay, 250*time.Millisecond) {
		out, err := s.tools.run(ctx, "smbstatus", "--shares")
		if err != nil {
			return err
		}
		users := usersOf(out, name)
		if len(users) == 0 {
			return nil
		}
		select {
		case <-time.After(delay):
		case <-limited.Done():
			if ctx.Err() != nil {
				return fmt.Errorf("samba: %w", context.Cause(ctx))
			}
			return fmt.Errorf("samba: share %q is still in use after %v, by smbd processes %s", name, s.disconnectWait, strings.Join(users, ", "))
		}
		// Again: a client may have come by a process that had not been told yet.
		if err := s.closeShare(ctx, name); err != nil {
			return err
		}
	}
}

// closeShare has every smbd process disconnect who uses a share. Nobody answers.
func (s *Shares) closeShare(ctx context.Context, name string) error {
	_, err := s.tools.run(ctx, "smbcontrol", "all", "close-share", name)
	return err
}

// reload has every process of Samba's read shares anew. Nobody answers.
func (s *Shares) reload(ctx context.Context) error {
	_, err := s.tools.run(ctx, "smbcontrol", "all", "reload-config")
	return err
}

// usersOf finds the smbd processes by which somebody is connected to a share in what "smbstatus --shares" prints:
//
//	Service      pid     Machine       Connected at                     Encryption   Signing
//	---------------------------------------------------------------------------------------------
//	vms          1234    10.99.0.3     Thu Jan  1 00:00:00 1970 UTC     -            -
func usersOf(out, name string) []string {
	var pids []string
	for line := range strings.Lines(out) {
		if len(line) <= len(name) || !strings.EqualFold(line[:len(name)], name) {
			continue
		}
		rest := line[len(name):]
		fields := strings.Fields(rest)
		if rest[0] == ' ' && len(fields) > 0 && isPID(fields[0]) && !slices.Contains(pids, fields[0]) {
			pids = append(pids, fields[0])
		}
	}
	return pids
}

// isPID tells whether a word is a process id, which in a cluster has a node before it: "0:1234".
func isPID(word string) bool {
	return strings.Trim(word, "0123456789:") == ""
}
