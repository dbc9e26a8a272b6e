package memory_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
)

// A test exposes a share, and finds that another agent's stays.
func Example() {
	shares := memory.New(nil, backend.Share{Name: "vms", Path: "/vms"})
	ctx := context.Background()
	base, err := shares.Lookup(ctx, "VMS")
	fmt.Println(base.Path, err)

	mark := backend.Mark{Owner: backend.NewOwner("fs1")}
	name := fsrvp.ExposedName("vms", fsrvp.NewCopyID())
	fmt.Println(shares.Expose(ctx, backend.Exposure{Name: name, Mark: mark, Base: base, Path: "/.snapshots/1"}))
	fmt.Println(errors.Is(shares.Unexpose(ctx, backend.NewOwner("fs2"), name), backend.ErrForeign))
	fmt.Println(shares.Unexpose(ctx, mark.Owner, name))
	// Output:
	// /vms <nil>
	// <nil>
	// true
	// <nil>
}
