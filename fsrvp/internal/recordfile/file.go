package recordfile

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/trusted"
)

// readFile reads a whole file that openFile opens.
func readFile(path string) ([]byte, error) {
	f, err := openFile(path)
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

// openFile opens a file that no other user may read or write, and that is not a symbolic link.
func openFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|noFollow, 0)
	if err != nil {
		return nil, explain(path, err)
	}
	if err := trusted.File(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// writeFile makes a file on stable storage; its name is not yet there.
func writeFile(path string, data []byte) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|noFollow, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return f, nil
}

// readID reads the file PATH.id: a line with the kind and the id, and a line with its sum. An empty
// file was just made. For a damaged one, known is true and the id is zero.
func (f *File) readID() (id uuid.UUID, known bool, err error) {
	b, err := io.ReadAll(io.LimitReader(f.lock, 4096))
	if err != nil || len(b) == 0 {
		return id, false, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	text, ok := strings.CutPrefix(line, f.o.Kind+" ")
	if id, err = uuid.Parse(text); !ok || err != nil || string(b) != idText(f.o.Kind, id) {
		// If the main file is intact, it has the same id.
		if data, err := readFile(f.path); err == nil {
			if c, err := parse(data, f.o.Kind); err == nil {
				return c.id, false, nil
			}
		}
		if f.o.New {
			return uuid.Nil, false, nil
		}
		return uuid.Nil, false, f.damage("its "+f.path+".id is damaged", "and so is the file itself, or it is missing")
	}
	return id, true, nil
}

func idText(kind string, id uuid.UUID) string {
	line := kind + " " + id.String() + "\n"
	return fmt.Sprintf("%s%x\n", line, sha256.Sum256([]byte(line)))
}

func (f *File) writeID(id uuid.UUID) error {
	text := idText(f.o.Kind, id)
	if _, err := f.lock.WriteAt([]byte(text), 0); err != nil {
		return err
	}
	if err := f.lock.Truncate(int64(len(text))); err != nil {
		return err
	}
	return f.lock.Sync()
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
	data, err := readFile(path)
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

// Replace replaces the file at path, whose owner must not be running, by one with this table. The
// old file, if any, is kept under the name that it returns.
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
		for i := 1; ; i++ {
			aside = fmt.Sprintf("%s.replaced-%d", path, i)
			if err := os.Link(path, aside); err == nil {
				break
			} else if !errors.Is(err, os.ErrExist) {
				return "", err
			}
		}
		if data, err := readFile(path); err == nil {
			c, _ := parse(data, o.Kind)
			f.seq = c.seq
		}
	}
	f.id = id
	if err := f.rebuild(records); err != nil {
		return aside, err
	}
	return aside, f.writeID(id)
}
