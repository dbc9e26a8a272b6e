package recordfile

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/trusted"
)

// readFile reads a whole file that openFile opens.
func readFile(path string, mode int) ([]byte, error) {
	f, err := openFile(path, mode)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > MaxSize {
		return nil, fmt.Errorf("%s has %d bytes, %d is the most", path, info.Size(), MaxSize)
	}
	return io.ReadAll(io.LimitReader(f, MaxSize))
}

// openFile opens a file that nobody else may read or write, and that is no symbolic link.
func openFile(path string, mode int) (*os.File, error) {
	f, err := os.OpenFile(path, mode|noFollow|noWait, 0)
	if err != nil {
		return nil, explain(path, err)
	}
	if err := trusted.File(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// writeFile makes a locked file, on stable storage but for its name.
func writeFile(path string, data []byte) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|noFollow, 0o600)
	if err != nil {
		return nil, err
	}
	err = tryLock(f)
	if err == nil {
		_, err = f.WriteAt(data, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return f, nil
}

// A Report is what Check finds.
type Report struct {
	ID       uuid.UUID
	Sequence uint64            // of the newest change that could be read
	Size     int64             // of the file, in bytes
	Log      int64             // of those, what is in use
	CutShort bool              // a crash has left a part of a change that was not answered
	Foreign  bool              // it is a file of another format
	Records  map[string][]byte // with an error, those that could be read
}

// Check reads a file and changes nothing. It may be open elsewhere; a change that is just being
// written then looks like an interrupted one. When the file is damaged it returns a [DamageError],
// and what could be read.
func Check(path, kind string) (*Report, error) {
	data, err := readFile(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	r, err := Parse(data, kind)
	if damage := (*DamageError)(nil); errors.As(err, &damage) {
		damage.Path = path
	}
	return r, err
}

// Parse is Check for the contents of a file.
func Parse(data []byte, kind string) (*Report, error) {
	c, err := parse(data, kind)
	r := &Report{
		ID: c.id, Sequence: c.seq, Size: int64(len(data)), Log: int64(c.end), CutShort: !c.clean, Records: c.table,
		Foreign: errors.Is(err, errForeign),
	}
	if err != nil {
		return r, &DamageError{Problem: err.Error(), Known: c.known()}
	}
	return r, nil
}

// linkAside gives a file another name, which ends in the suffix, or that and a number where that is
// taken. Nothing is replaced.
func linkAside(path, suffix string) (aside string, err error) {
	for i := 1; ; i++ {
		if aside = path + suffix; i > 1 {
			aside += fmt.Sprintf("-%d", i)
		}
		if err := os.Link(path, aside); err == nil || !errors.Is(err, os.ErrExist) {
			return aside, err
		}
	}
}

// Replace puts a file with this table in the place of the one at path, of an agent or a program
// that is not running; its changes are counted from 1 on, and it is [Restored]. The old one, if
// any, stays at the name that it returns.
func Replace(path string, o *Options, id uuid.UUID, records map[string][]byte) (aside string, err error) {
	if err := trusted.Path(dirOf(path)); err != nil {
		return "", err
	}
	f := &File{path: path, o: *o}
	if f.lock, err = lock(path+".id", o.Wait); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	defer func() { err = errors.Join(err, f.closeFiles()) }()
	if _, err := os.Lstat(path); err == nil {
		if err := lockOld(path); errors.Is(err, ErrInUse) { // by somebody whose PATH.id was removed
			return "", fmt.Errorf("%s: %w", path, err)
		}
		if aside, err = linkAside(path, ".replaced"); err != nil {
			return "", err
		}
	}
	f.id = id
	if err := f.rebuild(records); err != nil {
		return aside, err
	}
	at := f.place()
	if at.file != "" {
		at.file = replaced
	}
	return aside, f.writePlace(id, at)
}
