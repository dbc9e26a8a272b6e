package samba

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// Unexpose removes an exposed share and disconnects all its users. The base share need not exist.
// After an error it must be called again; it also fails if somebody is still connected after
// Config.DisconnectWait. If the share is not an exposed copy, or belongs to another agent, Unexpose
// leaves it alone and returns an error.
func (s *Shares) Unexpose(ctx context.Context, owner backend.Owner, name string) error {
	return s.UnexposeShares(ctx, owner, []string{name})
}

// UnexposeShares removes each of them, as Unexpose does. The helper does it in one transaction;
// programs disconnect the users of all shares at once.
func (s *Shares) UnexposeShares(ctx context.Context, owner backend.Owner, names []string) error {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return nameFault(name) != "" // no such share can have been made
	})
	if len(names) == 0 {
		return nil
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if s.helper != nil {
		err := s.unexposeByHelper(ctx, owner, names)
		if !errors.Is(err, errHelper) {
			return err
		}
		s.log.WarnContext(ctx, "samba: programs remove what the helper has not", "shares", names, "why", err)
	}
	c, err := s.confOf(ctx, names...)
	if err != nil {
		return err
	}
	var there, gone []string
	var errs []error
	for _, name := range names {
		share := c.share(name)
		if share == nil {
			gone = append(gone, name)
			continue
		}
		if err := mayTouch(share, owner); err != nil {
			errs = append(errs, err)
			continue
		}
		there = append(there, name)
	}
	for _, name := range there {
		if err := s.delete(ctx, name); err != nil {
			errs = append(errs, err)
			continue
		}
		gone = append(gone, name)
	}
	return errors.Join(append(errs, s.disconnect(ctx, gone...))...)
}

// unexposeByHelper is UnexposeShares by the helper. An error that wraps errHelper is for programs
// to do it all.
func (s *Shares) unexposeByHelper(ctx context.Context, owner backend.Owner, names []string) error {
	shares, err := s.helper.get(ctx, names...)
	if err != nil {
		return err
	}
	var cut, plain []string
	var errs []error
	var descriptors []byte
	for i, share := range shares {
		if share == nil {
			if v := s.seen.Load(); !v.filesSame() || v.conf.share(names[i]) != nil {
				return fmt.Errorf("samba: %w: share %q may be in smb.conf", errHelper, names[i])
			}
			cut = append(cut, names[i])
			continue
		}
		if err := mayTouch(share, owner); err != nil {
			errs = append(errs, err)
			continue
		}
		cut = append(cut, share.name)
		if descriptors == nil {
			descriptors = s.descriptorDatabase()
		}
		if !s.mayHaveDescriptor(share.name, descriptors) {
			plain = append(plain, share.name)
			continue
		}
		if err := s.delete(ctx, share.name); err != nil { // with its descriptor
			return errors.Join(append(errs, err)...)
		}
	}
	if len(cut) > 0 {
		errs = append(errs, s.endUse(ctx, plain, cut))
	}
	return errors.Join(errs...)
}

// endUse deletes some shares and ends all use of others by the helper, or that by programs where it
// finds no smbd.
func (s *Shares) endUse(ctx context.Context, deleted, used []string) error {
	err := s.helper.remove(ctx, deleted, used)
	if errors.Is(err, errNoSMBD) {
		return s.disconnect(ctx, used...)
	}
	return err
}

// List returns the exposed shares. Shares that are half-made or half-sealed, so that no client can
// use them, are Partial.
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

// remove deletes a share, unless it is not there, and disconnects who uses it. That is done for a
// share that is not there too: it may have been deleted before a crash. Smbd processes that know a
// share go on serving it until they are told.
func (s *Shares) remove(ctx context.Context, name string, there bool) error {
	if there {
		if err := s.delete(ctx, name); err != nil {
			return err
		}
	}
	return s.disconnect(ctx, name)
}

// removeMade removes shares that were just made, or may have been, by programs: none of the names
// was there before, and each has the id of a copy of this agent's. One that is there now and is not
// this agent's, as far as Samba shows it, stays.
func (s *Shares) removeMade(ctx context.Context, list []backend.Exposure, names []string) error {
	ctx = context.WithoutCancel(ctx)
	if len(names) == 0 {
		return nil
	}
	shown, shownErr := s.conf(ctx)
	var errs []error
	var gone []string
	for _, e := range list {
		if !slices.Contains(names, e.Name) {
			continue
		}
		var err error
		if shownErr == nil {
			if share := shown.share(e.Name); share != nil {
				err = mayTouch(share, e.Mark.Owner)
			}
		}
		if err == nil {
			err = s.delete(ctx, e.Name)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		gone = append(gone, e.Name)
	}
	return errors.Join(append(errs, s.disconnect(ctx, gone...))...)
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

// disconnect ends all use of shares that have been deleted or made unavailable, and returns when
// nobody is connected to them.
func (s *Shares) disconnect(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, s.disconnectWait)
	defer cancel()
	for _, name := range names {
		if err := s.closeShare(ctx, name); err != nil {
			return err
		}
	}
	if err := s.reload(ctx); err != nil {
		return err
	}
	for delay := 5 * time.Millisecond; ; delay = min(2*delay, 250*time.Millisecond) {
		out, err := s.tools.run(ctx, "smbstatus", "--shares")
		if err != nil {
			return err
		}
		var used, pids []string
		for _, name := range names {
			if users := usersOf(out, name); len(users) > 0 {
				used = append(used, name)
				pids = append(pids, users...)
			}
		}
		if len(used) == 0 {
			return nil
		}
		select {
		case <-time.After(delay):
		case <-limited.Done():
			if ctx.Err() != nil {
				return fmt.Errorf("samba: %w", context.Cause(ctx))
			}
			return fmt.Errorf("samba: share %s is still in use after %v, by smbd processes %s", quoted(used),
				s.disconnectWait, strings.Join(pids, ", "))
		}
		// Again: a client may have come by a process that had not been told yet.
		for _, name := range used {
			if err := s.closeShare(ctx, name); err != nil {
				return err
			}
		}
	}
}

// quoted lists names.
func quoted(names []string) string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = strconv.Quote(name)
	}
	return strings.Join(list, ", ")
}

// closeShare tells every smbd process to disconnect the users of a share. There is no answer.
func (s *Shares) closeShare(ctx context.Context, name string) error {
	_, err := s.tools.run(ctx, "smbcontrol", "all", "close-share", name)
	return err
}

// reload tells every process of Samba to read the shares again. There is no answer.
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

// isPID reports whether a word is a process id, which in a cluster has a node before it: "0:1234".
func isPID(word string) bool {
	return strings.Trim(word, "0123456789:") == ""
}
