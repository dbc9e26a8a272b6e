package samba

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// Lookup finds a share of smb.conf or of the registry by its name. For an unknown share the error
// wraps fsrvp.ErrObjectNotFound. It wraps fsrvp.ErrNotSupported for a share that is not a directory
// of this machine, or whose directory depends on the client (%U and similar macros in its path). If
// programs must be asked, a share that existed less than a second ago is assumed to exist still,
// because a client asks for each share of a set twice.
func (s *Shares) Lookup(ctx context.Context, name string) (backend.Share, error) {
	v := s.seen.Load()
	recent := v != nil && (s.helper == nil || v.files == nil) && time.Since(v.at) < confAge
	var base *section
	var err error
	if recent {
		base, err = v.conf.base(name)
	}
	if !recent || err != nil {
		if v, err = s.currentOf(ctx, name); err == nil {
			base, err = v.conf.base(name)
		}
	}
	if err != nil {
		return backend.Share{}, err
	}
	path, err := v.conf.path(base)
	if err != nil {
		return backend.Share{}, err
	}
	return backend.Share{Name: base.name, Path: path}, nil
}

// confAge is how old an answer of testparm may be for Lookup.
const confAge = time.Second

// base finds a share that can be copied.
func (c *conf) base(name string) (*section, error) {
	b := c.share(name)
	if b == nil || !c.isBase(b) {
		return nil, fmt.Errorf("samba: there is no share %q: %w", name, fsrvp.ErrObjectNotFound)
	}
	if b.strange != "" {
		return nil, fmt.Errorf("samba: share %q has a line break in a parameter, before %q", b.name, b.strange)
	}
	if proxy := c.value(b, "msdfs proxy"); proxy != "" {
		return nil, fmt.Errorf("samba: share %q is on %s: %w", b.name, proxy, fsrvp.ErrNotSupported)
	}
	for _, module := range modules(c.value(b, "vfs objects")) {
		if isRemote(module) {
			return nil, fmt.Errorf("samba: share %q is not on this machine but on %s: %w", b.name, module,
				fsrvp.ErrNotSupported)
		}
	}
	return b, nil
}

// isBase reports whether clients can use the share, and it is a share of files and not itself a
// copy.
func (c *conf) isBase(s *section) bool {
	for _, special := range []string{"homes", "printers", "print$", "ipc$"} {
		if strings.EqualFold(s.name, special) {
			return false
		}
	}
	_, exposed := exposedID(s.name)
	return !exposed && c.available(s) && !c.yes(s, "printable", false) && c.value(s, "path") != ""
}

// path returns the directory of a share, absolute, clean, and without symbolic links.
func (c *conf) path(s *section) (string, error) {
	value := c.value(s, "path")
	if bare := strings.Trim(value, `"`); !strings.Contains(bare, `"`) {
		value = bare // as Samba has it
	}
	value = substituteS(value, s.name)
	if hasMacro(value) {
		return "", fmt.Errorf("samba: the path of share %q, %s, is not the same for all: %w", s.name, value,
			fsrvp.ErrNotSupported)
	}
	if !filepath.IsAbs(value) {
		return "", fmt.Errorf("samba: the path of share %q, %s, is not absolute: %w", s.name, value,
			fsrvp.ErrNotSupported)
	}
	path, err := filepath.EvalSymlinks(value)
	if err != nil {
		return "", fmt.Errorf("samba: share %q: %w", s.name, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("samba: share %q: %w", s.name, err)
	}
	if !info.IsDir() {
		return "", fmt.Errorf("samba: share %q: %s is not a directory: %w", s.name, path, fsrvp.ErrNotSupported)
	}
	return path, nil
}

// hasMacro reports whether Samba would substitute anything in a path: a percent sign and a letter,
// or %$(NAME). There is no way to escape it.
func hasMacro(path string) bool {
	for i := range len(path) - 1 {
		if next := path[i+1]; path[i] == '%' && (next|0x20 >= 'a' && next|0x20 <= 'z' || next == '$') {
			return true
		}
	}
	return false
}

// substituteS puts the name of a share in place of %S as Samba does, which does not let the name
// have characters that mean something to a shell.
func substituteS(value, name string) string {
	safe := strings.Map(func(r rune) rune {
		if strings.ContainsRune("$`\"';%\r\n", r) {
			return '_'
		}
		return r
	}, name)
	return strings.ReplaceAll(value, "%S", safe)
}
