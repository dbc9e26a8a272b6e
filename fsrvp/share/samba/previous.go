package samba

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// PreviousVersions is a Shares that also lists each exposed copy among the previous versions of its
// base share (FSCTL_SRV_ENUM_SNAPS, MS-SMB2 3.3.5.15.1), by symbolic links in the form that Samba's
// module shadow_copy2 reads:
//
//	<dir>/<base share in lower case>/@GMT-2026.11.23-16.05.33 -> the copy's directory
//
// The administrator points the base share there:
//
//	vfs objects = shadow_copy2
//	shadow:snapdir = <dir>/<base share in lower case>
//	shadow:basedir = <the share's path>
//
// Such names have a resolution of one second. If several copies are made in one second, each
// further one is listed one second later.
type PreviousVersions struct {
	*Shares
	dir string
}

// NewPreviousVersions returns s with links in dir, an absolute path that users of the shares must
// be able to pass through. It makes dir, with mode 0755, if it does not exist, and in it the
// directories that shares have as their shadow:snapdir; without them smbd would refuse to list
// previous versions until the first copy is exposed. The context bounds only NewPreviousVersions
// itself.
func NewPreviousVersions(ctx context.Context, s *Shares, dir string) (*PreviousVersions, error) {
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("samba: the directory of previous versions %q is not an absolute path", dir)
	}
	p := &PreviousVersions{Shares: s, dir: filepath.Clean(dir)}
	c, err := s.conf(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.makeDirs(c); err != nil {
		return nil, fmt.Errorf("samba: previous versions: %w", err)
	}
	return p, nil
}

func (p *PreviousVersions) makeDirs(c *conf) error {
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return err
	}
	for i := range c.shares {
		share := &c.shares[i]
		snapdir := substituteS(c.value(share, "shadow:snapdir"), share.name)
		if snapdir == "" || filepath.Clean(snapdir) != filepath.Join(p.dir, strings.ToLower(share.name)) {
			continue
		}
		if err := os.MkdirAll(snapdir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// gmtFormat is what shadow_copy2 reads by default, in UTC.
const gmtFormat = "@GMT-2006.01.02-15.04.05"

// Expose exposes the copy and lists it.
func (p *PreviousVersions) Expose(ctx context.Context, e backend.Exposure) error {
	if err := p.Shares.Expose(ctx, e); err != nil {
		return err
	}
	if err := p.link(e); err != nil {
		return errors.Join(fmt.Errorf("samba: previous versions: %w", err),
			p.Unexpose(context.WithoutCancel(ctx), e.Mark.Owner, e.Name))
	}
	return nil
}

func (p *PreviousVersions) link(e backend.Exposure) error {
	if err := p.unlink(e.Name); err != nil { // of an earlier attempt
		return err
	}
	dir, err := p.of(e.Name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	const most = 3600 // more copies of a second than that are somebody's mistake
	for after := range most {
		at := e.Snapshot.Created.UTC().Add(time.Duration(after) * time.Second)
		err := os.Symlink(e.Path, filepath.Join(dir, at.Format(gmtFormat)))
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return fmt.Errorf("%s is full of copies of %v", dir, e.Snapshot.Created)
}

// Unexpose removes the exposed share, if it belongs to the owner, and takes the copy off the list.
func (p *PreviousVersions) Unexpose(ctx context.Context, owner backend.Owner, name string) error {
	if err := p.Shares.Unexpose(ctx, owner, name); err != nil {
		return err
	}
	if err := p.unlink(name); err != nil {
		return fmt.Errorf("samba: previous versions: %w", err)
	}
	return nil
}

// ExposeShares exposes the copies, and lists them.
func (p *PreviousVersions) ExposeShares(ctx context.Context, list []backend.Exposure) error {
	if err := p.Shares.ExposeShares(ctx, list); err != nil {
		return err
	}
	for _, e := range list {
		if err := p.link(e); err != nil {
			return errors.Join(fmt.Errorf("samba: previous versions: %w", err),
				p.UnexposeShares(context.WithoutCancel(ctx), e.Mark.Owner, namesOf(list)))
		}
	}
	return nil
}

// UnexposeShares removes the exposed shares that belong to the owner, and takes their copies off
// the list.
func (p *PreviousVersions) UnexposeShares(ctx context.Context, owner backend.Owner, names []string) error {
	if err := p.Shares.UnexposeShares(ctx, owner, names); err != nil {
		return err
	}
	for _, name := range names {
		if err := p.unlink(name); err != nil {
			return fmt.Errorf("samba: previous versions: %w", err)
		}
	}
	return nil
}

// unlink removes the links to an exposed share's copy. Backends name a snapshot by the copy's id,
// so the link's target identifies the copy.
func (p *PreviousVersions) unlink(name string) error {
	id, ok := exposedID(name)
	if !ok {
		return nil
	}
	dir, err := p.of(name)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		link := filepath.Join(dir, entry.Name())
		if target, err := os.Readlink(link); err == nil && strings.Contains(target, id.String()) {
			if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// of returns the directory of the links for a base share, given the name of one that exposes a
// copy.
func (p *PreviousVersions) of(exposed string) (string, error) {
	base, _, _ := fsrvp.ParseExposedName(exposed)
	base = strings.ToLower(base)
	if base == "" || base == "." || base == ".." || strings.ContainsRune(base, filepath.Separator) {
		return "", fmt.Errorf("share %q has no name for a directory", exposed)
	}
	return filepath.Join(p.dir, base), nil
}
