package memory_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

// A test makes the second of two snapshots fail: then there is none.
func Example() {
	snapshots := memory.New("/a", "/b")
	snapshots.Fault = func(_ context.Context, p memory.Point) error {
		if p.Method == "Create" && p.Volume == "/b" && !p.Done {
			return errors.New("no space left")
		}
		return nil
	}
	ctx := context.Background()
	var specs []backend.SnapshotSpec
	for _, dir := range []string{"/a", "/b"} {
		volume, err := snapshots.Volume(ctx, dir)
		if err != nil {
			fmt.Println(err)
			return
		}
		specs = append(specs, backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: volume})
	}
	_, err := snapshots.Create(ctx, specs)
	fmt.Println(err)
	fmt.Println(len(snapshots.All()), "snapshots")
	// Output:
	// no space left
	// 0 snapshots
}
