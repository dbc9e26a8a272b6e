package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/share/directory"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot"
)

// A localSource is one directory, behind a whole file server of MS-FSRVP inside the program: an
// agent that really takes a snapshot, a server that listens on loopback, and Kerberos with a realm
// that lives as long as the program.
type localSource struct {
	dir     string // as the user named it
	share   string // the share's UNC path
	exposed *directory.Shares
	temp    *claim // holds the snapshot, the exposed share and the agent's store
	server  *fsrvptest.Server
	journal *leftJournal
	reasons *reasons
}

// checkLocal returns the directory of -local, without symbolic links.
func checkLocal(dir string) (string, error) {
	real, err := filepath.Abs(dir)
	if err == nil {
		real, err = filepath.EvalSymlinks(real)
	}
	if err != nil {
		return "", fmt.Errorf("-local: %w", err)
	}
	if info, err := os.Stat(real); err != nil || !info.IsDir() {
		return "", errors.Join(fmt.Errorf("-local: %s is not a directory", dir), err)
	}
	return real, nil
}

func newLocalSource(ctx context.Context, name string, cfg *provider.Config, journal *leftJournal,
	rep *report) (_ *localSource, err error) {
	dir, err := checkLocal(name)
	if err != nil {
		return nil, err
	}
	if err := recoverBeside(ctx, dir); err != nil {
		rep.warn(err) // it is in nobody's way
	}
	s := &localSource{dir: name, share: `\\localhost\` + shareName(dir), journal: journal,
		reasons: &reasons{dir: name, report: rep}}
	if s.temp, err = claimBeside(dir, journal); err != nil {
		return nil, fmt.Errorf("-local: no place for the snapshot: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.reasons.Auto, err = snapshot.New(&snapshot.Config{
		Dirs: []string{filepath.Join(s.temp.path,
			"snapshots")}, SkipUnreadable: true, NoSync: true, Logger: slog.New(&problemHandler{report: rep, share: name}),
	}); err != nil {
		return nil, err
	}
	s.reasons.temp = s.temp.path
	s.exposed, err = directory.New(filepath.Join(s.temp.path, "exposed"), map[string]string{shareName(dir): dir})
	if err != nil {
		return nil, err
	}
	s.server, err = fsrvptest.NewServer(&fsrvptest.ServerConfig{TCP: true, Agent: agent.Config{
		Snapshots: s.reasons,
		Shares:    s.exposed,
		StorePath: filepath.Join(s.temp.path, "agent.db"),
		Names:     []string{"localhost"},
	}})
	if err != nil {
		return nil, err
	}
	cfg.Dial = func(ctx context.Context, _ string) (provider.Agent, error) {
		return s.server.Dial(ctx, fsrvptest.Operator)
	}
	return s, nil
}

// shareName makes a share's name of a directory's.
func shareName(dir string) string {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`"/\[]:|<>+=;,*?%@{}$`, r) || r < ' ' || r == 0xFFFD {
			return '_'
		}
		return r
	}, filepath.Base(dir))
	if name = strings.Trim(name, ". "); name == "" {
		return "local"
	}
	if r := []rune(name); len(r) > 40 {
		return string(r[:40])
	}
	return name
}

// The names of temporary directories: beside what is backed up, and where temporary files go.
const (
	besidePattern = ".fsrvp-backup-*"
	tempPattern   = "fsrvp-backup-*"
)

// claimBeside makes a directory on the file system of dir, where its files can be cloned, or else
// where temporary files go: where others could replace what is beside dir, the copy is not safe
// there.
func claimBeside(dir string, journal *leftJournal) (*claim, error) {
	var c *claim
	err := errors.New("others may write beside it")
	if safePlace(filepath.Dir(dir)) {
		c, err = claimDir(filepath.Dir(dir), besidePattern, journal)
	}
	if err == nil && below(c.path, dir) { // dir is the root of everything
		err = errors.Join(c.remove(), journal.remove(c.path))
		c = nil
	}
	if c == nil {
		var temp string
		if temp, err = filepath.EvalSymlinks(os.TempDir()); err == nil {
			c, err = claimDir(temp, tempPattern, journal)
		}
	}
	return c, err
}

// recoverBeside removes what runs that were killed have left of snapshots of dir.
func recoverBeside(ctx context.Context, dir string) error {
	var errs []error
	for _, pattern := range []string{
		filepath.Join(globQuote(filepath.Dir(dir)), besidePattern), filepath.Join(globQuote(os.TempDir()), tempPattern),
	} {
		found, err := filepath.Glob(pattern)
		errs = append(errs, err)
		for _, path := range found {
			errs = append(errs, recoverTemp(ctx, path))
		}
	}
	return errors.Join(errs...)
}

// recoverTemp removes the directory of a run that was killed. The agent of that run is started
// again: it knows which snapshots it has made. One that is in use, or is not there, stays.
func recoverTemp(ctx context.Context, path string) error {
	c := leftBehind(path, true)
	if c == nil {
		return nil
	}
	if err := endAgent(ctx, path); err != nil {
		if left, errLeft := os.ReadDir(filepath.Join(path, "snapshots")); errLeft == nil && len(left) > 0 {
			return errors.Join(fmt.Errorf("%s, of a backup that was killed, cannot be removed: %w", path, err),
				c.file.Close())
		}
	}
	if err := c.remove(); err != nil {
		return fmt.Errorf("%s, of a backup that was killed, cannot be removed: %w", path, err)
	}
	return nil
}

// endAgent has the agent whose files are in a directory delete its snapshots.
func endAgent(ctx context.Context, path string) error {
	store := filepath.Join(path, "agent.db")
	if _, err := os.Stat(store); errors.Is(err, fs.ErrNotExist) {
		return nil // so it has made nothing
	}
	snapshots, err := snapshot.New(&snapshot.Config{Dirs: []string{filepath.Join(path, "snapshots")}})
	if err != nil {
		return err
	}
	shares, err := directory.New(filepath.Join(path, "exposed"), nil)
	if err != nil {
		return err
	}
	a, err := agent.New(ctx, &agent.Config{Snapshots: snapshots, Shares: shares, StorePath: store,
		Names: []string{"localhost"}})
	if err != nil {
		return err
	}
	return a.Close()
}

func (s *localSource) shares() []string { return []string{s.share} }

func (s *localSource) title(provider.Copy) string { return s.dir }

func (s *localSource) describe(c provider.Copy) shareSummary {
	return shareSummary{Share: s.dir, SetID: c.SetID, CopyID: c.CopyID, Created: c.Created}
}

// prefix is nothing: the archive has the directory's contents at its top.
func (s *localSource) prefix(provider.Copy) string { return "" }

func (s *localSource) open(_ context.Context, c provider.Copy) (tree, error) {
	return openLocalTree(s.exposed.Path(c.Path[strings.LastIndex(c.Path, `\`)+1:]))
}

func (s *localSource) close() error {
	var err error
	if s.server != nil {
		err = s.server.Close()
	}
	if err = errors.Join(err, s.temp.remove()); err == nil {
		err = s.journal.remove(s.temp.path)
	}
	return err
}

// explain replaces what a client of a server far away would learn by what the agent inside the
// program knows. Errors name no server: the user has named none.
func (s *localSource) explain(err error) error {
	if err == nil {
		return nil
	}
	causes := s.reasons.take()
	var out []error
	for _, e := range flatten(err) {
		pe, ok := e.(*provider.Error)
		if !ok || pe.Writer != "" || pe.Phase == provider.PhaseBackup {
			if ok {
				e = &provider.Error{Phase: pe.Phase, Writer: pe.Writer, Err: pe.Err}
			}
			out = append(out, e)
			continue
		}
		if causes != nil {
			out = append(out, fmt.Errorf("-local %s: no snapshot of it: %w", s.dir, causes))
			causes = nil
			continue
		}
		if s.reasons.any { // what follows from the cause
			continue
		}
		inner := pe.Err
		if answer := new(fsrvp.Error); errors.As(inner, &answer) {
			inner = answer.Status
		}
		out = append(out, fmt.Errorf("-local %s: %w", s.dir, &provider.Error{Phase: pe.Phase, Err: inner}))
	}
	return errors.Join(out...)
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}

// reasons are the snapshots of the agent inside the program. It remembers why they failed, which
// MS-FSRVP has no words for.
type reasons struct {
	*snapshot.Auto
	dir, temp string
	report    *report

	mu  sync.Mutex
	err error
	any bool
}

// note remembers an error; those that follow from the end of a context say nothing.
func (r *reasons) note(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err, r.any = r.explain(err), true
	}
}

func (r *reasons) take() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.err
	r.err = nil
	return err
}

// explain adds what the user has to know: how much room, and whose file.
func (r *reasons) explain(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		if free, total, ok := space(r.temp); ok {
			err = fmt.Errorf("%w; it was to be in %s, whose file system has %s free of %s", err, filepath.Dir(r.temp),
				bytesText(free), bytesText(total))
		}
	case errors.Is(err, fs.ErrPermission):
		if owner := unreadable(r.dir); owner != "" {
			err = fmt.Errorf("%w; %s: run as root, or as a user who can read it", err, owner)
		}
	}
	return err
}

// unreadable finds the first file below a directory that cannot be read, and says whose it is.
func unreadable(dir string) string {
	found := ""
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type() == 0 {
			var f *os.File
			if f, err = os.Open(path); err == nil {
				f.Close()
			}
		}
		if errors.Is(err, fs.ErrPermission) {
			found = path + " " + whose(path)
			return fs.SkipAll
		}
		return nil
	})
	return found
}

// whose says which user owns a file.
func whose(path string) string {
	info, err := os.Lstat(path)
	if err != nil {
		return "is in a directory that does not show it"
	}
	return fmt.Sprintf("belongs to %s, with the mode %04o", ownerOf(info), info.Mode().Perm())
}

// Volume implements backend.Snapshots.
func (r *reasons) Volume(ctx context.Context, dir string) (backend.Volume, error) {
	v, err := r.Auto.Volume(ctx, dir)
	r.note(ctx, err)
	return v, err
}

// PrepareSnapshots implements backend.SnapshotPreparer.
func (r *reasons) PrepareSnapshots(ctx context.Context, specs []backend.SnapshotSpec) error {
	err := r.Auto.PrepareSnapshots(ctx, specs)
	r.note(ctx, err)
	return err
}

// Create implements backend.Snapshots. What changed while it was copied is a problem.
func (r *reasons) Create(ctx context.Context, specs []backend.SnapshotSpec) ([]backend.Snapshot, error) {
	snapshots, err := r.Auto.Create(ctx, specs)
	r.note(ctx, err)
	for _, s := range snapshots {
		for _, path := range s.Moved {
			r.report.early(&problem{
				Share: r.dir, Path: path, Kind: kindChanged,
				Reason: "it changed while the snapshot was taken: a file may have parts of several states, a directory may lack files that were moved",
			})
		}
		for _, lost := range s.Unread {
			p := problemOf(lost.Path, lost)
			p.Share = r.dir
			if errors.Is(lost, fs.ErrPermission) {
				p.Reason += "; it " + whose(filepath.Join(r.dir,
					lost.Path)) + ": run as root, or as a user who can read it"
			}
			r.report.early(p)
		}
	}
	return snapshots, err
}

// A problemHandler makes problems of what the copying of a tree warns of.
type problemHandler struct {
	report *report
	share  string
}

func (h *problemHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}
func (h *problemHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h *problemHandler) WithGroup(string) slog.Handler      { return h }

// Handle takes a record: its attribute "path" is the file, "err" why it is not there; without that,
// the file changed.
func (h *problemHandler) Handle(_ context.Context, r slog.Record) error {
	p := &problem{Share: h.share, Kind: kindChanged, Reason: r.Message}
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "path":
			p.Path = a.Value.String()
		case "err":
			p.Kind, p.Reason = kindMissing, r.Message+": "+a.Value.String()
			if err, ok := a.Value.Any().(error); ok && errors.Is(err, fs.ErrPermission) {
				p.Kind = kindUnreadable
			}
		}
		return true
	})
	if p.Path != "" {
		h.report.early(p)
	}
	return nil
}
