package recordfile

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/fileid"
)

// The file PATH.id, which is locked while PATH is open, is made once and then written in place:
//
//	agent state 01234567-...                     the kind and the id
//	at "/var/lib/fsrvp/agent.db" 5f3c... 12.34   the place: path, machine and what fileid has of PATH.id itself
//	9a0b...                                      the sum of the lines before
//
// Older versions did not write the second line. A machine or a file without an id is a "-".

// Origin is what the place of a file says of it.
type Origin int

// A file is Original where it was made, also after its directory was moved. It is Restored where
// another was made: somebody has put it back, and it may be older than what was there. It is Copied
// where it was made elsewhere: whoever works with the original may still do so. It is Unknown where
// PATH.id is missing, which says where it was made.
const (
	Original Origin = iota
	Restored
	Copied
	Unknown
)

// A place is where a file is.
type place struct {
	path    string
	machine string
	file    string // see fileid; of PATH.id
}

// place returns where the file is now. Its lock is held.
func (f *File) place() place {
	p := place{path: f.path, file: fileid.OfFile(f.lock)}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(f.path)); err == nil {
		p.path = filepath.Join(dir, filepath.Base(f.path))
	}
	b, _ := os.ReadFile("/etc/machine-id")
	if p.machine = strings.TrimSpace(string(b)); strings.ContainsAny(p.machine, " \n") {
		p.machine = ""
	}
	return p
}

func (p place) String() string {
	orNone := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	return strconv.Quote(p.path) + " " + orNone(p.machine) + " " + orNone(p.file)
}

func parsePlace(s string) (p place, ok bool) {
	quoted, err := strconv.QuotedPrefix(s)
	if err != nil {
		return p, false
	}
	if p.path, err = strconv.Unquote(quoted); err != nil {
		return p, false
	}
	rest := strings.Split(s[len(quoted):], " ")
	if len(rest) != 3 {
		return p, false
	}
	p.machine, p.file = strings.TrimPrefix(rest[1], "-"), strings.TrimPrefix(rest[2], "-")
	return p, p.String() == s
}

// originOf compares the place where a file was made with that where it is.
func originOf(made, now place) Origin {
	known := made.file != "" && now.file != ""
	switch {
	case known && made.file == now.file:
		return Original
	case made.path != now.path, known && made.machine != now.machine:
		return Copied
	case known, made.machine != now.machine: // perhaps two machines that share a file system
		return Restored
	}
	return Original
}

// replaced stands for PATH.id in the place of a file that [Replace] has made: it is Restored.
const replaced = "replaced"

// readID reads PATH.id, and sets origin and from. An empty one is one that was just made. A damaged
// one is known, with an id of zeros.
func (f *File) readID() (id uuid.UUID, known bool, err error) {
	b, err := io.ReadAll(io.LimitReader(f.lock, maxID))
	if err != nil || len(b) == 0 {
		return id, false, err
	}
	id, from, err := parseID(string(b), f.o.Kind)
	if err != nil {
		// The file itself, if it is there and whole, says the same.
		if data, err := readFile(f.path, os.O_RDWR); err == nil {
			if c, err := parse(data, f.o.Kind); err == nil {
				return c.id, false, nil
			}
		}
		if f.o.New {
			return uuid.Nil, false, nil
		}
		return uuid.Nil, false, f.damage("its "+f.path+".id is damaged", "and so is the file itself, or it is missing")
	}
	if from != (place{}) {
		f.origin, f.from = originOf(from, f.place()), from.String()
	}
	return id, true, nil
}

const maxID = 8192 // bytes of PATH.id

func parseID(text, kind string) (id uuid.UUID, from place, err error) {
	errDamaged := fmt.Errorf("it is not the id of a %s", kind)
	body, sum, ok := cutLastLine(text)
	if !ok || fmt.Sprintf("%x", sha256.Sum256([]byte(body))) != sum {
		return id, from, errDamaged
	}
	first, second, _ := strings.Cut(body, "\n")
	name, ok := strings.CutPrefix(first, kind+" ")
	if id, err = uuid.Parse(name); !ok || err != nil {
		return uuid.Nil, from, errDamaged
	}
	if second != "" {
		at, isPlace := strings.CutPrefix(second, "at ")
		if from, ok = parsePlace(strings.TrimSuffix(at, "\n")); !ok || !isPlace {
			return uuid.Nil, place{}, errDamaged
		}
	}
	return id, from, nil
}

// cutLastLine returns the last line of a text without its end, and what is before it.
func cutLastLine(text string) (before, last string, ok bool) {
	text, ok = strings.CutSuffix(text, "\n")
	i := strings.LastIndexByte(text, '\n')
	return text[:i+1], text[i+1:], ok && i >= 0
}

func idText(kind string, id uuid.UUID, at place) string {
	body := kind + " " + id.String() + "\nat " + at.String() + "\n"
	return fmt.Sprintf("%s%x\n", body, sha256.Sum256([]byte(body)))
}

// writeID writes PATH.id for the place where it is.
func (f *File) writeID(id uuid.UUID) error { return f.writePlace(id, f.place()) }

func (f *File) writePlace(id uuid.UUID, at place) error {
	text := idText(f.o.Kind, id, at)
	if len(text) > maxID {
		return fmt.Errorf("%s: its path is too long", f.path)
	}
	if _, err := f.lock.WriteAt([]byte(text), 0); err != nil {
		return err
	}
	if err := f.lock.Truncate(int64(len(text))); err != nil {
		return err
	}
	return f.lock.Sync()
}
