package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/lib/pq"

	"github.com/go-fsrvp/go-fsrvp/examples/internal/repeated"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/writer"
)

const writersUsage = `-writer is what has to hold still while the copies are taken, KIND:ARGUMENT or
KIND@GROUP:ARGUMENT. Groups freeze in the order of their numbers, and thaw in reverse.
The kinds, with their usual groups:
  0  command:PROGRAM            runs PROGRAM freeze, and PROGRAM thaw
  0  postgres:CONNECTION        host=/run/postgresql user=backup dbname=postgres, or
                                //user@host/database, or @FILE that has it; the label of the
                                backup goes to FILE.tar.backup_label
  0  mysql:DSN                  backup@unix(/run/mysqld/mysqld.sock)/, or
                                user:password@tcp(host:3306)/, or @FILE that has it
  1  qga:SOCKET[,MOUNT...]      a virtual machine, by the socket of its QEMU guest agent
  1  libvirt:DOMAIN[,MOUNT...]  a virtual machine of libvirt, by virsh
  2  fsfreeze:MOUNT[,MOUNT...]  file systems of this host that lie on what is copied
-freeze and -thaw are programs without arguments, in group 0.
`

// guardArg is the only argument of the program where it is the guard of a writer.
const guardArg = "writer-guard"

// writerFlags say what has to hold still.
type writerFlags struct {
	freeze, thaw string
	specs        repeated.Strings
	limit        time.Duration
}

func (f *writerFlags) register(flags *flag.FlagSet) {
	flags.StringVar(&f.freeze, "freeze", "",
		"run this `program` before the copies are taken: the application holds still when it ends")
	flags.StringVar(&f.thaw, "thaw", "", "run this `program` when the copies are taken, or could not be")
	flags.Var(&f.specs, "writer", "freeze `KIND:ARGUMENT` while the copies are taken; may be given several times")
	flags.DurationVar(&f.limit, "freeze-limit", writer.DefaultLimit,
		"the longest `time` from freeze to thaw; when it is over, the backup fails")
}

// writers are those of the flags.
type writers struct {
	list []provider.Writer
	dbs  []*sql.DB
	// frozenMounts are of this host.
	frozenMounts []string
	labels       []namedLabel
}

// A namedLabel is a file that PostgreSQL needs in addition to a copy.
type namedLabel struct {
	writer string
	label  writer.PostgresLabel
}

// newWriters makes the writers. The report is told what they report.
func newWriters(f *writerFlags, rep *report) (*writers, error) {
	ws := &writers{}
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("-writer: %w", err)
	}
	guard := writer.Guard{Command: []string{exe, guardArg}}
	if f.limit <= 0 {
		return nil, fmt.Errorf("-freeze-limit is %v; it must be above zero", f.limit)
	}
	if f.freeze != "" || f.thaw != "" {
		c := writer.Command{Name: "programs", Limit: f.limit, Guard: guard}
		if f.freeze != "" {
			c.Freeze = []string{f.freeze}
		}
		if f.thaw != "" {
			c.Thaw = []string{f.thaw}
		}
		w, err := c.Writer()
		if err != nil {
			return nil, fmt.Errorf("-freeze %s -thaw %s: %w", f.freeze, f.thaw, err)
		}
		ws.list = append(ws.list, w)
	}
	for _, spec := range f.specs {
		if err := ws.add(spec, f.limit, guard, rep); err != nil {
			return nil, errors.Join(fmt.Errorf("-writer %s: %w", withoutPassword(spec), err), ws.close())
		}
	}
	rep.mu.Lock()
	defer rep.mu.Unlock()
	for _, w := range ws.list { // in their order, not that of their first event
		rep.writerLocked(w.Name)
	}
	return ws, nil
}

// withoutPassword is a flag as an error shows it.
func withoutPassword(spec string) string {
	kind, _, _ := strings.Cut(spec, ":")
	if strings.HasPrefix(kind, "postgres") || strings.HasPrefix(kind, "mysql") {
		return kind + ":..."
	}
	return spec
}

func (ws *writers) add(spec string, limit time.Duration, guard writer.Guard, rep *report) error {
	kind, arg, ok := strings.Cut(spec, ":")
	if !ok || arg == "" {
		return errors.New("is not KIND:ARGUMENT; -h lists the kinds")
	}
	kind, number, grouped := strings.Cut(kind, "@")
	parts := strings.Split(arg, ",")
	var mounts []string
	if len(parts) > 1 {
		mounts = parts[1:]
	}
	var w provider.Writer
	var err error
	switch kind {
	case "command":
		freeze, thaw := []string{arg, "freeze"}, []string{arg, "thaw"}
		w, err = writer.Command{Freeze: freeze, Thaw: thaw, Limit: limit, Guard: guard}.Writer()
	case "qga":
		w, err = writer.QEMUGuestAgent{Socket: parts[0], Mounts: mounts, Limit: limit, Guard: guard}.Writer()
		w.Group = 1
	case "libvirt":
		w, err = writer.Libvirt{Domain: parts[0], Mounts: mounts, Limit: limit, Guard: guard}.Writer()
		w.Group = 1
	case "fsfreeze":
		w, err = writer.FSFreeze{Mounts: parts, Limit: limit, Guard: guard}.Writer()
		w.Group = 2
		ws.frozenMounts = append(ws.frozenMounts, parts...)
	case "postgres":
		w, err = ws.postgres(arg, limit, rep)
	case "mysql":
		w, err = ws.mysql(arg, limit, rep)
	default:
		return fmt.Errorf("there is no kind %q; -h lists them", kind)
	}
	if err != nil {
		return err
	}
	if grouped {
		if w.Group, err = strconv.Atoi(number); err != nil {
			return fmt.Errorf("the group is %q, no number", number)
		}
	}
	for n, name := 2, w.Name; slices.ContainsFunc(ws.list,
		func(o provider.Writer) bool { return o.Name == w.Name }); n++ {
		w.Name = fmt.Sprintf("%s (%d)", name, n)
	}
	ws.list = append(ws.list, w)
	return nil
}

func (ws *writers) postgres(arg string, limit time.Duration, rep *report) (provider.Writer, error) {
	source, err := fromFile(arg)
	if err != nil {
		return provider.Writer{}, err
	}
	if strings.HasPrefix(source, "//") {
		source = "postgres:" + source
	}
	connector, err := pq.NewConnector(source)
	if err != nil {
		return provider.Writer{}, err
	}
	db := sql.OpenDB(connector)
	ws.dbs = append(ws.dbs, db)
	name := fmt.Sprintf("PostgreSQL %d", len(ws.dbs))
	return writer.Postgres{
		DB: db, Name: name, Limit: limit,
		Label: func(_ context.Context, _ *provider.Set, l writer.PostgresLabel) error {
			ws.labels = append(ws.labels, namedLabel{name, l})
			rep.note(name, fmt.Sprintf("log from %s to %s", l.StartLSN, l.StopLSN),
				func(s *writerSummary) { s.Label = &l })
			return nil
		},
	}.Writer()
}

func (ws *writers) mysql(arg string, limit time.Duration, rep *report) (provider.Writer, error) {
	source, err := fromFile(arg)
	if err != nil {
		return provider.Writer{}, err
	}
	cfg, err := mysql.ParseDSN(source)
	if err != nil {
		return provider.Writer{}, err
	}
	cfg.Logger = &mysql.NopLogger{} // what it would print is in its errors
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return provider.Writer{}, err
	}
	db := sql.OpenDB(connector)
	ws.dbs = append(ws.dbs, db)
	name := fmt.Sprintf("MySQL %d", len(ws.dbs))
	return writer.MySQL{
		DB: db, Name: name, Limit: limit,
		Position: func(_ context.Context, p writer.BinlogPosition) error {
			rep.note(name, fmt.Sprintf("binary log %s at %d, GTID %s", p.File, p.Position, cmp.Or(p.GTID, "none")),
				func(s *writerSummary) { s.Binlog = &p })
			return nil
		},
	}.Writer()
}

// fromFile returns arg, or with an @ in front what the file has: a password on the command line is
// seen by everybody.
func fromFile(arg string) (string, error) {
	name, ok := strings.CutPrefix(arg, "@")
	if !ok {
		return arg, nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(b)), nil
}

// check refuses to freeze what the copies of a local directory are written to.
func (ws *writers) check(local string) error {
	if local == "" {
		return nil
	}
	for _, m := range ws.frozenMounts {
		if sameFileSystem(m, local) {
			return fmt.Errorf("-writer fsfreeze:%s: the copy of -local %s is written to the same file system, "+
				"which would wait for the thaw", m, local)
		}
	}
	return nil
}

// writeLabels puts the labels beside the archive.
func (ws *writers) writeLabels(out string) error {
	for i, l := range ws.labels {
		if out == "-" {
			return errors.New("-out - has no place for the label of PostgreSQL; give -out a file")
		}
		name := out
		if i > 0 {
			name = fmt.Sprintf("%s.%d", out, i+1)
		}
		for suffix, text := range map[string]string{".backup_label": l.label.BackupLabel,
			".tablespace_map": l.label.TablespaceMap} {
			if text == "" {
				continue
			}
			f, err := createOutput(name+suffix, nil)
			if err != nil {
				return err
			}
			_, err = f.Write([]byte(text))
			if err == nil {
				err = f.commit()
			}
			f.discard()
			if err != nil {
				return fmt.Errorf("label of %s: %w", l.writer, err)
			}
		}
	}
	return nil
}

func (ws *writers) close() error {
	var errs []error
	for _, db := range ws.dbs {
		errs = append(errs, db.Close())
	}
	return errors.Join(errs...)
}

// sameFileSystem reports whether both are known to be on one file system.
func sameFileSystem(a, b string) bool {
	b, err := filepath.EvalSymlinks(b)
	if err != nil {
		return false
	}
	x, okA := deviceOf(a)
	y, okB := deviceOf(b)
	return okA && okB && x == y
}

// writerSummary is one writer in the summary.
type writerSummary struct {
	Name           string                 `json:"name"`
	PrepareSeconds float64                `json:"prepare_seconds"`
	FreezeSeconds  float64                `json:"freeze_seconds"`
	ThawSeconds    float64                `json:"thaw_seconds"`
	Label          *writer.PostgresLabel  `json:"label,omitempty"`
	Binlog         *writer.BinlogPosition `json:"binlog,omitempty"`
}

// writerLocked returns the summary of a writer; r.mu is held.
func (r *report) writerLocked(name string) *writerSummary {
	for i := range r.summary.Writers {
		if r.summary.Writers[i].Name == name {
			return &r.summary.Writers[i]
		}
	}
	r.summary.Writers = append(r.summary.Writers, writerSummary{Name: name})
	return &r.summary.Writers[len(r.summary.Writers)-1]
}

// writerPartLocked is the end of a writer's part of a phase; r.mu is held.
func (r *report) writerPartLocked(e provider.Event) {
	s := r.writerLocked(e.Writer)
	switch e.Phase {
	case provider.PhasePrepare:
		s.PrepareSeconds = e.Elapsed.Seconds()
	case provider.PhaseFreeze:
		s.FreezeSeconds = e.Elapsed.Seconds()
	case provider.PhaseThaw:
		s.ThawSeconds = e.Elapsed.Seconds()
	default:
		return
	}
	result := ""
	if e.Err != nil {
		result = " failed"
	}
	fmt.Fprintf(r.w, "  %s%s after %v: %s\n", e.Phase, result, e.Elapsed.Round(10*time.Microsecond), e.Writer)
}

// note adds what a writer reports.
func (r *report) note(name, text string, change func(*writerSummary)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r.writerLocked(name))
	fmt.Fprintf(r.w, "  %s: %s\n", name, text)
}
