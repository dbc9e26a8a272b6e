//go:build !linux

package main

import (
	"context"
	"errors"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

func openCluster(context.Context, string) (state.Store, error) {
	return nil, errNoClusters
}

func checkCluster(string) (*state.Report, error) { return nil, errNoClusters }

func replaceCluster(string, state.ID, map[string][]byte) (string, error) { return "", errNoClusters }

var errNoClusters = errors.New("clusters are of Linux alone")
