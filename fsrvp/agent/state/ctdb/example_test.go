//go:build linux

package ctdb_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state/ctdb"
)

// Two nodes share a table. On a cluster each node's agent opens the same directory of the cluster's
// file system, and leaves Member and Life to CTDB.
func Example() {
	dir, err := os.MkdirTemp("", "table-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	open := func(member string) *ctdb.Store {
		s, err := ctdb.Open(ctx, &ctdb.Config{
			Dir:    dir,
			Member: member,
			Life:   func(context.Context, string) (state.Life, error) { return state.Present, nil },
		})
		if err != nil {
			log.Fatal(err)
		}
		if _, err := s.Load(ctx); err != nil {
			log.Fatal(err)
		}
		return s
	}
	one, two := open("node1"), open("node2")
	defer one.Close()
	defer two.Close()

	fmt.Println(one.Write(ctx, state.Change{Put: map[string][]byte{"set/7": []byte("Added")}}))

	// The second node has not seen that change, so it may not write.
	change := state.Change{Put: map[string][]byte{"set/8": []byte("Started")}}
	fmt.Println(errors.Is(two.Write(ctx, change), state.ErrConflict))
	seen, err := two.Refresh(ctx)
	fmt.Printf("%s %v\n", seen.Put["set/7"], err)
	fmt.Println(two.Write(ctx, change))
	// Output:
	// <nil>
	// true
	// Added <nil>
	// <nil>
}
