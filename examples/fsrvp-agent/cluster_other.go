//go:build !linux

package main

import (
	"context"
	"errors"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

func openCluster(context.Context, string) (state.Store, error) {
	return nil, errors.New("clusters are of Linux alone")
}
