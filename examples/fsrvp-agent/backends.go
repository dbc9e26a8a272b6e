package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/share/directory"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/share/samba"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/btrfs"
	commandsnap "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/command"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/copy"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/reflink"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/snapper"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/zfs"
)

func (o *options) snapshotBackend(ctx context.Context, log *slog.Logger) (backend.Snapshots, error) {
	dirs := make([]string, len(o.snapDir))
	for i, d := range o.snapDir {
		abs, err := filepath.Abs(d)
		if err != nil {
			return nil, fmt.Errorf("-snapshot-dir: %w", err)
		}
		dirs[i] = abs
	}
	switch o.snapshots {
	case "auto":
		return snapshot.New(&snapshot.Config{Dirs: dirs, Volumes: o.volume, Logger: log})
	case "btrfs":
		return btrfs.New(&btrfs.Config{Dirs: dirs})
	case "reflink":
		return reflink.New(&reflink.Config{Dirs: dirs, Volumes: o.volume, Logger: log})
	case "copy":
		return copy.New(&copy.Config{Dirs: dirs, Volumes: o.volume, Logger: log})
	case "zfs":
		dir := ""
		if len(dirs) > 0 {
			dir = dirs[0]
		}
		return zfs.New(ctx, &zfs.Config{Dir: dir})
	case "snapper":
		return snapper.New(nil)
	}
	if program, ok := strings.CutPrefix(o.snapshots, "command:"); ok && program != "" {
		argv := append([]string{program}, o.snapArg...)
		return commandsnap.New(&commandsnap.Config{
			Create: argv, Delete: argv, List: argv, Seal: argv, Prepare: argv, Volumes: o.volume, Timeout: o.snapTimeout,
		})
	}
	return nil, fmt.Errorf("%s is %q: %w", o.from.at("snapshots", 0), o.snapshots, checkSnapshots(o.snapshots))
}

// shareBackend is one backend where shares come from the place that copies are exposed in, and a
// pair of two otherwise. It is closed by the function that it returns.
func (o *options) shareBackend(ctx context.Context, log *slog.Logger) (shares backend.Shares, closeShares func() error,
	err error) {
	dirs := make(map[string]string, len(o.share))
	for _, s := range o.share {
		name, dir, _ := strings.Cut(s, "=")
		dirs[name] = dir
	}
	closeShares = func() error { return nil }
	var fromSamba *samba.Shares
	if o.shares == "samba" || o.expose == "samba" {
		if fromSamba, err = samba.New(ctx, &samba.Config{SmbConf: o.smbConf, ProgramsOnly: o.programs,
			Clustered: o.cluster != "", Logger: log}); err != nil {
			return nil, nil, err
		}
		closeShares = fromSamba.Close
	}
	if shares, err = o.sharesOf(ctx, fromSamba, dirs); err != nil {
		return nil, nil, errors.Join(err, closeShares())
	}
	return shares, closeShares, nil
}

func (o *options) sharesOf(ctx context.Context, fromSamba *samba.Shares, dirs map[string]string) (backend.Shares,
	error) {
	exposeDir, toDirectory := strings.CutPrefix(o.expose, "directory:")
	switch {
	case o.expose == "samba" && o.shares == "samba":
		if o.previous != "" {
			return samba.NewPreviousVersions(ctx, fromSamba, o.previous)
		}
		return fromSamba, nil
	case toDirectory && exposeDir != "":
		exposed, err := directory.New(exposeDir, dirs)
		if err != nil || o.shares != "samba" {
			return exposed, err
		}
		return &sambaAsDirectories{Shares: exposed, samba: fromSamba}, nil
	}
	return nil, fmt.Errorf("%s is %q: %w", o.from.at("expose", 0), o.expose, checkExpose(o.expose))
}

// checkStandalone refuses to answer at the pipe of a Samba that is a node of a cluster: the state
// of this agent is this node's alone. The backend of Samba's shares refuses by itself.
func (o *options) checkStandalone(ctx context.Context) error {
	if o.cluster != "" || o.shares == "samba" || o.expose == "samba" || !slices.ContainsFunc(o.listen, isSamba) {
		return nil
	}
	clustered, err := samba.Clustered(ctx, &samba.Config{SmbConf: o.smbConf})
	if err != nil && !errors.Is(err, exec.ErrNotFound) {
		return err
	}
	if clustered {
		return samba.ErrClustered
	}
	return nil
}

// sambaAsDirectories takes the shares of Samba, and exposes copies of them as directories.
type sambaAsDirectories struct {
	*directory.Shares
	samba *samba.Shares
}

// Lookup finds a share of Samba.
func (s *sambaAsDirectories) Lookup(ctx context.Context, name string) (backend.Share, error) {
	return s.samba.Lookup(ctx, name)
}

// Helper reports what the helper on python3-samba does.
func (s *sambaAsDirectories) Helper() samba.HelperState { return s.samba.Helper() }

// ServerNames returns the names of Samba.
func (s *sambaAsDirectories) ServerNames(ctx context.Context) (backend.ServerNames, error) {
	return s.samba.ServerNames(ctx)
}
