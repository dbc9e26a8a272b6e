package agent

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// AddToShadowCopySet implements [fsrvp.Service] (MS-FSRVP 3.1.4.4). The agent ignores the client's
// id of the copy, except that the Strict profile refuses a null id.
func (a *Agent) AddToShadowCopySet(ctx context.Context, client fsrvp.CopyID, set fsrvp.SetID,
	share string) (fsrvp.CopyID, error) {
	return answer(ctx, a, fsrvp.OpAddToShadowCopySet, func(c *call) (id fsrvp.CopyID, err error) {
		c.set(set)
		c.share(share)
		if a.cfg.Profile == Strict && client == (fsrvp.CopyID{}) {
			return id, fmt.Errorf("agent: the client's copy id is null: %w", fsrvp.ErrInvalidArg)
		}
		if err := checkSet(set); err != nil {
			return id, err
		}
		target, err := a.resolve(c.ctx, share)
		if err != nil {
			return id, err
		}
		if target.foreign != "" {
			return id, a.notHere(target)
		}
		err = a.inTurn(c.ctx, func(t turn) (err error) {
			id, err = t.addShare(set, target)
			return err
		})
		if err == nil {
			c.copy(id)
		}
		return id, err
	})
}

// notHere returns the error for a share that another machine owns.
func (a *Agent) notHere(t target) error {
	s := fsrvp.ErrInvalidArg
	if a.cfg.Profile == Strict {
		s = fsrvp.ErrObjectNotFound
	}
	why := "it belongs to " + t.foreign
	if t.share.Name == "" {
		why = a.notItsName(t.host)
	}
	return fmt.Errorf("agent: %s: %s: %w", t.unc, why, s)
}

// addShare adds a share to a set.
func (a turn) addShare(id fsrvp.SetID, t target) (fsrvp.CopyID, error) {
	e, err := a.findWith(id, Started, Added)
	if err != nil {
		return fsrvp.CopyID{}, err
	}
	if err := a.own(); err != nil {
		return fsrvp.CopyID{}, err
	}
	next, copyID, err := a.joined(e.set, t)
	if err == nil {
		err = a.apply("share added", change{put: []*Set{next}})
	}
	if err != nil {
		a.failed(err)
		return fsrvp.CopyID{}, err
	}
	a.sequence.restart(a.cfg.Timers.Add)
	return copyID, nil
}

// joined returns the set with the share added, and the share's copy.
func (a *Agent) joined(set *Set, t target) (*Set, fsrvp.CopyID, error) {
	exists := func(what string) error {
		return fmt.Errorf("agent: shadow copy set %s has %s: %w", set.ID, what, fsrvp.ErrObjectAlreadyExists)
	}
	for i := range set.Copies {
		if set.Copies[i].mapping(t.share.Name) != nil {
			return nil, fsrvp.CopyID{}, exists("the share " + t.share.Name)
		}
	}
	if n := set.shares(); a.cfg.MaxShares >= 0 && n >= a.cfg.MaxShares {
		return nil, fsrvp.CopyID{}, fmt.Errorf("agent: shadow copy set %s has %d shares, the most that it may have: %w",
			set.ID, n, fsrvp.ErrOutOfMemory)
	}
	next := set.with(Added)
	c := next.copyOf(t.volume.ID)
	switch {
	case c == nil:
		next.Copies = append(next.Copies, Copy{ID: fsrvp.NewCopyID(), Volume: t.volume})
		c = &next.Copies[len(next.Copies)-1]
	case a.cfg.Profile == Strict:
		return nil, fsrvp.CopyID{}, exists("a share on the volume of " + t.share.Name)
	}
	c.Shares = append(c.Shares, Mapping{UNC: t.unc, Share: t.share, Dir: t.dir,
		Name: a.exposedName(t.unc, t.share.Name, c.ID)})
	return next, c.ID, nil
}

// exposedName is the name of the share that exposes a copy of a share, which the client named by
// unc (MS-FSRVP 3.1.4.6 and its note 9).
func (a *Agent) exposedName(unc, share string, id fsrvp.CopyID) string {
	if !strings.HasSuffix(unc, `$\`) || a.cfg.PlainHiddenNames {
		return fsrvp.ExposedNameNoDollar(share, id)
	}
	return fsrvp.ExposedName(share, id)
}
