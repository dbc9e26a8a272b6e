package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
)

// kindDamaged is a member whose contents are not those that were archived.
const kindDamaged = "damaged"

// A reading is what -verify and -restore print as JSON.
type reading struct {
	Archive  string     `json:"archive"`
	To       string     `json:"to,omitempty"`
	Files    int64      `json:"files"`
	Bytes    int64      `json:"bytes"`
	Problems []*problem `json:"problems,omitempty"`
	Notes    []string   `json:"notes,omitempty"`

	stderr io.Writer
	told   map[string]bool
}

func (r *reading) problem(name, kind, reason string) {
	p := newProblem(&problem{Path: name, Kind: kind, Reason: reason})
	r.Problems = append(r.Problems, p)
	fmt.Fprintf(r.stderr, "%-9s %s: %s\n", p.Kind, printable(name), p.Reason)
}

// note says something once.
func (r *reading) note(text string) {
	if !r.told[text] {
		r.told[text] = true
		r.Notes = append(r.Notes, text)
		fmt.Fprintf(r.stderr, "note      %s\n", text)
	}
}

// settle takes what the sum of a member says.
func (r *reading) settle(m *scanned, v verdict) {
	r.Files++
	r.Bytes += m.size
	switch v {
	case damaged:
		r.problem(m.name, kindDamaged, "its contents are not those that were archived")
	case unchecked:
		r.problem(m.name, kindDamaged, "the archive has no sum of its contents")
	case incomplete:
		r.problem(m.name, kindUnreadable, "the backup could not read all of it; it has zeros there")
	}
}

// end prints the result, and returns the exit status: 1 for damage, 3 for files that are not as
// they were.
func (r *reading) end(what string, err error, asJSON bool, stdout io.Writer) error {
	if asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		if errJSON := enc.Encode(r); errJSON != nil {
			return errors.Join(err, errJSON)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.Archive, err)
	}
	fmt.Fprintf(r.stderr, "%s %s: %d files, %d bytes\n", what, r.Archive, r.Files, r.Bytes)
	if len(r.Problems) == 0 {
		return nil
	}
	err = fmt.Errorf("%s: %s", r.Archive, plural(len(r.Problems), "problem is", "problems are")+" listed above")
	for _, p := range r.Problems {
		if p.Kind == kindDamaged {
			return err
		}
	}
	return &program.Exit{Status: 3, Err: err}
}

func newReading(archive string, stderr io.Writer) *reading {
	return &reading{Archive: archive, stderr: stderr, told: map[string]bool{}}
}

// contextReader ends with a context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}

// verifyArchive reads a whole archive and checks all of it.
func verifyArchive(ctx context.Context, name string, asJSON bool, stdout, stderr io.Writer) error {
	in, err := openInput(name)
	if err != nil {
		return fmt.Errorf("-verify: %w", err)
	}
	defer in.Close()
	r := newReading(name, stderr)
	s := newScanner(contextReader{ctx, in}, r.settle)
	for err == nil {
		_, err = s.next()
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return r.end("verified", err, asJSON, stdout)
}

// restoreArchive unpacks an archive into an empty directory, and checks it meanwhile.
func restoreArchive(ctx context.Context, name, dir string, asJSON bool, stdout, stderr io.Writer) (err error) {
	in, err := openInput(name)
	if err != nil {
		return fmt.Errorf("-restore: %w", err)
	}
	defer in.Close()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("-to: %w", err)
	}
	if entries, err := os.ReadDir(dir); err != nil {
		return fmt.Errorf("-to: %w", err)
	} else if len(entries) > 0 {
		return fmt.Errorf("-to: %s is not empty; name a directory that is, or a new one", dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("-to: %w", err)
	}
	defer root.Close()
	r := newReading(name, stderr)
	r.To = dir
	x := &restorer{root: root, reading: r, buf: make([]byte, 1<<20), isRoot: os.Geteuid() == 0, dirAt: map[string]int{}}
	x.scanner = newScanner(contextReader{ctx, in}, r.settle)
	for err == nil {
		var m *scanned
		if m, err = x.scanner.next(); err == nil {
			err = x.member(m)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	x.finishDirectories()
	x.windows.tell(r)
	return r.end("restored", err, asJSON, stdout)
}

// A restorer makes files of members. All names are relative to its root, which os.Root does not let
// them leave.
type restorer struct {
	root    *os.Root
	scanner *scanner
	reading *reading
	buf     []byte
	isRoot  bool
	dirs    []*scanned // to be finished when nothing is made in them any more
	dirAt   map[string]int
	windows windowsMetadata
}

// member restores a member. Its error ends the restoring; what concerns one file is a problem.
func (x *restorer) member(m *scanned) error {
	name := cleanName(m.name)
	local, err := filepath.Localize(name)
	if errNUL := strings.Contains(name, "\x00"); err != nil && !errNUL && name != ".." &&
		!strings.HasPrefix(name, "../") {
		local, err = filepath.FromSlash(name), nil // Localize wants UTF-8; os.Root refuses what is dangerous
		if os.PathSeparator != '/' {
			err = errors.New("the system has no such name")
		}
	}
	if err != nil {
		x.reading.problem(m.name, kindMissing,
			"its name leads out of the directory, or is no name here; it was not restored")
		return nil
	}
	x.windows.count(m)
	err = x.make(m, local)
	if errors.Is(err, fs.ErrNotExist) { // tar makes directories that are not in the archive
		if dir := filepath.Dir(local); dir != "." {
			if err = x.root.MkdirAll(dir, 0o700); err == nil {
				err = x.make(m, local)
			}
		}
	}
	if stop := new(stopError); errors.As(err, &stop) {
		return stop.err
	}
	if err != nil {
		x.reading.problem(m.name, kindMissing, "it was not restored: "+plainError(err).Error())
	}
	return nil
}

// A stopError ends everything.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }

// plainError leaves out the path, which the user sees already.
func plainError(err error) error {
	if path := new(fs.PathError); errors.As(err, &path) {
		return path.Err
	}
	if link := new(os.LinkError); errors.As(err, &link) {
		return link.Err
	}
	return err
}

func (x *restorer) make(m *scanned, name string) error {
	switch m.kind {
	case typeFile:
		return x.file(m, name)
	case typeDir:
		err := x.root.Mkdir(name, 0o700)
		if errors.Is(err, fs.ErrExist) { // it was made for what is in it, or comes twice
			var info fs.FileInfo
			if info, err = x.root.Lstat(name); err == nil && !info.IsDir() {
				err = fs.ErrExist
			}
		}
		if err == nil {
			m.name = name
			if i, twice := x.dirAt[name]; twice { // the last one holds
				x.dirs[i] = m
				return nil
			}
			x.dirAt[name] = len(x.dirs)
			x.dirs = append(x.dirs, m)
		}
		return err
	case typeLink:
		return x.root.Link(filepath.FromSlash(cleanName(m.link)), name)
	case typeSymlink:
		if err := x.root.Symlink(m.link, name); err != nil {
			return err
		}
	case typeFIFO, typeChar, typeBlock:
		if err := x.special(m, name); err != nil {
			return err
		}
	default:
		return fmt.Errorf("it is of the type %q", m.kind)
	}
	x.describe(m, name, nil)
	return nil
}

// file restores a regular file, with its holes.
func (x *restorer) file(m *scanned, name string) error {
	f, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	parts := m.extents
	if parts == nil {
		parts = wholeFile(m.size)
	}
	for _, e := range parts {
		if _, err := f.Seek(e.offset, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{f}, io.LimitReader(x.scanner, e.length), x.buf); err != nil {
			if errors.Is(err, syscall.ENOSPC) {
				err = fmt.Errorf("there is no room for %s: %w", m.name, plainError(err))
			}
			return &stopError{err}
		}
	}
	if m.extents != nil {
		if err := f.Truncate(m.size); err != nil {
			return err
		}
	}
	x.describe(m, name, f)
	if err := f.Close(); err != nil {
		return &stopError{fmt.Errorf("%s: %w", m.name, plainError(err))}
	}
	return nil
}

// describe gives a file its owner, mode, attributes and times, in this order: each of them takes
// something of the next away.
func (x *restorer) describe(m *scanned, name string, f *os.File) {
	var errs []error
	mode := fs.FileMode(m.mode & 0o777)
	if x.isRoot {
		errs = append(errs, x.root.Lchown(name, m.uid, m.gid))
	} else {
		x.reading.note("owners, devices and attributes of the system are restored by root alone")
	}
	if x.isRoot || m.uid == os.Geteuid() {
		for bit, special := range map[int64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid,
			0o1000: fs.ModeSticky} {
			if m.mode&bit != 0 {
				mode |= special
			}
		}
	}
	if m.kind != typeSymlink {
		if f != nil {
			errs = append(errs, f.Chmod(mode))
		} else {
			errs = append(errs, x.root.Chmod(name, mode))
		}
	}
	errs = append(errs, x.attributes(m, name, f), x.times(m, name))
	if err := errors.Join(errs...); err != nil {
		x.reading.problem(m.name, kindMetadata, strings.ReplaceAll(plainErrors(errs), "\n", "; "))
	}
}

func plainErrors(errs []error) string {
	var plain []error
	for _, err := range errs {
		if err != nil {
			plain = append(plain, plainError(err))
		}
	}
	return errors.Join(plain...).Error()
}

// finishDirectories gives directories what would have been in the way, or would have changed, while
// files were made in them.
func (x *restorer) finishDirectories() {
	for i := len(x.dirs) - 1; i >= 0; i-- {
		m := x.dirs[i]
		f, err := x.root.Open(m.name)
		if err != nil {
			x.reading.problem(m.name, kindMetadata, plainError(err).Error())
			continue
		}
		x.describe(m, m.name, f)
		f.Close()
	}
}

// windowsMetadata counts what is known of files of a share that is not restored.
type windowsMetadata struct {
	descriptors, audits, attributes, created, streams, mountPoints int

	file string // the last file of a share that is no stream
}

// restoredAttributes are those that a restored file has by what it is: read-only, directory,
// archive, normal, sparse, reparse point (MS-FSCC 2.6).
const restoredAttributes = 0x1 | 0x10 | 0x20 | 0x80 | 0x200 | 0x400

func (w *windowsMetadata) count(m *scanned) {
	if text := m.records[keyDescriptor]; text != "" {
		w.descriptors++
		const saclPresent = 0x10 // in the control field (MS-DTYP 2.4.6)
		if sd, err := base64.StdEncoding.DecodeString(text); err == nil && len(sd) > 2 && sd[2]&saclPresent != 0 {
			w.audits++
		}
	}
	attributes, ofShare := m.records[keyAttributes]
	if n, err := strconv.ParseUint(attributes, 10, 32); err == nil && n&^restoredAttributes != 0 {
		w.attributes++
	}
	if m.records[keyCreated] != "" {
		w.created++
	}
	if m.records[keyMountPoint] != "" {
		w.mountPoints++
	}
	switch {
	case ofShare:
		w.file = m.name
	case w.file != "" && strings.HasPrefix(m.name, w.file+":"): // a stream is behind its file
		w.streams++
	}
}

// tell says what was not restored.
func (w *windowsMetadata) tell(r *reading) {
	for _, c := range []struct {
		n    int
		text string
	}{
		{w.descriptors, "the security descriptors of %s stay in the archive (MSWINDOWS.rawsd): who may read what was restored is its owner alone"},
		{w.audits, "of these, those of %s have a list of what is audited"},
		{w.attributes, "attributes such as hidden, system or compressed of %s stay in the archive (MSWINDOWS.fileattr)"},
		{w.created, "the creation times of %s stay in the archive (LIBARCHIVE.creationtime)"},
		{w.streams, "alternate streams were restored as %s of their own, named NAME:STREAM"},
		{w.mountPoints, "junctions became symbolic links: %s"},
	} {
		if c.n > 0 {
			r.note(fmt.Sprintf(c.text, plural(c.n, "file", "files")))
		}
	}
}
