package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/term"
)

// output is where the archive goes. A regular file appears under its name, in place of one that is
// there, when it is complete; until then nothing but a file with a name of its own exists, which
// discard removes. Devices, pipes and standard output are written to as they are.
type output struct {
	io.Writer
	name    string   // as the user said it
	target  string   // a regular file: without symbolic links
	file    *os.File // what is open; nil: standard output, or all is done
	claim   *claim   // of file, where it is a temporary one
	through bool     // file is no temporary one
	written int64
}

// createOutput opens an output that need not be waited for.
func createOutput(name string, stdout io.Writer) (*output, error) {
	return openOutput(context.Background(), name, stdout, "", nil)
}

// openOutput opens the output for a backup of source, a directory; "": shares. A FIFO waits for its
// reader.
func openOutput(ctx context.Context, name string, stdout io.Writer, source string,
	journal *leftJournal) (*output, error) {
	o := &output{name: name}
	fail := func(err error) (*output, error) { return nil, fmt.Errorf("-out: %w", err) }
	if name == "-" {
		if f, ok := stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			return fail(errors.New("standard output is a terminal; give -out a file, or send it to one"))
		}
		o.Writer = o.counted(stdout)
		return o, nil
	}
	if strings.HasSuffix(filepath.ToSlash(name), "/") {
		return fail(fmt.Errorf("%s is the name of a directory; name a file in it", name))
	}
	target, err := resolve(name)
	if err != nil {
		return fail(err)
	}
	info, err := os.Stat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fail(err)
	case info.IsDir():
		return fail(fmt.Errorf("%s is a directory; name a file in it", name))
	case !info.Mode().IsRegular() || descriptorPath(target):
		if info.Mode().Type()&(fs.ModeSocket|fs.ModeIrregular) != 0 {
			return fail(fmt.Errorf("%s is neither a file nor a device nor a pipe", name))
		}
		if o.file, err = openThrough(ctx, target); err != nil {
			return fail(err)
		}
		o.through, o.Writer = true, o.counted(o.file)
		return o, nil
	case !mayReplace(filepath.Dir(target), info):
		return fail(fmt.Errorf("%s is a file of another user, which only that user or root can replace in this directory", name))
	}
	if err := replaceable(target); err != nil {
		return fail(fmt.Errorf("%s: %w", name, err))
	}
	if source != "" {
		if inside, err := within(filepath.Dir(target), source); err != nil {
			return fail(err)
		} else if inside || withinPlace(filepath.Dir(target), source) {
			return fail(fmt.Errorf("%s is in %s, which is to be backed up: the archive would be part of itself", name,
				source))
		}
	}
	o.target = target
	sweepFiles(target)
	if o.claim, err = claimFile(filepath.Dir(target), outputPattern(target), journal); err != nil {
		return fail(err)
	}
	o.file = o.claim.file
	o.Writer = o.counted(o.file)
	return o, nil
}

// outputPattern returns the pattern of the names under which a file is written: the file's own
// name, or as much of it as fits with a hash of it, so that no two files share a pattern.
func outputPattern(target string) string {
	base := filepath.Base(target)
	if most := 255 - len("..fsrvp-backup-") - maxRandom; len(base) > most {
		sum := sha256.Sum256([]byte(base))
		base = strings.ToValidUTF8(base[:most-17], "") + "-" + hex.EncodeToString(sum[:8])
	}
	return "." + base + ".fsrvp-backup-*"
}

// resolve follows the symbolic links of a name whose last part need not exist. It returns a name of
// an open file, such as /dev/stdout or /proc/self/fd/3, as it is.
func resolve(name string) (string, error) {
	name, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	for range 40 {
		if descriptorPath(name) {
			return name, nil
		}
		dir, err := filepath.EvalSymlinks(filepath.Dir(name))
		if err != nil {
			return "", err
		}
		name = filepath.Join(dir, filepath.Base(name))
		if descriptorPath(name) {
			return name, nil
		}
		link, err := os.Readlink(name)
		if err != nil {
			return name, nil // no link, or nothing
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(dir, link)
		}
		name = link
	}
	return "", fmt.Errorf("%s: %w", name, syscall.ELOOP)
}

// descriptorPath reports whether a name is that of an open file.
func descriptorPath(name string) bool {
	dir := filepath.ToSlash(filepath.Dir(name))
	return dir == "/dev/fd" || strings.HasPrefix(dir, "/proc/") && strings.HasSuffix(dir, "/fd")
}

// openThrough opens a device or a pipe. Opening a FIFO takes a reader; ctx ends the wait.
func openThrough(ctx context.Context, name string) (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	opened := make(chan result)
	go func() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		select {
		case opened <- result{f, err}:
		case <-ctx.Done():
			if err == nil {
				f.Close()
			}
		}
	}()
	select {
	case r := <-opened:
		return r.f, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for a reader of %s: %w", name, context.Cause(ctx))
	}
}

// within reports whether dir is source or in it, whatever the paths by which they are named.
func within(dir, source string) (bool, error) {
	top, err := os.Stat(source)
	if err != nil {
		return false, err
	}
	for {
		info, err := os.Stat(dir)
		if err != nil {
			return false, err
		}
		if os.SameFile(top, info) {
			return true, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return false, nil
		}
		dir = up
	}
}

// counted counts what is written, and says of errors where it was.
func (o *output) counted(w io.Writer) io.Writer {
	return writerFunc(func(b []byte) (int, error) {
		n, err := w.Write(b)
		o.written += int64(n)
		if err != nil {
			err = o.failure(err)
		}
		return n, err
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// failure says why the archive could not be written, and what becomes of it.
func (o *output) failure(err error) error {
	if path := new(fs.PathError); errors.As(err, &path) {
		err = path.Err
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		room := ""
		if !o.through && o.target != "" {
			if free, total, ok := space(filepath.Dir(o.target)); ok {
				room = fmt.Sprintf("; the file system has %s free of %s", bytesText(free), bytesText(total))
			}
		}
		return fmt.Errorf("-out %s is full after %s%s: %w", o.name, bytesText(o.written), room, err)
	}
	return fmt.Errorf("-out %s: after %s: %w", o.name, bytesText(o.written), err)
}

// bytesText is a number of bytes for people.
func bytesText(n int64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d bytes", n)
	}
	v, i := float64(n)/(1<<10), 0
	for ; v >= 1<<10 && i < len(units)-1; i++ {
		v /= 1 << 10
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}

// commit has the archive on stable storage, under its name.
func (o *output) commit() error {
	if o.file == nil {
		return nil
	}
	if o.through {
		err := o.file.Sync()
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.EROFS) {
			err = nil // a pipe has nothing to bring to storage
		}
		err = errors.Join(err, o.file.Close())
		o.file = nil
		if err != nil {
			return o.failure(err)
		}
		return nil
	}
	err := errors.Join(o.file.Chmod(0o600), o.file.Sync())
	if err == nil {
		err = o.claim.rename(o.target)
	}
	if err != nil {
		return o.failure(err)
	}
	o.file = nil
	return syncDir(filepath.Dir(o.target))
}

// discard removes what was written, unless it was committed.
func (o *output) discard() {
	switch {
	case o.file == nil:
	case o.through:
		o.file.Close()
	default:
		o.claim.remove()
	}
	o.file = nil
}

// openInput opens an archive for reading; - is standard input.
func openInput(name string) (io.ReadCloser, error) {
	f := os.Stdin
	if name != "-" {
		var err error
		if f, err = os.Open(name); err != nil {
			return nil, err
		}
	}
	return struct {
		io.Reader
		io.Closer
	}{bufio.NewReaderSize(f, 1<<20), f}, nil
}
