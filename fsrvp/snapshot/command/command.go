// Package command takes snapshots by programs that the administrator names: for file servers whose
// storage has snapshots of its own, and a command-line tool for them. Nobody has to write Go.
//
// # Programs
//
// Each program gets one JSON object, a request, on its standard input, and answers with one on its
// standard output. It succeeds by exit status 0. When it fails, what it wrote to its standard error
// is in the error that the agent logs, and its exit status says what the client sees:
//
//	10   the volume cannot be copied          (NOT_SUPPORTED)
//	11   there is such a snapshot already     (OBJECT_ALREADY_EXISTS)
//	12   no space is left                     (disk full)
//	any other: the call fails
//
// A program that runs longer than Config.Timeout is killed, with all processes of its group, and so
// is one whose set is aborted. It may write 8 MiB. Members that it does not know it has to ignore;
// later versions may add some. The request:
//
//	{"version": 1, "action": "create", "snapshots": [
//	  {"id": "f0f1f2f3-...", "mark": "01234567-....42", "volume": {"id": "command:/srv/vms", "path": "/srv/vms"}, "writable": false}]}
//
// Action is one of:
//
//   - create: take all the snapshots, as close to one moment as the storage can, and have them on
//     stable storage; or take none, and fail. The answer has the directory that shows each,
//     absolute, and when it was taken: {"snapshots": [{"id": "f0f1f2f3-...", "path":
//     "/snapshots/f0f1f2f3-...", "created": "2026-11-27T06:40:13Z"}]}. A writable one may be
//     written to until it is sealed. After a failure the program for delete is run for all of them.
//   - delete: delete the snapshots; one that does not exist is no failure. No answer is needed.
//   - list: answer with every snapshot that was made and still exists, half-made ones too, as the
//     request for its create described it; {"snapshots": []} says that there is none. The request
//     has no snapshots.
//   - seal: make the snapshots, which have a path here, read-only for good. Doing it twice is no
//     failure.
//   - prepare: do what makes a create of these snapshots short, such as to flush. Nothing that it
//     makes needs to be deleted.
//
// A program is killed, too, when the agent is, on Linux; what it has started is not. The agent that
// is started next runs list and delete, which have to wait until all of the former agent's programs
// have ended: let each lock something that what it starts inherits, as the examples do.
//
// The id of a snapshot is all that names it. A storage that has names of its own keeps the id in
// them, or in a property, since nothing else records what exists. The mark, at most 57 letters,
// digits, dots and hyphens, names the agent that a snapshot is of; list gives it back. An agent
// deletes only what has its own mark, or none. The testdata of the package has programs for LVM
// (thin volumes) and for an array's command-line tool.
//
// # Volumes
//
// The volume of a shared directory is the outermost of Config.Volumes that it is in. It is opened
// step by step, without symbolic links, before and after the snapshot is taken, and must be the
// directory that it was when the share was added. Snapshots must not be more open than it: where a
// directory above the volume does not let everybody pass, one above its snapshot has to have the
// same owner, group and rights, or to let only root pass; else Create fails.
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
// for in PATH. One program may do several actions: the request says which.
type Config struct {
	Create, Delete, List []string // required
	Seal                 []string // nil: there are no writable snapshots, and AUTO_RECOVERY contexts are not supported
	Prepare              []string // nil: there is nothing to prepare
	// Volumes are the directories that are volumes with all that is below them, absolute, clean,
	// without symbolic links. Required.
	Volumes []string
	// Timeout is how long a program may run. Zero: five minutes.
	Timeout time.Duration
}

// DefaultTimeout is how long a program may run where the Config does not say.
const DefaultTimeout = 5 * time.Minute

const prefix = "command:"

// Snapshots is the backend. It implements backend.Snapshots, SnapshotLister and PathChecker, and
// what New returns also Sealer and Preparer, as far as there are programs for them. All methods may
// be called by several goroutines at once, and run programs at once.
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

// New returns the backend. It fails for a Config that is wrong. Programs are not run yet.
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

// Volume finds the volume that holds dir. It fails with fsrvp.ErrNotSupported where no volume does,
// or something else is mounted below dir.
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

// run runs a program, and reads its answer where one is wanted.
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
		return fmt.Errorf("%s: its answer is no JSON object that the protocol has: %w", strings.Join(argv, " "), err)
	}
	return nil
}

// parse reads an answer. Nothing in it may be said twice, and it must have snapshots: a program that
// answers with something else than what it was asked for is not taken for one that has none.
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
				key := strings.ToLower(strings.ToUpper(token.(string))) // as Unmarshal takes them for the same
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

// status gives the failure of a program the status that its exit status asks for.
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

// Create has the program take all the snapshots. After a failure it has the other program delete
// them.
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
	// What was there before is not for this call to delete.
	if err != nil && !errors.Is(err, fsrvp.ErrObjectAlreadyExists) {
		err = errors.Join(err, s.run(context.WithoutCancel(ctx), "delete", s.cfg.Delete, list, nil))
	}
	if err != nil {
		return nil, wrap("create", err)
	}
	return made, nil
}

// checkFree fails where there is a snapshot with one of the ids, whoever it belongs to.
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
			return nil, fmt.Errorf("the program for create has taken snapshot %v, which nobody has asked for", id)
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
			return nil, fmt.Errorf("the program for create says nothing of snapshot %v", spec.ID)
		}
		if err := checkMade(spec, d.Path); err != nil {
			return nil, err
		}
		if err := s.hidden.Note(spec); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return nil, err
		}
		if d.Created != nil {
			if t, err := fsrvp.FiletimeOf(*d.Created); err != nil || t < 0 { // before 1601
				return nil, fmt.Errorf("the program for create has taken snapshot %v at %v, which no client understands",
					spec.ID, d.Created)
			}
		}
		made[i] = backend.Snapshot{SnapshotSpec: spec, Path: d.Path, Created: begun}
		if d.Created != nil {
			made[i].Created = d.Created.UTC()
		}
	}
	return made, nil
}

// checkMade checks the directory that a program says to show a snapshot.
func checkMade(spec backend.SnapshotSpec, path string) error {
	if err := checkPin(spec.Volume); err != nil { // whatever the program opened by the path
		return err
	}
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return fmt.Errorf("the program for create has snapshot %v at %q, which is no absolute, clean path", spec.ID,
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
		return fmt.Errorf("the program for create has snapshot %v at %s, which is no directory", spec.ID, path)
	}
	if volume, err := os.Stat(spec.Volume.Path); err != nil {
		return err
	} else if os.SameFile(fi, volume) || mount.Within(spec.Volume.Path, resolved) {
		return fmt.Errorf("the program for create has snapshot %v at %s, which is the volume itself, or above it", spec.ID,
			path)
	}
	return snapdir.CheckNoMoreOpen(resolved, spec.Volume.Path)
}

// Delete has the program delete a snapshot, unless list says that it has another agent's mark.
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

// List returns what the program lists. It fails where that is of volumes of other backends, or has
// ids twice.
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
		if d.Volume.ID == "" { // it need not know
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

// CheckPath fails where a directory of a snapshot is reached by a symbolic link, or something was
// mounted below the shared one when the snapshot was taken.
func (s *Snapshots) CheckPath(_ context.Context, snapshot backend.Snapshot, path string) error {
	return wrap("check", s.hidden.CheckExposed(snapshot, path))
}

// Seal has the program make a snapshot read-only.
func (s sealing) Seal(ctx context.Context, made backend.Snapshot) error {
	d := describe(made.SnapshotSpec)
	d.Path, d.Created = made.Path, &made.Created
	return wrap("seal", s.run(ctx, "seal", s.cfg.Seal, []snapshot{d}, nil))
}

// Prepare has the program prepare a Create.
func (s preparing) Prepare(ctx context.Context, volumes []backend.Volume) error {
	list := make([]snapshot, len(volumes))
	for i, v := range volumes {
		list[i] = describe(backend.SnapshotSpec{Volume: v})
	}
	return wrap("prepare", s.run(ctx, "prepare", s.cfg.Prepare, list, nil))
}

// Prepare has the program prepare a Create.
func (s sealingAndPrepared) Prepare(ctx context.Context, volumes []backend.Volume) error {
	return s.prepare.Prepare(ctx, volumes)
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("command: %s: %w", what, err)
	}
	return nil
}
