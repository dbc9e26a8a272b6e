package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A target is what a share's UNC path refers to.
type target struct {
	unc     string // as the client gave it
	host    string // in it
	share   Share
	owner   string // this machine, where the share's owner is one of its other names; else empty
	foreign string // the other machine that owns the share; then there is no volume but in a cluster
	volume  Volume
	dir     string // the share's, below the volume's root
}

// resolve finds the share that a client names and the volume that holds it. It compares the name,
// and opens only the directory that the file server's own definition of the share gives. For an
// unknown share it returns ErrObjectNotFound, and for a volume that cannot be copied
// ErrNotSupported.
func (a *Agent) resolve(ctx context.Context, unc string) (target, error) {
	t := target{unc: unc}
	name, err := fsrvp.ParseShareName(unc)
	if err != nil {
		return t, err
	}
	t.host = name.Host
	if !a.hasName(name) {
		t.foreign = name.Host
		return t, nil
	}
	if t.share, err = a.cfg.Shares.Lookup(ctx, name.Share); err != nil {
		return t, statusError(fmt.Errorf("agent: share %s: %w", unc, err), fsrvp.ErrFail)
	}
	if a.cfg.Owner != nil {
		owner, err := a.cfg.Owner(ctx, name.Host, t.share)
		if err != nil {
			return t, statusError(fmt.Errorf("agent: owner of %s: %w", unc, err), fsrvp.ErrFail)
		}
		switch owner = strings.TrimSuffix(owner, "."); {
		case owner == "", strings.EqualFold(owner, a.names.machine):
		case a.names.has(fsrvp.ShareName{Host: owner}):
			t.owner = owner
		default:
			t.foreign = owner
			if a.cluster != nil { // whose copies are known here all the same
				if t.volume, err = a.cfg.Snapshots.Volume(ctx, t.share.Path); err != nil {
					t.volume = Volume{}
				}
			}
			return t, nil
		}
	}
	if t.volume, err = a.cfg.Snapshots.Volume(ctx, t.share.Path); err != nil {
		return t, statusError(fmt.Errorf("agent: share %s: %w", unc, err), fsrvp.ErrFail)
	}
	if t.dir, err = within(t.share, t.volume); err != nil {
		return t, statusError(err, fsrvp.ErrNotSupported)
	}
	for _, s := range []string{t.share.Name, t.share.Path, t.volume.ID, t.volume.Path} {
		if !utf8.ValidString(s) { // the store would not give it back as it is
			return t, fmt.Errorf("agent: share %s: %q is not UTF-8: %w", unc, s, fsrvp.ErrNotSupported)
		}
	}
	if namer, ok := a.cfg.Shares.(ShareNamer); ok {
		// all ids have the same length
		if err := namer.CheckName(a.exposedName(unc, t.share.Name, fsrvp.CopyID{})); err != nil {
			return t, statusError(fmt.Errorf("agent: share %s: %w", unc, err), fsrvp.ErrNotSupported)
		}
	}
	return t, nil
}

// IsPathSupported implements [fsrvp.Service] (MS-FSRVP 3.1.4.9). If another machine of the cluster
// owns the share, the share is supported and the answer names that machine.
func (a *Agent) IsPathSupported(ctx context.Context, share string) (fsrvp.PathSupport, error) {
	var answer fsrvp.PathSupport
	err := a.call(ctx, fsrvp.OpIsPathSupported, func(c *call) error {
		c.share(share)
		t, err := a.resolve(c.ctx, share)
		switch {
		case err != nil:
			return err
		case t.owner != "":
			answer = fsrvp.PathSupport{Supported: true, Owner: t.owner}
		case t.foreign == "":
			answer = fsrvp.PathSupport{Supported: true, Owner: a.names.answer(t.host)}
		case t.share.Name != "":
			answer = fsrvp.PathSupport{Supported: true, Owner: t.foreign}
		default:
			return a.unknownHost(share, t.host)
		}
		return nil
	})
	return answer, err
}

// unknownHost returns the error for a share of another server.
func (a *Agent) unknownHost(share, host string) error {
	return fmt.Errorf("agent: %s: %s: %w", share, a.notItsName(host), fsrvp.ErrObjectNotFound)
}

// notItsName explains that this server has other names, to distinguish this error from an unknown
// share.
func (a *Agent) notItsName(host string) string {
	return fmt.Sprintf("the host is wrong, and the share was not looked for: this server is not called %q but %s; Config.Aliases adds names",
		host, strings.Join(a.names.list(), ", "))
}

// IsPathShadowCopied implements [fsrvp.Service] (MS-FSRVP 3.1.4.10): whether the volume that holds
// the share has a copy in a set that is Committed, Exposed or Recovered.
func (a *Agent) IsPathShadowCopied(ctx context.Context, share string) (fsrvp.PathShadowCopied, error) {
	var answer fsrvp.PathShadowCopied
	err := a.call(ctx, fsrvp.OpIsPathShadowCopied, func(c *call) error {
		c.share(share)
		t, err := a.resolve(c.ctx, share)
		switch {
		case errors.Is(err, fsrvp.ErrNotSupported):
			return nil // without a volume there are no copies
		case err != nil:
			return err
		case t.foreign != "" && t.share.Name == "":
			return a.unknownHost(share, t.host)
		case t.volume == (Volume{}):
			return nil
		}
		if err := a.fresh(c.ctx); err != nil || !a.isShadowCopied(t.volume) {
			return err
		}
		if r, ok := a.cfg.Snapshots.(CompatibilityReporter); ok {
			if answer.Compatibility, err = r.Compatibility(c.ctx, t.volume); err != nil {
				return statusError(fmt.Errorf("agent: volume of %s: %w", share, err), fsrvp.ErrFail)
			}
		}
		answer.Present = true
		return nil
	})
	if err != nil {
		return fsrvp.PathShadowCopied{}, err
	}
	return answer, nil
}

func (a *Agent) isShadowCopied(v Volume) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.sets {
		if !e.set.Removing && e.set.Status.hasShares() && e.set.copyOf(v.ID) != nil {
			return true
		}
	}
	return false
}
