package copy_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/copy"
)

// A directory is copied, and changes afterwards. An agent makes these calls; see agent.Config.
func Example() {
	base, err := os.MkdirTemp("", "copy-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(base)
	if base, err = filepath.EvalSymlinks(base); err != nil {
		log.Fatal(err)
	}
	data := filepath.Join(base, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		log.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(data, "file"), []byte(text), 0o600); err != nil {
			log.Fatal(err)
		}
	}
	write("then")

	snapshots, err := copy.New(&copy.Config{Dirs: []string{filepath.Join(base, "snapshots")}})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	volume, err := snapshots.Volume(ctx, data)
	if err != nil {
		log.Fatal(err)
	}
	spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: volume}
	made, err := snapshots.Create(ctx, []backend.SnapshotSpec{spec})
	if err != nil {
		log.Fatal(err)
	}
	write("now")
	b, err := os.ReadFile(filepath.Join(made[0].Path, "file"))
	fmt.Printf("%s %v\n", b, err)
	fmt.Println(snapshots.Delete(ctx, spec))
	// Output:
	// then <nil>
	// <nil>
}
