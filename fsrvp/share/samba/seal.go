package samba

import (
	"context"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// SealShare makes an exposed share one that nobody can write to. It disconnects everybody, and while it does so the
// share is unavailable: what was connected before could still write. If it fails the share can stay unavailable, until SealShare is called
// again.
func (s *Shares) SealShare(ctx context.Context, e backend.Exposure) error {
	if err := s.CheckName(e.Name); err != nil {
		return err
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	c, err := s.conf(ctx)
	if err != nil {
		return err
	}
	share := c.share(e.Name)
	if share == nil {
		return fmt.Errorf("samba: share %q is not exposed", e.Name)
	}
	if err := mayTouch(share, e.Mark.Owner); err != nil {
		return err
	}
	if c.available(share) && c.isReadOnly(share) {
		return nil
	}
	// One by one: all else of the share stays as it is, its security descriptor too.
	for _, p := range c.sealed(share) {
		if err := s.setParam(ctx, share.name, p.key, p.value); err != nil {
			return err
		}
	}
	if err := s.disconnect(ctx, share.name); err != nil {
		return err
	}
	if err := s.setParam(ctx, share.name, "available", "Yes"); err != nil {
		return err
	}
	return s.reload(ctx)
}

// sealed returns the parameters that make a share read-only, and unavailable until nobody is connected any more: that first.
func (c *conf) sealed(share *section) []param {
	params := []param{{"available", "No"}, {"read only", "Yes"}}
	if c.value(share, "write list") != "" {
		params = append(params, param{"write list", ""})
	}
	return params
}
