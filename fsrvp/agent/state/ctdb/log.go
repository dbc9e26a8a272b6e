//go:build linux

package ctdb

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/durable"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/recordfile"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/trusted"
)

const (
	kind = "cluster state"

	idFile    = "id"
	genPrefix = "table-"
	baseFile  = "base"
	oldPrefix = "old-"
	tmpPrefix = "tmp-"

	// endKey is put by the last change of a generation. No record of an agent has such a key.
	endKey = "\x00end"

	// maxChanges is the number of changes in a generation.
	maxChanges = 512
	// maxFile bounds the size of a file.
	maxFile = 256 << 20
)

// A log is one member's view of the table.
type log struct {
	dir      string
	member   string
	readOnly bool // it makes no generation
	id       uuid.UUID
	sequence atomic.Uint64 // view.seq, for readers without the lock
	view
	news []state.Change // changes that the view has, but refresh has not returned
}

// A view is a position in the log, and the table at that position.
type view struct {
	gen     uint64
	base    uint64 // the sequence of the generation's first record
	seq     uint64
	sum     recordfile.Sum
	records map[string][]byte
}

func (l *log) genDir(gen uint64) string {
	return filepath.Join(l.dir, fmt.Sprintf("%s%010d", genPrefix, gen))
}

func (l *log) entry(seq uint64) string {
	return filepath.Join(l.genDir(l.gen), fmt.Sprintf("%016d", seq))
}

// damage returns the error for a damaged table.
func (l *log) damage(path string, problem error, missing bool) error {
	return &state.DamageError{Path: path, Problem: problem.Error(), Known: "", Missing: missing,
		Advice: "nothing was deleted. Put a backup of the whole directory in its place, with no agent running on any node"}
}

// open finds the newest generation, or makes the first.
func (l *log) open(id state.ID) error {
	known, err := l.readID()
	if err != nil {
		return err
	}
	gens, err := l.generations()
	if err != nil {
		return err
	}
	if len(gens) == 0 {
		if known != uuid.Nil {
			return l.damage(l.dir, errors.New("it has no table any more"), true)
		}
		if err := l.makeGeneration(1, uuid.UUID(id), 0, nil); err != nil {
			return err
		}
	}
	if err := l.load(); err != nil {
		return err
	}
	l.news = nil
	if known == uuid.Nil {
		return l.writeID()
	}
	if known != l.id {
		return l.damage(l.dir, fmt.Errorf("it has the table of agent %s, and was that of %s", l.id, known), false)
	}
	return nil
}

// readID reads the identity of the table, which is zero where there is none yet.
func (l *log) readID() (uuid.UUID, error) {
	b, err := os.ReadFile(filepath.Join(l.dir, idFile))
	if errors.Is(err, os.ErrNotExist) {
		return uuid.Nil, nil
	}
	if err != nil {
		return uuid.Nil, err
	}
	id, err := uuid.ParseBytes(bytes.TrimSuffix(b, []byte("\n")))
	if err != nil {
		return uuid.Nil, l.damage(filepath.Join(l.dir, idFile), err, false)
	}
	return id, nil
}

// writeID writes the identity, unless another node has.
func (l *log) writeID() error {
	tmp, err := l.writeTmp(l.dir, []byte(l.id.String()+"\n"))
	if err != nil {
		return err
	}
	err = os.Link(tmp, filepath.Join(l.dir, idFile))
	if errors.Is(err, os.ErrExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(tmp), durable.Dir(l.dir))
}

// generations returns the numbers of the existing generations, in order.
func (l *log) generations() ([]uint64, error) {
	list, err := os.ReadDir(l.dir) // sorted by name
	if err != nil {
		return nil, err
	}
	var gens []uint64
	for _, e := range list {
		if digits, ok := strings.CutPrefix(e.Name(), genPrefix); ok {
			n, err := strconv.ParseUint(digits, 10, 64)
			if err != nil {
				return nil, l.damage(filepath.Join(l.dir, e.Name()), errors.New("it has no place here"), false)
			}
			gens = append(gens, n)
		}
	}
	return gens, nil
}

// writeTmp writes a new file to stable storage, and returns its name, which is not yet on stable
// storage.
func (l *log) writeTmp(dir string, data []byte) (string, error) {
	path := filepath.Join(dir, tmpPrefix+l.member+"-"+rand.Text())
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(path))
	}
	return path, nil
}

// makeGeneration makes a generation that begins with a whole table. It is not an error if another
// node has made it.
func (l *log) makeGeneration(gen uint64, id uuid.UUID, seq uint64, records map[string][]byte) error {
	tmp := filepath.Join(l.dir, tmpPrefix+l.member+"-"+rand.Text())
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	data, s := recordfile.AppendHeader(nil, kind, id, seq)
	data, _ = recordfile.AppendRecord(data, s, seq, &state.Change{Put: records})
	file, err := l.writeTmp(tmp, data)
	if err == nil {
		err = os.Rename(file, filepath.Join(tmp, baseFile))
	}
	if err == nil {
		err = durable.Dir(tmp)
	}
	if err == nil {
		// A directory can replace only an empty one, and these are not empty.
		err = os.Rename(tmp, l.genDir(gen))
	}
	if err != nil {
		err = errors.Join(err, os.RemoveAll(tmp))
	}
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, os.ErrExist) {
		err = nil
	}
	return errors.Join(err, durable.Dir(l.dir))
}

// readFile reads a file of the table.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := trusted.File(f); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return b, err
}

// load reads the newest generation from its beginning.
func (l *log) load() error {
	for {
		gens, err := l.generations()
		if err != nil {
			return err
		}
		if len(gens) == 0 {
			return l.damage(l.dir, errors.New("it has no table any more"), true)
		}
		before := l.view
		if before.records != nil {
			before.records = maps.Clone(before.records)
		}
		if err = l.loadGeneration(gens[len(gens)-1]); err != nil {
			l.view = before
		}
		if errors.Is(err, os.ErrNotExist) {
			if _, gone := os.Lstat(l.genDir(gens[len(gens)-1])); gone != nil {
				continue // another node has meanwhile begun the generation after the next
			}
			return l.damage(l.genDir(gens[len(gens)-1]), err, true)
		}
		return err
	}
}

func (l *log) loadGeneration(gen uint64) error {
	path := filepath.Join(l.genDir(gen), baseFile)
	data, err := readFile(path)
	if err != nil {
		return err
	}
	id, base, s, rest, err := recordfile.ParseHeader(data, kind)
	var c state.Change
	if err == nil {
		c, s, err = recordfile.ParseRecord(rest, s, base)
	}
	if err == nil && l.id != uuid.Nil && l.id != id {
		err = fmt.Errorf("it is that of agent %s, and was that of %s", id, l.id)
	}
	if err != nil {
		return l.damage(path, err, false)
	}
	if l.records != nil && base < l.base {
		return l.damage(path, fmt.Errorf("it is older than the one before: it begins with change %d", base), false)
	}
	old, news := l.records, l.news
	l.id, l.view = id, view{gen, base, base, s, c.Put}
	if err = l.follow(); err == nil {
		err = l.checkEnd()
	}
	l.news = news
	if err == nil {
		l.news = append(l.news, difference(old, l.records))
	}
	return err
}

// checkEnd fails if there are changes after the end that was read: then one in between is lost.
func (l *log) checkEnd() error {
	list, err := os.ReadDir(l.genDir(l.gen))
	if err != nil {
		return err
	}
	for _, e := range list {
		seq, err := strconv.ParseUint(e.Name(), 10, 64)
		if err != nil || seq <= l.seq {
			continue
		}
		if _, err := os.Lstat(l.entry(l.seq + 1)); err == nil {
			continue // it has appeared meanwhile
		}
		return l.damage(l.entry(l.seq+1), fmt.Errorf("change %d is missing, and change %d is there", l.seq+1, seq),
			true)
	}
	return nil
}

// follow applies the new changes, up to the first that cannot be read.
func (l *log) follow() error {
	for {
		path := l.entry(l.seq + 1)
		data, err := readFile(path)
		if errors.Is(err, os.ErrNotExist) {
			l.sequence.Store(l.seq)
			return nil
		}
		if err != nil {
			return err
		}
		c, s, err := recordfile.ParseRecord(data, l.sum, l.seq+1)
		if err != nil {
			return l.damage(path, err, false)
		}
		if _, ended := c.Put[endKey]; ended {
			if err := l.nextGeneration(); l.readOnly && errors.Is(err, os.ErrNotExist) {
				l.sequence.Store(l.seq)
				return nil // the next one has not begun
			} else if err != nil {
				return err
			}
			continue
		}
		l.seq, l.sum = l.seq+1, s
		c.Apply(l.records)
		l.news = append(l.news, c)
	}
}

// nextGeneration moves on to the next generation when the next change ends this one, and makes it
// if no other node has.
func (l *log) nextGeneration() error {
	end := l.seq + 1
	next := filepath.Join(l.genDir(l.gen+1), baseFile)
	if _, err := os.Lstat(next); errors.Is(err, os.ErrNotExist) && !l.readOnly {
		if err := l.makeGeneration(l.gen+1, l.id, end, l.records); err != nil {
			return err
		}
	}
	data, err := readFile(next)
	if err != nil {
		return err
	}
	id, base, s, rest, err := recordfile.ParseHeader(data, kind)
	if err == nil {
		_, s, err = recordfile.ParseRecord(rest, s, base)
	}
	if err == nil && (id != l.id || base != end) {
		err = fmt.Errorf("it is that of agent %s from change %d on, and should be that of %s from change %d on", id,
			base, l.id, end)
	}
	if err != nil {
		return l.damage(next, err, false)
	}
	l.gen, l.base, l.seq, l.sum = l.gen+1, end, end, s
	return nil
}

// refresh reads new changes.
func (l *log) refresh() (state.Change, error) {
	gone, err := l.isSuperseded()
	if err != nil {
		return state.Change{}, err
	}
	if !gone {
		if err = l.follow(); errors.Is(err, os.ErrNotExist) {
			gone = true
		}
	}
	if gone {
		err = l.load()
	}
	if err != nil {
		return state.Change{}, err
	}
	c := state.Joined(l.news...)
	l.news = nil
	return c, nil
}

// isSuperseded reports whether the generation no longer exists because this member has not looked
// for so long.
func (l *log) isSuperseded() (bool, error) {
	_, err := os.Lstat(filepath.Join(l.genDir(l.gen), baseFile))
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// hasNews reports whether there are new changes.
func (l *log) hasNews() (bool, error) {
	_, err := os.Lstat(l.entry(l.seq + 1))
	if !errors.Is(err, os.ErrNotExist) {
		return err == nil, err
	}
	return l.isSuperseded()
}

func difference(old, now map[string][]byte) state.Change {
	c := state.Change{Put: map[string][]byte{}}
	for k := range old {
		if _, ok := now[k]; !ok {
			c.Drop = append(c.Drop, k)
		}
	}
	for k, v := range now {
		if was, ok := old[k]; !ok || !bytes.Equal(was, v) {
			c.Put[k] = v
		}
	}
	return c
}

// write makes a change, if it is the next one.
func (l *log) write(c state.Change) error {
	if len(l.news) > 0 {
		return l.conflict()
	}
	s, err := l.append(c)
	if err != nil {
		return err
	}
	l.seq, l.sum = l.seq+1, s
	l.sequence.Store(l.seq)
	c.Apply(l.records)
	if l.seq-l.base >= maxChanges {
		l.end()
	}
	return nil
}

// append adds a change after the newest one that this member has seen.
func (l *log) append(c state.Change) (recordfile.Sum, error) {
	data, s := recordfile.AppendRecord(nil, l.sum, l.seq+1, &c)
	return s, l.appendRecord(data)
}

func (l *log) appendRecord(data []byte) error {
	if l.seq > l.base {
		if _, err := os.Lstat(l.entry(l.seq)); errors.Is(err, os.ErrNotExist) {
			if gone, err := l.isSuperseded(); err != nil || gone {
				return errors.Join(err, l.conflict())
			}
			return l.damage(l.entry(l.seq),
				errors.New("it was there, and is not any more: the table has been changed by hand, or turned back"), true)
		}
	}
	dir := l.genDir(l.gen)
	tmp, err := l.writeTmp(dir, data)
	if errors.Is(err, os.ErrNotExist) {
		return l.conflict()
	}
	if err != nil {
		return err
	}
	err = l.link(tmp)
	if err == nil {
		err = durable.Dir(dir)
	}
	if remove := os.Remove(tmp); err == nil && !errors.Is(remove, os.ErrNotExist) {
		err = remove
	}
	return err
}

func (l *log) conflict() error { return fmt.Errorf("change %d: %w", l.seq+1, state.ErrConflict) }

// link gives a file the name of the next change. Only one node succeeds.
//
// A generation is renamed before it is removed, so a node that was stopped in the middle of this
// for any length of time does not find its change at its path, even if the link was made.
func (l *log) link(tmp string) error {
	path := l.entry(l.seq + 1)
	mine, err := os.Lstat(tmp)
	if err == nil {
		err = os.Link(tmp, path)
	}
	// On some network file systems a repeated operation fails the second time, so check the result.
	is, statErr := os.Lstat(path)
	switch {
	case statErr == nil && mine != nil && os.SameFile(mine, is):
		return nil
	case statErr == nil, err == nil, errors.Is(err, os.ErrExist), errors.Is(err, os.ErrNotExist):
		return l.conflict()
	}
	return err
}

// end ends the generation, and removes the one before it. If it fails, the next node tries again.
func (l *log) end() {
	if _, err := l.append(state.Change{Put: map[string][]byte{endKey: {}}}); err != nil {
		return // another node has written meanwhile
	}
	if err := l.nextGeneration(); err != nil {
		return
	}
	gens, err := l.generations()
	if err != nil {
		return
	}
	for _, gen := range gens {
		if gen+1 < l.gen {
			old := filepath.Join(l.dir, oldPrefix+l.member+"-"+rand.Text())
			if os.Rename(l.genDir(gen), old) == nil {
				_ = os.RemoveAll(old)
			}
		}
	}
}
