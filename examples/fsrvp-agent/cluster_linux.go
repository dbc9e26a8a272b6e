package main

import (
	"context"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state/ctdb"
)

// openCluster opens the table that the agents of a cluster share.
func openCluster(ctx context.Context, dir string) (state.Store, error) {
	return ctdb.Open(ctx, &ctdb.Config{Dir: dir})
}
