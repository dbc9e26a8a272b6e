package backend_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// A plain backend: it copies a directory into another one. The name of a copy has its id and its
// mark, so that Delete finds what a crash left, and leaves what other agents have made.
type plain struct{ volume, snapshots string }

func (p plain) Volume(_ context.Context, dir string) (backend.Volume, error) {
	if dir != p.volume && !strings.HasPrefix(dir, p.volume+string(filepath.Separator)) {
		return backend.Volume{}, fmt.Errorf("%s is not below %s: %w", dir, p.volume, fsrvp.ErrNotSupported)
	}
	return backend.Volume{ID: "plain:" + p.volume, Path: p.volume}, nil
}

func (p plain) Create(ctx context.Context, specs []backend.SnapshotSpec) ([]backend.Snapshot, error) {
	var made []backend.Snapshot
	for _, spec := range specs {
		path := filepath.Join(p.snapshots, spec.ID.String()+"@"+spec.Mark.String())
		if err := os.CopyFS(path, os.DirFS(p.volume)); err != nil {
			for _, s := range specs { // all or none
				p.Delete(ctx, s)
			}
			return nil, err
		}
		made = append(made, backend.Snapshot{SnapshotSpec: spec, Path: path, Created: time.Now().UTC()})
	}
	return made, nil
}

func (p plain) Delete(_ context.Context, spec backend.SnapshotSpec) error {
	all, err := filepath.Glob(filepath.Join(p.snapshots, spec.ID.String()+"@*"))
	if err != nil {
		return err
	}
	for _, path := range all {
		mark, err := backend.ParseMark(path[strings.LastIndexByte(path, '@')+1:])
		if err != nil || mark.Owner != spec.Mark.Owner {
			return fmt.Errorf("%s: %w", path, backend.ErrForeign)
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

func ExampleSnapshots() {
	base, err := os.MkdirTemp("", "plain-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(base)
	p := plain{volume: filepath.Join(base, "data"), snapshots: filepath.Join(base, "snapshots")}
	for _, dir := range []string{p.volume, p.snapshots} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			log.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(p.volume, "file"), []byte("then"), 0o600); err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	var s backend.Snapshots = p // agent.Config.Snapshots takes it
	volume, err := s.Volume(ctx, p.volume)
	if err != nil {
		log.Fatal(err)
	}
	spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: volume, Mark: backend.Mark{Owner: backend.NewOwner("here")}}
	made, err := s.Create(ctx, []backend.SnapshotSpec{spec})
	if err != nil {
		log.Fatal(err)
	}
	b, err := fs.ReadFile(os.DirFS(made[0].Path), "file")
	fmt.Println(string(b), err)
	fmt.Println(s.Delete(ctx, spec))
	// Output:
	// then <nil>
	// <nil>
}
