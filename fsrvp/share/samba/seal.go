package samba

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// SealShare makes an exposed share read-only. It disconnects all users, because existing
// connections could still write, and meanwhile the share is unavailable. If SealShare fails, the
// share can stay unavailable until it is called again.
func (s *Shares) SealShare(ctx context.Context, e backend.Exposure) error {
	return s.SealShares(ctx, []backend.Exposure{e})
}

// SealShares seals all of them at once, as SealShare does. After an error, shares that were to be
// sealed may be unavailable.
func (s *Shares) SealShares(ctx context.Context, list []backend.Exposure) error {
	for _, e := range list {
		if err := s.CheckName(e.Name); err != nil {
			return err
		}
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if s.helper != nil {
		err := s.sealByHelper(ctx, list)
		if !errors.Is(err, errHelper) {
			return err
		}
		s.log.WarnContext(ctx, "samba: programs seal what the helper has not", "shares", namesOf(list), "why", err)
	}
	c, err := s.conf(ctx)
	if err != nil {
		return err
	}
	sealing, err := c.sealing(list, func(i int) *section { return c.share(list[i].Name) })
	if err != nil || len(sealing) == 0 {
		return err
	}
	// One by one: all else of the share stays as it is, its security descriptor too.
	var names []string
	for _, d := range sealing {
		names = append(names, d.name)
		for _, p := range d.params {
			if err := s.setParam(ctx, d.name, p.key, p.value); err != nil {
				return err
			}
		}
	}
	if err := s.disconnect(ctx, names...); err != nil {
		return err
	}
	for _, name := range names {
		if err := s.setParam(ctx, name, "available", "Yes"); err != nil {
			return err
		}
	}
	return s.reload(ctx)
}

// sealByHelper is SealShares by the helper, in two transactions. An error that wraps errHelper is
// for programs to do it all.
func (s *Shares) sealByHelper(ctx context.Context, list []backend.Exposure) error {
	v, err := s.currentOf(ctx, globalName)
	if err != nil {
		return err
	}
	shares, err := s.helper.get(ctx, namesOf(list)...)
	if err != nil {
		return err
	}
	for i, share := range shares {
		if share == nil {
			return fmt.Errorf("samba: %w: share %q is not in the registry", errHelper, list[i].Name)
		}
	}
	sealing, err := v.conf.sealing(list, func(i int) *section { return shares[i] })
	if err != nil || len(sealing) == 0 {
		return err
	}
	var names []string
	var open []definition
	for _, d := range sealing {
		names = append(names, d.name)
		open = append(open, definition{d.name, []param{{"available", "Yes"}}})
	}
	if err := s.helper.set(ctx, sealing); err != nil {
		return err
	}
	if err := s.endUse(ctx, nil, names); err != nil {
		return err
	}
	if err := s.helper.set(ctx, open); err != nil {
		return err
	}
	return s.announce(ctx)
}

// sealing returns the parameters to set in those shares that are not sealed yet.
func (c *conf) sealing(list []backend.Exposure, share func(i int) *section) ([]definition, error) {
	var sealing []definition
	for i, e := range list {
		found := share(i)
		if found == nil {
			return nil, fmt.Errorf("samba: share %q is not exposed", e.Name)
		}
		if err := mayTouch(found, e.Mark.Owner); err != nil {
			return nil, err
		}
		if !c.available(found) || !c.isReadOnly(found) {
			sealing = append(sealing, definition{found.name, c.sealed(found)})
		}
	}
	return sealing, nil
}

// sealed returns the parameters that make a share read-only, and unavailable until nobody is
// connected any more: that first.
func (c *conf) sealed(share *section) []param {
	params := []param{{"available", "No"}, {"read only", "Yes"}}
	if c.value(share, "write list") != "" {
		params = append(params, param{"write list", ""})
	}
	return params
}
