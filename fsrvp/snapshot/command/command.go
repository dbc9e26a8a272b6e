// Package command takes snapshots with programs that the administrator configures. It is for file
// servers whose storage has its own snapshots and a command-line tool for them. No Go code is
// needed.
//
// # Programs
//
// Each program gets one JSON object, the request, on its standard input, and writes one as its
// answer to its standard output. Exit status 0 means success. If it fails, the error that the agent
// logs contains its standard error, and its exit status decides what the client sees:
//
//	10   the volume cannot be copied          (NOT_SUPPORTED)
//	11   there is such a snapshot already     (OBJECT_ALREADY_EXISTS)
//	12   no space is left                     (disk full)
//	any other: the call fails
//
// A program that runs longer than Config.Timeout is killed, with all processes of its group, and so
// is one whose set is aborted. It may write up to 8 MiB. It must ignore unknown members, since
// later versions may add some. The request:
//
//	{"version": 1, "action": "create", "snapshots": [
//	  {"id": "f0f1f2f3-...", "mark": "01234567-....42", "volume": {"id": "command:/srv/vms", "path": "/srv/vms"}, "writable": false}]}
//
// The action is one of:
//
//   - create: take all snapshots, as close to one moment as the storage can, and bring them to
//     stable storage, or take none, and fail. The answer has the absolute path of the directory
//     that shows each snapshot, and the time when it was taken: {"snapshots": [{"id":
//     "f0f1f2f3-...", "path": "/snapshots/f0f1f2f3-...", "created": "2026-11-27T06:40:13Z"}]}. A
//     writable one may be written to until it is sealed. After a failure the agent runs the program
//     for delete for all of them.
//   - delete: delete the snapshots; a missing one is not a failure. No answer is needed.
//   - list: answer with all existing snapshots, including unfinished ones, as the requests for
//     their creation described them; {"snapshots": []} means that there are none. The request has
//     no snapshots.
//   - seal: make the snapshots, which have a path in this request, permanently read-only. Sealing
//     twice is not a failure.
//   - prepare: do work ahead that makes creating these snapshots short, such as flushing. It must
//     not make anything that needs to be deleted.
//
// On Linux a program is also killed when the agent is killed, but its child processes are not. The
// next agent runs list and delete, which must wait until all programs of the former agent have
// ended: make each program take a lock that its children inherit, as the examples do.
//
// A snapshot is identified only by its id. A storage with its own names must keep the id in the
// name, or in a property, since nothing else records what exists. The mark, at most 57 letters,
// digits, dots and hyphens, names the agent that owns a snapshot; list must return it. An agent
// deletes only snapshots with its own mark or without one. The testdata of the package has programs
// for LVM (thin volumes) and for an array's command-line tool.
//
// # Volumes
//
// The volume of a shared directory is the outermost of Config.Volumes that contains it. The package
// opens it step by step, without symbolic links, before and after the snapshot is taken, and it
// must be the same directory as when the share was added. Snapshots must not be more accessible
// than the volume: if not everybody may pass through a directory above the volume, a directory
// above its snapshot must have the same owner, group and rights, or admit only root; otherwise
// Create fails.
package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/mount"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/program"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/safepath"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snapdir"
)

// A Config names the programs, each with its first arguments. Programs without a slash are looked
// up in PATH. One program may handle several actions: the request says which.
type Config struct {
	Create, Delete, List []string // required
	Seal                 []string // nil means no writable snapshots and no AUTO_RECOVERY contexts
	Prepare              []string // nil means nothing to prepare
	// Volumes are the directories that are volumes with everything below them, absolute, clean,
	// without symbolic links. Required.
	Volumes []string
	// Timeout limits the time that a program may run. Zero means [DefaultTimeout].
	Timeout time.Duration
}

// DefaultTimeout is the time that a program may run by default.
const DefaultTimeout = 5 * time.Minute

const prefix = "command:"

// Snapshots is the backend. It implements [backend.Snapshots], SnapshotLister and PathChecker, and
// the result of New also Sealer and Preparer, if there are programs for them. It is safe for
// concurrent use; concurrent calls run programs concurrently.
type Snapshots struct {
	cfg    Config
	hidden snapdir.Hidden
}

type (
	sealing            struct{ *Snapshots }
	preparing          struct{ *Snapshots }
	sealingAndPrepared struct {
		sealing
		prepare preparing
	}
)

var _ interface {
	backend.Snapshots
	backend.SnapshotLister
	backend.PathChecker
} = (*Snapshots)(nil)

var _ interface {
	backend.Snapshots
	backend.Sealer
	backend.Preparer
	backend.SnapshotLister
	backend.PathChecker
} = sealingAndPrepared{}

// New returns the backend. It fails if the Config is invalid. It does not run programs.
func New(cfg *Config) (backend.Snapshots, error) {
	if cfg == nil || len(cfg.Create) == 0 || len(cfg.Delete) == 0 || len(cfg.List) == 0 || len(cfg.Volumes) == 0 {
		return nil, errors.New("command: the Config needs Create, Delete, List and Volumes")
	}
	if err := snapdir.CheckPaths(cfg.Volumes...); err != nil {
		return nil, fmt.Errorf("command: %w", err)
	}
	if cfg.Timeout < 0 {
		return nil, errors.New("command: the timeout is negative")
	}
	c := *cfg
	c.Volumes = slices.Clone(c.Volumes)
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	s := &Snapshots{cfg: c}
	switch {
	case c.Seal != nil && c.Prepare != nil:
		return sealingAndPrepared{sealing{s}, preparing{s}}, nil
	case c.Seal != nil:
		return sealing{s}, nil
	case c.Prepare != nil:
		return preparing{s}, nil
	}
	return s, nil
}

// Volume returns the volume that holds dir. It fails with [fsrvp.ErrNotSupported] if no volume
// does, or if something else is mounted below dir.
func (s *Snapshots) Volume(_ context.Context, dir string) (backend.Volume, error) {
	v, err := s.volume(dir)
	return v, wrap("volume", err)
}

func (s *Snapshots) volume(dir string) (backend.Volume, error) {
	if err := snapdir.CheckShared(dir); err != nil {
		return backend.Volume{}, err
	}
	root := ""
	for _, v := range s.cfg.Volumes {
		if mount.Within(dir, v) && (root == "" || mount.Within(root, v)) {
			root = v
		}
	}
	if root == "" {
		return backend.Volume{}, fmt.Errorf("%s is in no volume that is configured: %w", dir, fsrvp.ErrNotSupported)
	}
	below, err := mount.Below(dir)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return backend.Volume{}, err
	}
	if len(below) > 0 {
		return backend.Volume{}, fmt.Errorf("%s is mounted below %s: %w", below[0], dir, fsrvp.ErrNotSupported)
	}
	d, err := safepath.Open(root)
	if err != nil {
		return backend.Volume{}, err
	}
	defer d.Close()
	pin, err := d.Pin()
	return backend.Volume{ID: prefix + root, Path: root, Pin: pin}, err
}

// A request is what a program reads.
type request struct {
	Version   int        `json:"version"`
	Action    string     `json:"action"`
	Snapshots []snapshot `json:"snapshots,omitempty"`
}

// An answer is what a program writes.
type answer struct {
	Snapshots []snapshot `json:"snapshots"`
}

type snapshot struct {
	ID       uuid.UUID      `json:"id"`
	Mark     string         `json:"mark,omitempty"`
	Volume   backend.Volume `json:"volume"`
	Writable bool           `json:"writable"`
	Path     string         `json:"path,omitempty"`
	Created  *time.Time     `json:"created,omitempty"`
}

func describe(spec backend.SnapshotSpec) snapshot {
	spec.Volume.Pin = ""
	return snapshot{ID: uuid.UUID(spec.ID), Mark: spec.Mark.String(), Volume: spec.Volume, Writable: spec.Writable}
}

func (d *snapshot) spec() (backend.SnapshotSpec, error) {
	mark, err := backend.ParseMark(d.Mark)
	return backend.SnapshotSpec{ID: fsrvp.CopyID(d.ID), Mark: mark, Volume: d.Volume, Writable: d.Writable}, err
}

// run runs a program, and reads its answer if one is expected.
func (s *Snapshots) run(ctx context.Context, action string, argv []string, list []snapshot, into *answer) error {
	input, err := json.Marshal(request{Version: 1, Action: action, Snapshots: list})
	if err != nil {
		return err
	}
	out, err := program.Run(ctx, program.Call{Argv: argv, Input: append(input, '\n'), Timeout: s.cfg.Timeout})
	if err != nil {
		return status(err)
	}
	if into == nil {
		return nil
	}
	if err := parse(out, into); err != nil {
		return fmt.Errorf("%s: its answer is not a JSON object of the protocol: %w", strings.Join(argv, " "), err)
	}
	return nil
}

// parse reads an answer. No member may occur twice, and it must have the member snapshots, so that
// a wrong answer is not taken for an empty list.
func parse(out []byte, into *answer) error {
	if err := json.Unmarshal(out, into); err != nil {
		return err
	}
	if into.Snapshots == nil {
		return errors.New(`it has no member "snapshots"`)
	}
	var open []map[string]bool // the members of each object and, nil, array that has not ended
	name := false              // whether the next token is the name of a member
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'):
			open = append(open, map[string]bool{})
		case json.Delim('['):
			open = append(open, nil)
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		default:
			if name {
				key := strings.ToLower(strings.ToUpper(token.(string))) // Unmarshal treats them as the same name
				if members := open[len(open)-1]; members[key] {
					return fmt.Errorf("it has the member %q twice in one object", token)
				} else {
					members[key] = true
				}
				name = false
				continue
			}
		}
		name = len(open) > 0 && open[len(open)-1] != nil
	}
}

// status wraps the failure of a program with the status for its exit status.
func status(err error) error {
	if e := new(program.Error); errors.As(err, &e) {
		switch e.Exit {
		case 10:
			return fmt.Errorf("%w: %w", err, fsrvp.ErrNotSupported)
		case 11:
			return fmt.Errorf("%w: %w", err, fsrvp.ErrObjectAlreadyExists)
		case 12:
			return fmt.Errorf("%w: %w", err, syscall.ENOSPC)
		}
	}
	return err
}

// Create runs the program that takes all snapshots. After a failure it runs the program that
// deletes them.
func (s *Snapshots) Create(ctx context.Context, specs []backend.SnapshotSpec) ([]backend.Snapshot, error) {
	list := make([]snapshot, len(specs))
	for i, spec := range specs {
		if err := s.check(spec); err != nil {
			return nil, wrap("create", err)
		}
		list[i] = describe(spec)
	}
	if ctx.Err() != nil {
		return nil, wrap("create", context.Cause(ctx))
	}
	if err := s.checkFree(ctx, specs); err != nil {
		return nil, wrap("create", err)
	}
	made, err := s.create(ctx, specs, list)
	// This call must not delete snapshots that existed before.
	if err != nil && !errors.Is(err, fsrvp.ErrObjectAlreadyExists) {
		err = errors.Join(err, s.run(context.WithoutCancel(ctx), "delete", s.cfg.Delete, list, nil))
	}
	if err != nil {
		return nil, wrap("create", err)
	}
	return made, nil
}

// checkFree fails if there is a snapshot with one of the ids, whoever owns it.
func (s *Snapshots) checkFree(ctx context.Context, specs []backend.SnapshotSpec) error {
	all, err := s.list(ctx)
	if err != nil {
		return err
	}
	for _, spec := range specs {
		if slices.ContainsFunc(all, func(made backend.SnapshotSpec) bool { return made.ID == spec.ID }) {
			return fmt.Errorf("snapshot %v exists: %w", spec.ID, fsrvp.ErrObjectAlreadyExists)
		}
	}
	return nil
}

func (s *Snapshots) check(spec backend.SnapshotSpec) error {
	if err := checkID(spec.Volume); err != nil {
		return err
	}
	if spec.Writable && s.cfg.Seal == nil {
		return fmt.Errorf("no program seals writable snapshots: %w", fsrvp.ErrNotSupported)
	}
	return checkPin(spec.Volume)
}

func checkID(v backend.Volume) error {
	if !strings.HasPrefix(v.ID, prefix) {
		return fmt.Errorf("volume %q is not one of the backend command: %w", v.ID, fsrvp.ErrInvalidArg)
	}
	return nil
}

func checkPin(v backend.Volume) error {
	d, err := safepath.OpenPinned(v.Path, v.Pin)
	if err != nil {
		return err
	}
	return d.Close()
}

func (s *Snapshots) create(ctx context.Context, specs []backend.SnapshotSpec, list []snapshot) ([]backend.Snapshot,
	error) {
	begun := time.Now().UTC()
	var a answer
	if err := s.run(ctx, "create", s.cfg.Create, list, &a); err != nil {
		return nil, err
	}
	byID := make(map[fsrvp.CopyID]snapshot, len(specs))
	at := make(map[string]fsrvp.CopyID, len(specs))
	for _, d := range a.Snapshots {
		id := fsrvp.CopyID(d.ID)
		if !slices.ContainsFunc(specs, func(spec backend.SnapshotSpec) bool { return spec.ID == id }) {
			return nil, fmt.Errorf("the program for create has taken snapshot %v, which was not requested", id)
		}
		if _, twice := byID[id]; twice {
			return nil, fmt.Errorf("the program for create names snapshot %v twice", id)
		}
		if other, twice := at[d.Path]; twice {
			return nil, fmt.Errorf("the program for create has snapshots %v and %v at the same path, %s", other, id, d.Path)
		}
		byID[id], at[d.Path] = d, id
	}
	made := make([]backend.Snapshot, len(specs))
	for i, spec := range specs {
		d, ok := byID[spec.ID]
		if !ok {
			return nil, fmt.Errorf("the program for create does not mention snapshot %v", spec.ID)
		}
		if err := checkMade(spec, d.Path); err != nil {
			return nil, err
		}
		if err := s.hidden.Note(spec); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return nil, err
		}
		if d.Created != nil {
			if t, err := fsrvp.FiletimeOf(*d.Created); err != nil || t < 0 { // before 1601
				return nil, fmt.Errorf("the program for create has taken snapshot %v at %v, "+
					"a time that the protocol cannot express", spec.ID, d.Created)
			}
		}
		made[i] = backend.Snapshot{SnapshotSpec: spec, Path: d.Path, Created: begun}
		if d.Created != nil {
			made[i].Created = d.Created.UTC()
		}
	}
	return made, nil
}

// checkMade checks the directory that a program names for a snapshot.
func checkMade(spec backend.SnapshotSpec, path string) error {
	if err := checkPin(spec.Volume); err != nil { // in case the path was another directory for the program
		return err
	}
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return fmt.Errorf("the program for create has snapshot %v at %q, which is not an absolute, clean path", spec.ID,
			path)
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("the program for create has taken no snapshot %v: %w", spec.ID, err)
	}
	fi, err := os.Stat(resolved)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return fmt.Errorf("the program for create has snapshot %v at %s, which is not a directory", spec.ID, path)
	}
	if volume, err := os.Stat(spec.Volume.Path); err != nil {
		return err
	} else if os.SameFile(fi, volume) || mount.Within(spec.Volume.Path, resolved) {
		return fmt.Errorf("the program for create has snapshot %v at %s, which is the volume itself, or above it", spec.ID,
			path)
	}
	return snapdir.CheckNoMoreOpen(resolved, spec.Volume.Path)
}

// Delete runs the program that deletes a snapshot, unless list says that it has another agent's
// mark.
func (s *Snapshots) Delete(ctx context.Context, spec backend.SnapshotSpec) error {
	if err := checkID(spec.Volume); err != nil {
		return wrap("delete", err)
	}
	specs, err := s.list(ctx)
	if err != nil {
		return wrap("delete", err)
	}
	for _, made := range specs {
		if made.ID == spec.ID && !made.Mark.Allows(spec.Mark.Owner) {
			return wrap("delete", fmt.Errorf("snapshot %v, agent %s: %w", spec.ID, made.Mark.Owner, backend.ErrForeign))
		}
	}
	s.hidden.Forget(spec.ID)
	return wrap("delete", s.run(ctx, "delete", s.cfg.Delete, []snapshot{describe(spec)}, nil))
}

// List returns the program's list. It fails if that has volumes of other backends, or the same id
// twice.
func (s *Snapshots) List(ctx context.Context, owner backend.Owner) (own, foreign []backend.SnapshotSpec, err error) {
	specs, err := s.list(ctx)
	if err != nil {
		return nil, nil, wrap("list", err)
	}
	own, foreign = snapdir.Split(specs, owner)
	return own, foreign, nil
}

func (s *Snapshots) list(ctx context.Context) ([]backend.SnapshotSpec, error) {
	var a answer
	if err := s.run(ctx, "list", s.cfg.List, nil, &a); err != nil {
		return nil, err
	}
	var specs []backend.SnapshotSpec
	seen := make(map[uuid.UUID]bool)
	for _, d := range a.Snapshots {
		if seen[d.ID] {
			return nil, fmt.Errorf("the program for list names snapshot %v twice", d.ID)
		}
		seen[d.ID] = true
		if d.Volume.ID == "" { // the program need not know it
			d.Volume.ID = prefix
		}
		if err := checkID(d.Volume); err != nil {
			return nil, fmt.Errorf("the program for list: %w", err)
		}
		spec, err := d.spec()
		if err != nil {
			return nil, fmt.Errorf("the program for list: snapshot %v: %w", d.ID, err)
		}
		specs = append(specs, spec)
	}
	return specs, nil
}

// CheckPath fails if the path to a directory of a snapshot has a symbolic link, or if something was
// mounted below the shared directory when the snapshot was taken.
func (s *Snapshots) CheckPath(_ context.Context, snapshot backend.Snapshot, path string) error {
	return wrap("check", s.hidden.CheckExposed(snapshot, path))
}

// Seal runs the program that makes a snapshot read-only.
func (s sealing) Seal(ctx context.Context, made backend.Snapshot) error {
	d := describe(made.SnapshotSpec)
	d.Path, d.Created = made.Path, &made.Created
	return wrap("seal", s.run(ctx, "seal", s.cfg.Seal, []snapshot{d}, nil))
}

// Prepare runs the program that prepares a Create.
func (s preparing) Prepare(ctx context.Context, volumes []backend.Volume) error {
	list := make([]snapshot, len(volumes))
	for i, v := range volumes {
		list[i] = describe(backend.SnapshotSpec{Volume: v})
	}
	return wrap("prepare", s.run(ctx, "prepare", s.cfg.Prepare, list, nil))
}

// Prepare runs the program that prepares a Create.
func (s sealingAndPrepared) Prepare(ctx context.Context, volumes []backend.Volume) error {
	return s.prepare.Prepare(ctx, volumes)
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("command: %s: %w", what, err)
	}
	return nil
}
