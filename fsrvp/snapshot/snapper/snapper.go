// Package snapper takes snapshots of btrfs subvolumes with snapper's daemon, over D-Bus. Snapper
// must have a configuration for the subvolume. They are ordinary snapper snapshots: its tools list
// them, with the agent's description. It is for Linux, and needs root.
//
// # Snapshots
//
// A snapshot is read-only, or writable until Seal. Snapper chooses its number; its id and the
// agent's mark are in its userdata, as fsrvp-id and fsrvp-mark. It has no cleanup algorithm, so
// snapper does not delete it by itself. Snapshots of several volumes are taken one after the other.
//
// # Volumes
//
// The volume of a shared directory is the subvolume of the snapper configuration that holds it.
// Other subvolumes, except snapper's own .snapshots, and mounts must not be below the directory.
// IDs are "snapper:" and the name of the configuration.
//
// # Who may read them
//
// Snapshots are in .snapshots of their subvolume, which users can access as far as snapper's
// configuration allows (SYNC_ACL, ALLOW_USERS, ALLOW_GROUPS). A file server that reads as its users
// needs that. Snapshots that would be more accessible than the directories above their volume are
// refused.
package snapper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/btrfsctl"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/mount"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/safepath"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snapdir"
)

// A Config says how to reach snapper. Nil means the zero values.
type Config struct {
	// Address is the address of the bus, in D-Bus's form. Empty means the system bus.
	Address string
	// Timeout limits each call. Zero means one minute.
	Timeout time.Duration
}

// Snapshots is the backend. It implements [backend.Snapshots], Sealer, Preparer, SnapshotLister,
// PathChecker and CompatibilityReporter. It is safe for concurrent use. Each method makes a new
// connection.
type Snapshots struct {
	cfg    Config
	hidden snapdir.Hidden
}

var _ interface {
	backend.Snapshots
	backend.Sealer
	backend.Preparer
	backend.SnapshotLister
	backend.PathChecker
	backend.CompatibilityReporter
} = (*Snapshots)(nil)

const (
	prefix  = "snapper:"
	keyID   = "fsrvp-id"
	keyMark = "fsrvp-mark"
)

// New returns the backend. It fails with [errors.ErrUnsupported] if the system is not Linux, and if
// the Config is invalid.
func New(cfg *Config) (*Snapshots, error) {
	if cfg == nil {
		cfg = new(Config)
	}
	if !btrfsctl.Supported {
		return nil, fmt.Errorf("snapper: it is for Linux only: %w", errors.ErrUnsupported)
	}
	if cfg.Timeout < 0 {
		return nil, errors.New("snapper: the timeout is negative")
	}
	return &Snapshots{cfg: Config{Address: cfg.Address, Timeout: cmp.Or(cfg.Timeout, time.Minute)}}, nil
}

// A daemon is a connection to snapper for one call of the backend.
type daemon struct {
	conn    *dbus.Conn
	object  dbus.BusObject
	timeout time.Duration
}

func (s *Snapshots) connect() (*daemon, error) {
	var conn *dbus.Conn
	var err error
	if s.cfg.Address == "" {
		conn, err = dbus.ConnectSystemBus()
	} else {
		conn, err = dbus.Connect(s.cfg.Address)
	}
	if err != nil {
		return nil, fmt.Errorf("no connection to D-Bus: %w", err)
	}
	return &daemon{conn, conn.Object("org.opensuse.Snapper", "/org/opensuse/Snapper"), s.cfg.Timeout}, nil
}

func (d *daemon) close() { d.conn.Close() }

// call calls a method, and stores its result.
func (d *daemon) call(ctx context.Context, method string, into any, args ...any) error {
	limited, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	c := d.object.CallWithContext(limited, "org.opensuse.Snapper."+method, 0, args...)
	err := c.Err
	if err == nil && into != nil {
		err = c.Store(into)
	}
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return fmt.Errorf("snapper's %s: %w", method, status(err))
}

// ask is call for a method that changes nothing. It asks again if the daemon has ended without an
// answer: snapper 0.10 dies if a client dies during a request, and the bus starts it again.
func (d *daemon) ask(ctx context.Context, method string, into any, args ...any) error {
	for try := 1; ; try++ {
		if err := d.call(ctx, method, into, args...); !errors.Is(err, errLost) || try == attempts {
			return err
		}
	}
}

// attempts is the number of tries if the daemon keeps ending.
const attempts = 3

const noReply = "org.freedesktop.DBus.Error.NoReply"

// errLost means that the daemon ended before it answered.
var errLost = errors.New("snapper's daemon has ended")

// status wraps snapper's error with a status of the protocol.
func status(err error) error {
	var e dbus.Error
	if !errors.As(err, &e) {
		return err
	}
	text := e.Name
	for _, part := range e.Body {
		if s, ok := part.(string); ok && s != "" {
			text += ": " + s
		}
	}
	var wrapped error
	switch e.Name {
	case "error.unknown_config":
		wrapped = fsrvp.ErrNotSupported
	case "error.no_permissions":
		wrapped = fsrvp.ErrAccessDenied
	case "error.config_locked", "error.config_in_use", "error.snapshot_in_use":
		wrapped = syscall.EBUSY
	case "error.quota", "error.free_space":
		wrapped = syscall.ENOSPC
	case "error.illegal_snapshot":
		wrapped = fsrvp.ErrObjectNotFound
	case noReply:
		wrapped = errLost
	default:
		return errors.New(text)
	}
	return fmt.Errorf("%s: %w", text, wrapped)
}

// A config is a configuration of snapper: (ssa{ss}).
type config struct {
	Name      string
	Subvolume string
	Settings  map[string]string
}

func (d *daemon) configs(ctx context.Context) (list []config, err error) {
	err = d.ask(ctx, "ListConfigs", &list)
	return list, err
}

// A record is snapper's description of a snapshot: (uquxussa{ss}).
type record struct {
	Number      uint32
	Type        uint16
	Pre         uint32
	Date        int64 // -1 means now, only for number 0
	User        uint32
	Description string
	Cleanup     string
	Userdata    map[string]string
}

func (d *daemon) list(ctx context.Context, config string) (list []record, err error) {
	err = d.ask(ctx, "ListSnapshots", &list, config)
	return list, err
}

// spec returns the spec in a record, if the snapshot is from a backend like this one.
func (r *record) spec(config string) (backend.SnapshotSpec, bool) {
	id, err := uuid.Parse(r.Userdata[keyID])
	if err != nil {
		return backend.SnapshotSpec{}, false
	}
	mark, err := backend.ParseMark(r.Userdata[keyMark])
	if err != nil {
		return backend.SnapshotSpec{}, false
	}
	return backend.SnapshotSpec{ID: fsrvp.CopyID(id), Mark: mark, Volume: backend.Volume{ID: prefix + config}}, true
}

// Volume returns the subvolume that holds dir. It fails with [fsrvp.ErrNotSupported] if snapper has
// no configuration for it, or if other subvolumes or mounts are below dir.
func (s *Snapshots) Volume(ctx context.Context, dir string) (backend.Volume, error) {
	v, err := s.volume(ctx, dir)
	return v, wrap("volume", err)
}

func (s *Snapshots) volume(ctx context.Context, dir string) (backend.Volume, error) {
	if err := snapdir.CheckShared(dir); err != nil {
		return backend.Volume{}, err
	}
	d, err := safepath.Open(dir)
	if err != nil {
		return backend.Volume{}, err
	}
	defer d.Close()
	if is, err := btrfsctl.Is(d.File); err != nil {
		return backend.Volume{}, err
	} else if !is {
		return backend.Volume{}, fmt.Errorf("%s is not on btrfs: %w", dir, fsrvp.ErrNotSupported)
	}
	if below, err := mount.Below(dir); err != nil {
		return backend.Volume{}, err
	} else if len(below) > 0 {
		return backend.Volume{}, fmt.Errorf("%s is mounted below %s: %w", below[0], dir, fsrvp.ErrNotSupported)
	}
	nested, err := nested(d.File)
	if err != nil {
		return backend.Volume{}, err
	}
	if len(nested) > 0 {
		return backend.Volume{}, fmt.Errorf("%s has another subvolume in it, %s: %w", dir, nested[0],
			fsrvp.ErrNotSupported)
	}
	bus, err := s.connect()
	if err != nil {
		return backend.Volume{}, err
	}
	defer bus.close()
	configs, err := bus.configs(ctx)
	if err != nil {
		return backend.Volume{}, err
	}
	var found *config
	for i, c := range configs {
		if mount.Within(dir, c.Subvolume) && (found == nil || mount.Within(c.Subvolume, found.Subvolume)) {
			found = &configs[i]
		}
	}
	if found == nil {
		return backend.Volume{}, fmt.Errorf("snapper has no configuration for %s: %w", dir, fsrvp.ErrNotSupported)
	}
	root, err := safepath.Open(found.Subvolume)
	if err != nil {
		return backend.Volume{}, err
	}
	defer root.Close()
	if err := sameSubvolume(d.File, root.File); err != nil {
		return backend.Volume{}, err
	}
	pin, err := root.Pin()
	return backend.Volume{ID: prefix + found.Name, Path: found.Subvolume, Pin: pin}, err
}

// nested returns the paths, from an open directory, of subvolumes below it other than snapper's own
// and those in them, which a snapshot does not include.
func nested(dir *os.File) ([]string, error) {
	all, err := btrfsctl.Nested(dir)
	return slices.DeleteFunc(all, func(path string) bool { return filepath.Base(path) == ".snapshots" }), err
}

// sameSubvolume fails if dir is not in the subvolume whose root is open.
func sameSubvolume(dir, root *os.File) error {
	want, err := btrfsctl.Info(root)
	if err != nil {
		return fmt.Errorf("%w: %w", err, fsrvp.ErrNotSupported)
	}
	here, err := btrfsctl.Info(dir)
	if err != nil {
		return err
	}
	if here.ID != want.ID {
		return fmt.Errorf("%s is in another subvolume than %s, which snapper has: %w", dir.Name(), root.Name(),
			fsrvp.ErrNotSupported)
	}
	return nil
}

// configOf returns the configuration that a volume's ID names.
func configOf(v backend.Volume) (string, error) {
	name, ok := strings.CutPrefix(v.ID, prefix)
	if !ok || name == "" {
		return "", fmt.Errorf("volume %q is not one of the backend snapper: %w", v.ID, fsrvp.ErrInvalidArg)
	}
	return name, nil
}

// Prepare writes back dirty pages, for which a snapshot would have to wait.
func (s *Snapshots) Prepare(ctx context.Context, volumes []backend.Volume) error {
	for _, v := range volumes {
		if ctx.Err() != nil {
			return wrap("prepare", context.Cause(ctx))
		}
		d, err := safepath.OpenPinned(v.Path, v.Pin)
		if err != nil {
			return wrap("prepare", err)
		}
		err = btrfsctl.Flush(d.File)
		d.Close()
		if err != nil {
			return wrap("prepare", err)
		}
	}
	return nil
}

// Create takes the snapshots one after the other, or leaves none. They are on stable storage.
func (s *Snapshots) Create(ctx context.Context, specs []backend.SnapshotSpec) ([]backend.Snapshot, error) {
	made, err := s.create(ctx, specs)
	return made, wrap("create", err)
}

func (s *Snapshots) create(ctx context.Context, specs []backend.SnapshotSpec) ([]backend.Snapshot, error) {
	for _, spec := range specs {
		if _, err := configOf(spec.Volume); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	bus, err := s.connect()
	if err != nil {
		return nil, err
	}
	defer bus.close()
	if err := bus.checkFree(ctx, specs); err != nil {
		return nil, err
	}
	made := make([]backend.Snapshot, len(specs))
	for i, spec := range specs {
		made[i], err = bus.take(ctx, spec)
		if err == nil {
			err = s.note(spec)
		}
		if err == nil {
			continue
		}
		errs := []error{err}
		for _, done := range specs[:i+1] { // including the last one, whose call may have been abandoned
			errs = append(errs, bus.delete(context.WithoutCancel(ctx), done))
		}
		return nil, errors.Join(errs...)
	}
	return made, nil
}

// note remembers what a snapshot lacks.
func (s *Snapshots) note(spec backend.SnapshotSpec) error {
	d, err := safepath.OpenPinned(spec.Volume.Path, spec.Volume.Pin)
	if err != nil {
		return err
	}
	defer d.Close()
	paths, err := nested(d.File)
	if err != nil {
		return err
	}
	for i, path := range paths {
		paths[i] = filepath.Join(spec.Volume.Path, path)
	}
	return s.hidden.Note(spec, paths...)
}

// checkFree fails if there is a snapshot with one of the ids, whoever owns it.
func (d *daemon) checkFree(ctx context.Context, specs []backend.SnapshotSpec) error {
	for _, spec := range specs {
		config, err := configOf(spec.Volume)
		if err != nil {
			return err
		}
		records, err := d.list(ctx, config)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(records, func(r record) bool { return r.Userdata[keyID] == spec.ID.String() }) {
			return fmt.Errorf("snapshot %v exists: %w", spec.ID, fsrvp.ErrObjectAlreadyExists)
		}
	}
	return nil
}

// take takes one snapshot.
func (d *daemon) take(ctx context.Context, spec backend.SnapshotSpec) (backend.Snapshot, error) {
	config, err := configOf(spec.Volume)
	if err != nil {
		return backend.Snapshot{}, err
	}
	root, err := safepath.OpenPinned(spec.Volume.Path, spec.Volume.Pin)
	if err != nil {
		return backend.Snapshot{}, err
	}
	defer root.Close()
	userdata := map[string]string{keyID: spec.ID.String()}
	if spec.Mark != (backend.Mark{}) {
		userdata[keyMark] = spec.Mark.String()
	}
	created := time.Now().UTC()
	var number uint32
	err = d.call(ctx, "CreateSingleSnapshotV2", &number, config, uint32(0), !spec.Writable,
		"shadow copy of an fsrvp agent", "", userdata)
	if err != nil {
		return backend.Snapshot{}, err
	}
	path := filepath.Join(spec.Volume.Path, ".snapshots", strconv.FormatUint(uint64(number), 10), "snapshot")
	m, err := safepath.Open(path)
	if err != nil {
		return backend.Snapshot{}, err
	}
	defer m.Close()
	of, err := btrfsctl.Info(root.File)
	if err != nil {
		return backend.Snapshot{}, err
	}
	is, err := btrfsctl.Info(m.File)
	if err != nil {
		return backend.Snapshot{}, err
	}
	if is.Parent != of.UUID { // in case the path was another directory for the daemon
		return backend.Snapshot{}, fmt.Errorf("snapper's snapshot %d is of another subvolume than %s", number,
			spec.Volume.Path)
	}
	if !is.Created.IsZero() {
		created = is.Created
	}
	if err := snapdir.CheckNoMoreOpen(path, spec.Volume.Path); err != nil {
		return backend.Snapshot{}, err
	}
	return backend.Snapshot{SnapshotSpec: spec, Path: path, Created: created}, btrfsctl.Sync(root.File)
}

// Delete makes snapper delete a snapshot. It fails if snapper no longer knows the configuration,
// since the snapshot may then still exist.
func (s *Snapshots) Delete(ctx context.Context, spec backend.SnapshotSpec) error {
	if !strings.HasPrefix(spec.Volume.ID, prefix) {
		_, err := configOf(spec.Volume)
		return wrap("delete", err)
	}
	bus, err := s.connect()
	if err != nil {
		return wrap("delete", err)
	}
	defer bus.close()
	s.hidden.Forget(spec.ID)
	return wrap("delete", bus.delete(ctx, spec))
}

func (d *daemon) delete(ctx context.Context, spec backend.SnapshotSpec) error {
	config, err := configOf(spec.Volume)
	if err != nil {
		return err
	}
	records, err := d.list(ctx, config)
	if err != nil {
		return err
	}
	for _, r := range records {
		made, ok := r.spec(config)
		if !ok || made.ID != spec.ID {
			continue
		}
		if !made.Mark.Allows(spec.Mark.Owner) {
			return fmt.Errorf("snapshot %v, agent %s: %w", spec.ID, made.Mark.Owner, backend.ErrForeign)
		}
		if err := d.deleteRecord(ctx, config, r); err != nil {
			return err
		}
	}
	return nil
}

// deleteRecord deletes one snapshot. Snapper may reuse its number as soon as it is gone.
func (d *daemon) deleteRecord(ctx context.Context, config string, r record) error {
	for try := 1; ; try++ {
		err := d.call(ctx, "DeleteSnapshots", nil, config, []uint32{r.Number})
		if err == nil || errors.Is(err, fsrvp.ErrObjectNotFound) { // another call has deleted it
			return nil
		}
		again, e := d.list(ctx, config)
		if e != nil {
			return err
		}
		if !slices.ContainsFunc(again, func(a record) bool { return a.Number == r.Number && a.Userdata[keyID] == r.Userdata[keyID] }) {
			return nil
		}
		if !errors.Is(err, errLost) || try == attempts {
			return err
		}
	}
}

// Seal makes a writable snapshot read-only. Everything written to it is then on stable storage.
func (s *Snapshots) Seal(_ context.Context, snapshot backend.Snapshot) error {
	return wrap("seal", seal(snapshot.Path))
}

func seal(path string) error {
	d, err := safepath.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if readOnly, err := btrfsctl.ReadOnly(d.File); err != nil || readOnly {
		return err
	}
	if err := btrfsctl.Flush(d.File); err != nil {
		return err
	}
	if err := btrfsctl.SetReadOnly(d.File); err != nil {
		return err
	}
	return btrfsctl.Sync(d.File)
}

// CheckPath fails if the path to a directory of a snapshot has a symbolic link, or if something was
// mounted below the shared directory when the snapshot was taken.
func (s *Snapshots) CheckPath(_ context.Context, snapshot backend.Snapshot, path string) error {
	return wrap("check", s.hidden.CheckExposed(snapshot, path))
}

// List returns the snapshots in all configurations of snapper that a backend like this one has
// made, without the paths of their volumes, and without saying which are writable.
func (s *Snapshots) List(ctx context.Context, owner backend.Owner) (own, foreign []backend.SnapshotSpec, err error) {
	bus, err := s.connect()
	if err != nil {
		return nil, nil, wrap("list", err)
	}
	defer bus.close()
	configs, err := bus.configs(ctx)
	if err != nil {
		return nil, nil, wrap("list", err)
	}
	var specs []backend.SnapshotSpec
	for _, c := range configs {
		records, err := bus.list(ctx, c.Name)
		if err != nil {
			return nil, nil, wrap("list", err)
		}
		for _, r := range records {
			if spec, ok := r.spec(c.Name); ok {
				specs = append(specs, spec)
			}
		}
	}
	own, foreign = snapdir.Split(specs, owner)
	return own, foreign, nil
}

// Compatibility says that a volume must not be defragmented, which would end the sharing with its
// snapshots.
func (s *Snapshots) Compatibility(context.Context, backend.Volume) (fsrvp.Compatibility, error) {
	return fsrvp.DisableDefrag, nil
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("snapper: %s: %w", what, err)
	}
	return nil
}
