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

// checkCluster reads such a table, and changes nothing.
func checkCluster(dir string) (*state.Report, error) { return ctdb.Check(dir) }

// replaceCluster makes a table in the place of the one in a directory.
func replaceCluster(dir string, id state.ID, records map[string][]byte) (aside string, err error) {
	return ctdb.Replace(dir, id, records)
}
