package samba

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// Expose makes a registry share for a copy, with the parameters and the security descriptor that
// the base share has now. All clients see the share at once, including those that are already
// connected. A share that is already exposed is left as it is. A share that a crash has left
// half-made, or that exposes something else, is replaced, and its users are disconnected.
func (s *Shares) Expose(ctx context.Context, e backend.Exposure) error {
	return s.ExposeShares(ctx, []backend.Exposure{e})
}

// ExposeShares exposes either all of them, as Expose does, or none. The helper does it in one
// transaction.
func (s *Shares) ExposeShares(ctx context.Context, list []backend.Exposure) error {
	for _, e := range list {
		if err := s.checkExposure(e); err != nil {
			return err
		}
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	var made []string
	if s.helper != nil {
		begun, err := s.exposeByHelper(ctx, list)
		if begun {
			made = namesOf(list)
		}
		switch {
		case err == nil, errors.Is(err, errStuck):
			return err
		case !errors.Is(err, errHelper):
			return errors.Join(err, s.removeMade(ctx, list, made))
		}
		s.log.WarnContext(ctx, "samba: programs expose what the helper has not", "shares", namesOf(list), "why", err)
	}
	c, sddls, err := s.exposeFrom(ctx, list)
	if err != nil {
		return errors.Join(err, s.removeMade(ctx, list, made))
	}
	for _, e := range list {
		is, err := s.expose(ctx, c, sddls[e.Base.Name], e)
		if err != nil {
			return errors.Join(err, s.removeMade(ctx, list, made))
		}
		if is && !slices.Contains(made, e.Name) {
			made = append(made, e.Name)
		}
	}
	return nil
}

func namesOf(list []backend.Exposure) []string {
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.Name
	}
	return names
}

// A shown is what sharesec shows of a share, or why it does not.
type shown struct {
	sddl string
	err  error
}

// exposeFrom returns what exposed shares are made from: the configuration and the descriptors of
// the base shares.
func (s *Shares) exposeFrom(ctx context.Context, list []backend.Exposure) (*conf, map[string]shown, error) {
	sddls := make(map[string]shown)
	viewed := make(chan struct{})
	go func() { // while testparm runs, not after it
		defer close(viewed)
		for _, e := range list {
			if _, ok := sddls[e.Base.Name]; !ok {
				sddl, err := s.descriptor(ctx, e.Base.Name)
				sddls[e.Base.Name] = shown{sddl, err}
			}
		}
	}()
	names := namesOf(list)
	for _, e := range list {
		names = append(names, e.Base.Name)
	}
	c, err := s.confOf(ctx, names...)
	<-viewed
	return c, sddls, err
}

// expose exposes one share by programs, and reports whether it has made the share. After an error
// nothing of the share is left.
func (s *Shares) expose(ctx context.Context, c *conf, of shown, e backend.Exposure) (made bool, err error) {
	old := c.share(e.Name)
	if old != nil {
		if err := mayTouch(old, e.Mark.Owner); err != nil {
			return false, err
		}
	}
	if old != nil && c.exposes(old, e) {
		return false, nil
	}
	if old != nil {
		s.log.WarnContext(ctx, "replacing an exposed share", "share", old.name, "copy", e.Snapshot.ID, "available",
			c.available(old))
		if err := s.remove(ctx, old.name, true); err != nil {
			return false, err
		}
	}
	base, err := c.base(e.Base.Name)
	if err != nil {
		return false, err // which says more than sharesec, that does not find the share either
	}
	if of.err != nil {
		return false, of.err
	}
	if err := s.install(ctx, c.clone(base, e), of.sddl); err != nil {
		// Also when ctx has ended: every command has a time-out of its own.
		return false, errors.Join(err, s.remove(context.WithoutCancel(ctx), e.Name, true))
	}
	return true, nil
}

// exposeByHelper makes shares that do not exist. After an error that wraps errHelper, programs must
// do all of it. Begun reports whether shares may have been made.
func (s *Shares) exposeByHelper(ctx context.Context, list []backend.Exposure) (begun bool, err error) {
	var bases []string
	for _, e := range list {
		if !slices.Contains(bases, e.Base.Name) {
			bases = append(bases, e.Base.Name)
		}
	}
	v, err := s.currentOf(ctx, bases...)
	if err != nil {
		return false, err
	}
	var all, hidden []definition // hidden ones are those that get a descriptor before anybody can use them
	sddls := make(map[string]string)
	for _, e := range list {
		if v.conf.share(e.Name) != nil {
			return false, fmt.Errorf("samba: %w: share %q is there", errHelper, e.Name)
		}
		base, err := v.conf.base(e.Base.Name)
		if err != nil {
			return false, err
		}
		sddl, err := s.descriptor(ctx, e.Base.Name)
		if err != nil {
			return false, err
		}
		d := v.conf.clone(base, e)
		if _, _, err := d.file(); err != nil { // which checks it
			return false, err
		}
		if !isEveryone(sddl) {
			d.set("available", "No")
			hidden = append(hidden, definition{d.name, []param{{"available", "Yes"}}})
			sddls[d.name] = sddl
		}
		all = append(all, d)
	}
	if begun, err := s.helper.define(ctx, all); err != nil || len(hidden) == 0 {
		return begun, err
	}
	for _, d := range hidden {
		if _, err := s.tools.run(ctx, "sharesec", d.name, "--setsddl="+sddls[d.name]); err != nil {
			return true, err
		}
	}
	if err := s.helper.set(ctx, hidden); err != nil {
		return true, err
	}
	return true, s.announce(ctx)
}

// announce makes smbd read the shares again if it may have seen some of them unavailable.
func (s *Shares) announce(ctx context.Context) error {
	err := s.helper.end(ctx)
	if errors.Is(err, errHelper) || errors.Is(err, errNoSMBD) {
		return s.reload(ctx)
	}
	return err
}

// checkExposure finds what is wrong before Samba is touched.
func (s *Shares) checkExposure(e backend.Exposure) error {
	if err := s.CheckName(e.Name); err != nil {
		return err
	}
	if id, _ := exposedID(e.Name); id != e.Snapshot.ID {
		return fmt.Errorf("samba: %q is not a name for copy %s", e.Name, e.Snapshot.ID)
	}
	if strings.HasPrefix(e.Base.Name, "-") {
		return fmt.Errorf("samba: share %q begins with a dash: %w", e.Base.Name, fsrvp.ErrNotSupported)
	}
	for _, text := range []string{e.Base.Name, e.Path} {
		if err := checkText(text); err != nil {
			return fmt.Errorf("samba: exposing %q: %q %w", e.Name, text, err)
		}
	}
	switch {
	case !filepath.IsAbs(e.Path) || filepath.Clean(e.Path) != e.Path:
		return fmt.Errorf("samba: exposing %q: %q is not an absolute, clean path", e.Name, e.Path)
	case hasMacro(e.Path), strings.HasSuffix(e.Path, `"`), strings.TrimSpace(e.Path) != e.Path:
		return fmt.Errorf("samba: exposing %q: Samba would take %q for another path: %w", e.Name, e.Path,
			fsrvp.ErrNotSupported)
	}
	info, err := os.Stat(e.Path)
	if err != nil {
		return fmt.Errorf("samba: exposing %q: %w", e.Name, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("samba: exposing %q: %s is not a directory", e.Name, e.Path)
	}
	return nil
}

// isExposed reports whether this package has made a share, for any agent.
func isExposed(s *section) bool {
	id, ok := exposedID(s.name)
	mark, _ := s.get(marker)
	return ok && strings.EqualFold(mark, id.String())
}

// markOf returns the mark of a share that this package has made.
func markOf(s *section) (backend.Mark, error) {
	text, _ := s.get(ownerParam)
	mark, err := backend.ParseMark(text)
	if err != nil {
		return mark, fmt.Errorf("samba: share %q: parameter %q: %w", s.name, ownerParam, err)
	}
	return mark, nil
}

// mayTouch returns an error if the owner may not change or remove a share.
func mayTouch(s *section, owner backend.Owner) error {
	if !isExposed(s) {
		return fmt.Errorf("samba: there is a share %q that is no exposed copy", s.name)
	}
	mark, err := markOf(s)
	if err == nil && !mark.Allows(owner) {
		err = fmt.Errorf("samba: share %q, agent %s: %w", s.name, mark.Owner, backend.ErrForeign)
	}
	return err
}

// exposes reports whether a share of ours is complete and agrees with e.
func (c *conf) exposes(s *section, e backend.Exposure) bool {
	path, _ := s.get("path")
	return c.available(s) && path == e.Path && c.isReadOnly(s) == !e.Writable
}

// install makes a share. Nobody can use it before it has its security descriptor.
func (s *Shares) install(ctx context.Context, d definition, sddl string) error {
	_, others, err := d.file()
	if err != nil {
		return err
	}
	if len(others) == 0 && isEveryone(sddl) {
		// A share without a security descriptor has that one: there is nothing to wait for.
		return s.importFile(ctx, d)
	}
	d.set("available", "No")
	if err := s.importFile(ctx, d); err != nil {
		return err
	}
	for _, p := range others {
		if err := s.setParam(ctx, d.name, p.key, p.value); err != nil {
			return err
		}
	}
	if _, err := s.tools.run(ctx, "sharesec", d.name, "--setsddl="+sddl); err != nil {
		return err
	}
	if err := s.setParam(ctx, d.name, "available", "Yes"); err != nil {
		return err
	}
	return s.reload(ctx) // for processes that have seen it unavailable
}

// importFile makes a share from those parts of its definition that a file can have, in one
// transaction. A share of the same name is replaced.
func (s *Shares) importFile(ctx context.Context, d definition) error {
	text, _, err := d.file()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp("", "fsrvp-share-*.conf")
	if err != nil {
		return fmt.Errorf("samba: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("samba: %w", err)
	}
	_, err = s.tools.run(ctx, "net", "conf", "import", f.Name(), d.name)
	return err
}

func (s *Shares) setParam(ctx context.Context, name, key, value string) error {
	_, err := s.tools.run(ctx, "net", "conf", "setparm", "--", name, key, value)
	return err
}
