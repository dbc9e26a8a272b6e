// Package tree copies and removes whole directory trees.
//
// A copy has everything that the file system lets one set: directories, regular files, symbolic links, hard
// links among the files of the tree, named pipes, sockets, device nodes, owners, modes, times to the nanosecond, holes,
// access control lists and all other extended attributes; but not the flags of chattr. On systems other than Linux it has what the standard
// library offers: contents, modes, times of modification, symbolic links; hard links and owners on Unix.
//
// # A tree that changes
//
// The tree may change while it is walked; a walk is not atomic. What vanishes is left out, what is replaced is
// looked at again. A regular file that is cloned is cloned as it is at one moment. One that is read, and changes
// meanwhile, is read again, twice at most, and then kept as it was read last; a record of level Warn names it.
//
// # Where a walk may lead
//
// Every name is opened relative to its directory and without following symbolic links, so that nobody who can write to
// the tree leads the walk out of it. The walk does not cross into what is mounted below, nor into
// another btrfs subvolume: it fails with an error that wraps fsrvp.ErrNotSupported.
package tree

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
)

// A Config says how to copy a tree.
type Config struct {
	// Clone shares the data of regular files with the original (FICLONE, Linux) rather than copying them.
	Clone bool
	// Workers is how many files are worked on at once. Zero: the number of CPUs that Go uses.
	Workers int
	// Skip names directories below the source, absolute, that are left out.
	Skip []string
	// Progress is called with what was copied so far: files of any type but directories, and bytes of data. One call
	// at a time; it must not block. Nil: nobody is told.
	Progress func(files, bytes int64)
	// Logger gets a Warn record for every file that could not be copied as it should. Nil: none.
	Logger *slog.Logger
}

// withDefaults returns a copy without zero values.
func (c *Config) withDefaults() *Config {
	d := *c
	if d.Workers <= 0 {
		d.Workers = runtime.GOMAXPROCS(0)
	}
	if d.Progress == nil {
		d.Progress = func(int64, int64) {}
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	return &d
}

// Copy makes dst, which must not exist, a copy of the directory src. Both paths are absolute. Until it
// is complete nobody but the owner of the process can enter it. When Copy returns nil the tree, but for dst's
// entry in its own directory, is on stable storage. After an error what was made is still there.
//
// It fails with an error that wraps fsrvp.ErrNotSupported where the file system cannot clone, something is mounted
// below src, or a path below src is longer than 4096 bytes; with context.Cause(ctx) when ctx ends.
func Copy(ctx context.Context, dst, src string, cfg *Config) error {
	if err := copyTree(ctx, dst, src, cfg.withDefaults()); err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = cause
		}
		return fmt.Errorf("copy %s: %w", src, err)
	}
	return nil
}
