//go:build linux

package ctdb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/durable"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/trusted"
)

const asidePrefix = "aside-"

// Check reads the table in a directory, which agents may have open, and changes nothing. When it is
// damaged Check returns a [state.DamageError] and what could be read; a Report is nil when nothing
// could.
func Check(dir string) (*state.Report, error) {
	if err := trusted.Path(dir); err != nil {
		return nil, fmt.Errorf("ctdb: the directory of the table: %w", err)
	}
	l := &log{dir: dir, readOnly: true}
	err := l.openToRead()
	if l.records == nil {
		return nil, fmt.Errorf("ctdb: %w", err)
	}
	r := &state.Report{ID: state.ID(l.id), Sequence: l.seq, Size: l.size(), Records: l.records}
	if err != nil {
		err = fmt.Errorf("ctdb: %w", err)
	}
	return r, err
}

// openToRead is open for a reader: it makes nothing, and keeps what could be read before damage. A
// newest generation of which nothing can be read leaves that before it, which is kept for this.
func (l *log) openToRead() error {
	known, err := l.readID()
	if err != nil {
		known = uuid.Nil
	}
	for {
		gens, genErr := l.generations()
		if genErr != nil || len(gens) == 0 {
			if genErr == nil {
				genErr = l.damage(l.dir, errors.New("it has no table"), true)
			}
			return errors.Join(err, genErr)
		}
		moved := false
		for i := len(gens) - 1; i >= 0; i-- {
			l.view = view{}
			loadErr := l.loadGeneration(gens[i])
			if _, gone := os.Lstat(l.genDir(gens[i])); loadErr != nil && gone != nil {
				moved = true // its end has come meanwhile
				break
			}
			if errors.Is(loadErr, os.ErrNotExist) {
				loadErr = l.damage(l.genDir(gens[i]), loadErr, true)
			}
			if err = errors.Join(err, loadErr); l.records != nil {
				break
			}
		}
		if moved {
			err = nil
			continue
		}
		if l.records != nil && known != uuid.Nil && known != l.id {
			err = errors.Join(err, l.damage(l.dir, fmt.Errorf("it has the table of agent %s, and was that of %s", l.id,
				known), false))
		}
		return err
	}
}

// size returns the bytes of the table's files.
func (l *log) size() (n int64) {
	gens, err := l.generations()
	if err != nil {
		return 0
	}
	for _, gen := range gens {
		list, _ := os.ReadDir(l.genDir(gen))
		for _, e := range list {
			if info, err := e.Info(); err == nil && !strings.HasPrefix(e.Name(), tmpPrefix) {
				n += info.Size()
			}
		}
	}
	return n
}

// Replace makes a table with an identity and records in the place of that in a directory, which no
// agent of any node may have open: it fails with an error that matches [state.ErrInUse] where one
// has. The old table, if there is one, stays in the directory that Replace returns. When Replace is
// cut short no agent opens what is there, and it can be done again.
func Replace(dir string, id state.ID, records map[string][]byte) (aside string, err error) {
	if err := trusted.Path(dir); err != nil {
		return "", fmt.Errorf("ctdb: the directory of the table: %w", err)
	}
	release, err := lockAll(dir)
	if err != nil {
		return "", fmt.Errorf("ctdb: %w", err)
	}
	defer release()
	if aside, err = replace(dir, uuid.UUID(id), records); err != nil {
		return aside, fmt.Errorf("ctdb: %w", err)
	}
	return aside, nil
}

// lockAll locks the files of all members that there ever were.
func lockAll(dir string) (release func(), err error) {
	var held []*os.File
	release = func() {
		for _, f := range held {
			_ = f.Close()
		}
	}
	locks, err := filepath.Glob(filepath.Join(globQuote(filepath.Join(dir, "members")), "*.lock"))
	if err != nil {
		return nil, err
	}
	for _, path := range locks {
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil {
			held = append(held, f)
			err = lockCall(f, unix.F_OFD_SETLK, unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		}
		if isHeld(err) {
			err = fmt.Errorf("member %s in %s: %w", strings.TrimSuffix(filepath.Base(path), ".lock"), dir, state.ErrInUse)
		}
		if err != nil {
			release()
			return nil, err
		}
	}
	return release, nil
}

// globQuote makes a pattern that matches a path alone.
func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// replace puts the new table behind all old generations, and then these aside. From the first of
// these steps to the last the table is not that of the file "id", or there is none though there
// was: both are refused. Where the identity stays the same, each step leaves a whole table.
func replace(dir string, id uuid.UUID, records map[string][]byte) (aside string, err error) {
	l := &log{dir: dir, member: "import"}
	gens, err := l.generations()
	if err != nil {
		return "", err
	}
	next := uint64(1)
	if len(gens) > 0 {
		next = gens[len(gens)-1] + 2 // the one between may be made by whoever reads an end
	}
	if err := l.makeGeneration(next, id, 0, records); err != nil {
		return "", err
	}
	if len(gens) > 0 {
		aside = filepath.Join(dir, asidePrefix+time.Now().UTC().Format("20060102-150405.000000000"))
		if err := os.Mkdir(aside, 0o700); err != nil {
			return "", err
		}
		err := os.Link(filepath.Join(dir, idFile), filepath.Join(aside, idFile))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return aside, err
		}
		for _, gen := range gens {
			if err := os.Rename(l.genDir(gen), filepath.Join(aside, filepath.Base(l.genDir(gen)))); err != nil {
				return aside, err
			}
		}
		if err := durable.Dir(aside); err != nil {
			return aside, err
		}
	}
	tmp, err := l.writeTmp(dir, []byte(id.String()+"\n"))
	if err != nil {
		return aside, err
	}
	if err := os.Rename(tmp, filepath.Join(dir, idFile)); err != nil {
		return aside, errors.Join(err, os.Remove(tmp))
	}
	return aside, durable.Dir(dir)
}
