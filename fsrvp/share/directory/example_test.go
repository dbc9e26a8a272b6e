package directory_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/share/directory"
)

// A snapshot is exposed, read through its link, and removed. An agent makes these calls; see
// agent.Config.
func Example() {
	base, err := os.MkdirTemp("", "directory-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(base)
	if base, err = filepath.EvalSymlinks(base); err != nil {
		log.Fatal(err)
	}
	share := filepath.Join(base, "vms")
	snapshot := filepath.Join(base, "snapshot") // made by one of the packages below fsrvp/snapshot
	for _, dir := range []string{share, snapshot} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			log.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(snapshot, "file"), []byte("then"), 0o600); err != nil {
		log.Fatal(err)
	}

	shares, err := directory.New(filepath.Join(base, "exposed"), map[string]string{"vms": share})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	mark := backend.Mark{Owner: backend.NewOwner("fs1 /var/lib/agent")}
	name := fsrvp.ExposedName("vms", fsrvp.CopyID{0xf0})
	err = shares.Expose(ctx, backend.Exposure{Name: name, Mark: mark, Path: snapshot})
	if err != nil {
		log.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(shares.Path(name), "file"))
	fmt.Printf("%s: %s %v\n", name, b, err)
	fmt.Println(shares.Unexpose(ctx, mark.Owner, name))
	// Output:
	// vms@{f0000000-0000-0000-0000-000000000000}: then <nil>
	// <nil>
}
