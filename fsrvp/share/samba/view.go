package samba

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// A view is what testparm printed, and for which files. Only its field checked changes.
type view struct {
	conf *conf
	at   time.Time // when testparm was asked
	// files are smb.conf and the files that it includes, and registry is registry.tdb. While they
	// are unchanged, the view is what testparm would print. If files is nil, that is not known.
	files    []stamp
	registry stamp
	// raw has registry shares as they were, by their lower-case names: nil for those that were not
	// there. A change of registry.tdb that has left them alone has left alone what the view says of
	// them.
	raw map[string]*section
	// all says that raw has all shares of the registry: others are not in it.
	all bool

	mu      sync.Mutex
	checked map[string]stamp // of the registry, when these shares and [global] were last seen to be in it as in raw
}

// A stamp identifies a file and its state.
type stamp struct {
	path    string
	there   bool
	info    fs.FileInfo // where it is there
	changes uint32      // of a database: how many it has seen
}

// same reports whether two stamps are of one file in one state.
func (s stamp) same(o stamp) bool {
	if s.path != o.path || s.there != o.there || s.changes != o.changes {
		return false
	}
	return !s.there || s.info.Size() == o.info.Size() && s.info.ModTime().Equal(o.info.ModTime()) &&
		os.SameFile(s.info, o.info)
}

// isSettled reports whether a file that changes from at on has another stamp then: its time is not
// of the same tick of the file system's clock as that moment. It is Git's rule for files that are
// "racily clean".
func (s stamp) isSettled(at time.Time) bool {
	if !s.there {
		return true
	}
	tick := 20 * time.Millisecond // of Linux 1 to 10
	if s.info.ModTime().Nanosecond() == 0 {
		tick = 2 * time.Second // FAT has 2, ext3 and some file servers 1
	}
	return s.info.ModTime().Before(at.Add(-tick))
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return stamp{path: path}, nil
	}
	return stamp{path: path, there: true, info: info}, err
}

// stampOfRegistry has the sequence number too, which each change of the registry counts up: the
// word at byte 48 of a TDB file's header. Files that are copied by their times have it.
func stampOfRegistry(path string) (stamp, error) {
	s, err := stampOf(path)
	if err != nil || !s.there {
		return s, err
	}
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer f.Close()
	var word [4]byte
	if _, err := f.ReadAt(word[:], 48); err != nil && !errors.Is(err, io.EOF) {
		return s, err
	}
	s.changes = binary.NativeEndian.Uint32(word[:])
	return s, nil
}

// maxConf bounds a file of smb.conf's that is read for its includes, in bytes, and maxIncludes
// their number.
const (
	maxConf     = 1 << 20
	maxIncludes = 100
)

// confStamps returns the stamps of smb.conf and all files that it includes. It returns false if
// other files may count for other users or clients; then nothing is kept.
func confStamps(path string) ([]stamp, bool) {
	var list []stamp
	for todo := []string{path}; len(todo) > 0; todo = todo[1:] {
		if slices.ContainsFunc(list, func(s stamp) bool { return s.path == todo[0] }) {
			continue
		}
		s, err := stampOf(todo[0])
		if err != nil || len(list) == maxIncludes {
			return nil, false
		}
		list = append(list, s)
		if !s.there {
			continue
		}
		if !s.info.Mode().IsRegular() || s.info.Size() > maxConf {
			return nil, false
		}
		text, err := os.ReadFile(s.path)
		if err != nil {
			return nil, false
		}
		included, ok := includes(string(text))
		if !ok {
			return nil, false
		}
		todo = append(todo, included...)
	}
	return list, true
}

// includes returns the files that a file of smb.conf's includes, and false where these are not the
// same for all, or it names another configuration.
func includes(text string) (files []string, ok bool) {
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\\\n", "")
	for line := range strings.Lines(text) {
		key, value, isParam := strings.Cut(line, "=")
		value = strings.TrimSpace(value)
		switch {
		case !isParam, strings.HasPrefix(strings.TrimSpace(key), "#"), strings.HasPrefix(strings.TrimSpace(key), ";"):
		case sameKey(key, "config file"):
			return nil, false
		case !sameKey(key, "include"), strings.EqualFold(value, "registry"):
		case strings.Contains(value, "%"), !filepath.IsAbs(value):
			return nil, false
		default:
			files = append(files, value)
		}
	}
	return files, true
}

// hasUsershares reports whether testparm shows shares that are in files of their users'.
func (c *conf) hasUsershares() bool {
	return slices.ContainsFunc(c.shares, func(s section) bool {
		_, ok := s.get("usershare")
		return ok
	})
}

// statePath returns the path of a database in Samba's state directory, or "" where that is not
// known.
func (s *Shares) statePath(c *conf, name string) string {
	dir := s.stateDir
	if d, ok := c.global.get("state directory"); ok {
		dir = d
	}
	if !filepath.IsAbs(dir) || hasMacro(dir) {
		return ""
	}
	return filepath.Join(dir, name)
}

// look runs testparm.
func (s *Shares) look(ctx context.Context) (*view, error) {
	at := time.Now()
	files, ok := confStamps(s.confPath)
	before := &conf{}
	if last := s.seen.Load(); last != nil {
		before = last.conf
	}
	registry := s.registryStamp(before)
	c, err := s.tools.conf(ctx)
	if err != nil {
		return nil, err
	}
	v := &view{conf: c, at: at, registry: registry, raw: map[string]*section{}}
	if ok && s.keepable(c, files, at) && s.rememberAll(ctx, v) && registry.path != "" &&
		registry.same(s.registryStamp(c)) {
		v.files = files
	}
	s.seen.Store(v)
	return v, nil
}

// keepable reports whether stamps taken before testparm ran are valid for what it has printed.
func (s *Shares) keepable(c *conf, files []stamp, at time.Time) bool {
	if s.stateDir == "" || c.clustered() || c.hasUsershares() {
		return false
	}
	for _, f := range files {
		if !f.isSettled(at) {
			return false
		}
	}
	return true
}

// registryIncludes reports whether the registry may have shares that include files, which then
// count too. It is what the database of the registry calls the value that has their names.
func registryIncludes(path string) bool {
	text, err := os.ReadFile(path)
	return err != nil || strings.Contains(string(text), "includes\x00")
}

// registryStamp returns the stamp of the registry's database, and none where that fails.
func (s *Shares) registryStamp(c *conf) stamp {
	path := s.statePath(c, "registry.tdb")
	if path == "" {
		return stamp{}
	}
	st, err := stampOfRegistry(path)
	if err != nil {
		return stamp{}
	}
	return st
}

// filesSame reports whether smb.conf and its includes are unchanged.
func (v *view) filesSame() bool {
	return v != nil && v.files != nil && !slices.ContainsFunc(v.files, func(was stamp) bool {
		now, err := stampOf(was.path)
		return err != nil || !now.same(was)
	})
}

// current returns an up-to-date view: the last one if nothing has changed, else what testparm
// prints now.
func (s *Shares) current(ctx context.Context) (*view, error) {
	if v := s.seen.Load(); v.filesSame() && v.registry.same(s.registryStamp(v.conf)) {
		return v, nil
	}
	return s.look(ctx)
}

// globalName is what the helper calls the section that is no share.
const globalName = "global"

// currentOf returns a view that says of some shares what testparm would say now; of others in the
// registry it may say what was before.
func (s *Shares) currentOf(ctx context.Context, names ...string) (*view, error) {
	v := s.seen.Load()
	switch {
	case !v.filesSame():
	case v.registry.same(s.registryStamp(v.conf)):
		return v, nil
	case s.helper == nil && !v.all:
	default:
		now := s.registryStamp(v.conf)
		if v.wasChecked(now, names) {
			return v, nil
		}
		if s.sameRaw(ctx, v, names) {
			v.check(now, names)
			return v, nil
		}
	}
	return s.look(ctx)
}

// wasChecked reports whether some shares were seen to be as they were when the registry had a
// stamp.
func (v *view) wasChecked(registry stamp, names []string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return registry.path != "" && !slices.ContainsFunc(names,
		func(name string) bool { return !v.checked[strings.ToLower(name)].same(registry) })
}

// check notes that shares are as they were, and [global]; the stamp was taken before they were
// looked at.
func (v *view) check(registry stamp, names []string) {
	const most = 10000 // they may be clients'
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.checked == nil || len(v.checked) > most {
		v.checked = map[string]stamp{}
	}
	for _, name := range names {
		v.checked[strings.ToLower(name)] = registry
	}
}

// sameRaw reports whether shares and [global] are in the registry as they were when testparm was
// asked.
func (s *Shares) sameRaw(ctx context.Context, v *view, names []string) bool {
	names = append(slices.Clone(names), globalName)
	for _, name := range names {
		if _, ok := v.raw[strings.ToLower(name)]; !ok && !v.all {
			return false
		}
		if share := v.conf.share(name); share != nil {
			if _, copied := share.get("copy"); copied {
				return false
			}
		}
	}
	now, err := s.get(ctx, names...)
	if err != nil {
		return false
	}
	for i, name := range names {
		if !now[i].equal(v.raw[strings.ToLower(name)]) {
			return false
		}
	}
	return true
}

// rememberAll notes how the registry has [global] and each share that testparm shows and that is no
// exposed one, as far as nothing else counts for them. It reports whether the files of the view's
// stamps are all that count.
func (s *Shares) rememberAll(ctx context.Context, v *view) bool {
	if s.helper == nil && len(v.conf.shares) > manyShares {
		return s.rememberList(ctx, v)
	}
	if s.helper == nil {
		return !registryIncludes(s.statePath(v.conf, "registry.tdb"))
	}
	names := []string{globalName}
	for i := range v.conf.shares {
		share := &v.conf.shares[i]
		_, exposed := exposedID(share.name)
		if _, copied := share.get("copy"); !exposed && !copied && !nameless(share.name) {
			names = append(names, share.name)
		}
	}
	for some := range slices.Chunk(names, 200) {
		now, err := s.helper.get(ctx, some...)
		if err != nil {
			return !registryIncludes(s.statePath(v.conf, "registry.tdb"))
		}
		for i, name := range some {
			if now[i].includes() {
				return false
			}
			v.raw[strings.ToLower(name)] = now[i]
		}
	}
	return true
}

// manyShares is how many shares make testparm slower than two or three runs of "net conf
// showshare".
const manyShares = 100

// rememberList is rememberAll by "net conf list".
func (s *Shares) rememberList(ctx context.Context, v *view) bool {
	out, err := s.tools.run(ctx, "net", "conf", "list")
	if err != nil {
		return false
	}
	for _, share := range parseRaw(out) {
		if share.includes() {
			return false
		}
		v.raw[strings.ToLower(share.name)] = share
	}
	v.all = true
	return true
}

// parseRaw reads what "net conf list" and "net conf showshare" print: what is in the registry, to
// the letter. Lines that are no parameter, which follow a line break in a value, become parameters
// with no key, so that they differ where the value does.
func parseRaw(out string) []*section {
	var list []*section
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		key, value, ok := strings.Cut(line, " = ")
		switch {
		case line == "":
		case line[0] == '[' && line[len(line)-1] == ']':
			list = append(list, &section{name: line[1 : len(line)-1]})
		case len(list) == 0:
		case ok && line[0] == '\t':
			last := list[len(list)-1]
			last.params = append(last.params, param{strings.TrimSpace(key), value})
		default:
			last := list[len(list)-1]
			last.params = append(last.params, param{"", line})
		}
	}
	return list
}

// get returns shares as they are in the registry, nil for those that are not there: by the helper,
// or by a program for each.
func (s *Shares) get(ctx context.Context, names ...string) ([]*section, error) {
	if s.helper != nil {
		return s.helper.get(ctx, names...)
	}
	const most = 4 // at once
	list := make([]*section, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(most)
	for i, name := range names {
		group.Go(func() error {
			if strings.HasPrefix(name, "-") {
				return fmt.Errorf("samba: share %q begins with a dash", name)
			}
			out, err := s.tools.run(ctx, "net", "conf", "showshare", name)
			var failed *commandError
			if errors.As(err, &failed) && strings.Contains(failed.said, "SBC_ERR_NO_SUCH_SERVICE") {
				return nil
			}
			if err != nil {
				return err
			}
			found := parseRaw(out)
			if len(found) != 1 {
				return fmt.Errorf("samba: net shows %d shares for %q", len(found), name)
			}
			list[i] = found[0]
			return nil
		})
	}
	return list, group.Wait()
}

// confOf returns what testparm says now of some shares, and perhaps what it said before of others.
func (s *Shares) confOf(ctx context.Context, names ...string) (*conf, error) {
	const most = 8 // names that are asked for one by one
	v := s.seen.Load()
	if s.helper != nil || !v.filesSame() || !v.all || len(names) > most {
		return s.conf(ctx)
	}
	now := s.registryStamp(v.conf)
	if v.registry.same(now) {
		return v.conf, nil
	}
	if slices.ContainsFunc(names, nameless) {
		return s.conf(ctx)
	}
	// A base share that Lookup has just seen need not be seen again; [global] matters to base
	// shares alone.
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, exposed := exposedID(name)
		return !exposed && v.wasChecked(now, []string{name})
	})
	if slices.ContainsFunc(names, func(name string) bool { _, exposed := exposedID(name); return !exposed }) {
		names = append(names, globalName)
	}
	raw, err := s.get(ctx, names...)
	if err != nil {
		return s.conf(ctx)
	}
	c := &conf{global: v.conf.global, shares: slices.Clone(v.conf.shares)}
	for i, name := range names {
		old := v.raw[strings.ToLower(name)]
		if raw[i].equal(old) {
			continue
		}
		if _, exposed := exposedID(name); !exposed || c.share(name) != nil && old == nil {
			return s.conf(ctx) // a base share has changed, or there may be one of that name in smb.conf
		}
		c.shares = slices.DeleteFunc(c.shares, func(share section) bool { return strings.EqualFold(share.name, name) })
		if raw[i] != nil { // one of ours, which has every parameter as testparm would show it
			c.shares = append(c.shares, *raw[i])
		}
	}
	return c, nil
}

// nameless reports whether a name is none that a share of the registry could have.
func nameless(name string) bool {
	return name == "" || len(name) > maxName || checkText(name) != nil || strings.EqualFold(name, globalName)
}

// equal reports whether two definitions are the same to the letter. Nil ones, of shares that are
// not there, are.
func (s *section) equal(o *section) bool {
	if s == nil || o == nil {
		return s == o
	}
	return s.name == o.name && slices.Equal(s.params, o.params)
}

// includes reports whether a share of the registry includes files.
func (s *section) includes() bool {
	if s == nil {
		return false
	}
	_, ok := s.get("include")
	return ok
}

// descriptors are share security descriptors as sharesec showed them.
type descriptors struct {
	mu    sync.Mutex
	stamp stamp // of share_info.tdb
	sddl  map[string]string
}

// descriptor returns the security descriptor of a share, in the text form of sharesec. It asks
// once, until the descriptors of shares change.
func (s *Shares) descriptor(ctx context.Context, name string) (string, error) {
	var now stamp
	if v := s.seen.Load(); v.filesSame() {
		at := time.Now()
		if st, err := stampOf(s.statePath(v.conf, "share_info.tdb")); err == nil && st.isSettled(at) {
			now = st
		}
	}
	key := strings.ToLower(name)
	if sddl, ok := s.descriptors.get(now, key); ok {
		return sddl, nil
	}
	sddl, err := s.tools.run(ctx, "sharesec", name, "--viewsddl")
	if err != nil {
		return "", err
	}
	sddl = strings.TrimSpace(sddl)
	if !strings.HasPrefix(sddl, "D:") && !strings.HasPrefix(sddl, "O:") && !strings.HasPrefix(sddl, "G:") {
		return "", fmt.Errorf("samba: sharesec shows %q as the security descriptor of share %q", sddl, name)
	}
	s.descriptors.put(now, key, sddl)
	return sddl, nil
}

func (d *descriptors) get(now stamp, key string) (string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sddl, ok := d.sddl[key]
	return sddl, ok && now.path != "" && d.stamp.same(now)
}

func (d *descriptors) put(now stamp, key, sddl string) {
	const most = 10000
	if now.path == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.stamp.same(now) || len(d.sddl) >= most {
		d.stamp, d.sddl = now, map[string]string{}
	}
	d.sddl[key] = sddl
}

// mayHaveDescriptor reports whether a share that exposes a copy may have a security descriptor of
// its own: whether the copy's id, which no other share has, is anywhere in the database of
// descriptors.
func (s *Shares) mayHaveDescriptor(name string, text []byte) bool {
	id, ok := exposedID(name)
	return !ok || text == nil || bytes.Contains(bytes.ToLower(text), []byte(id.String()))
}

// descriptorDatabase returns the database of descriptors, nil where it cannot be read.
func (s *Shares) descriptorDatabase() []byte {
	v := s.seen.Load()
	if !v.filesSame() {
		return nil
	}
	path := s.statePath(v.conf, "share_info.tdb")
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []byte{}
	case err != nil:
		return nil
	}
	return text
}
