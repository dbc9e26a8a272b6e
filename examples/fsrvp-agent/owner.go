package main

import (
	"context"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// ownerOf splits the value of a setting "owner". Names of shares may have equals signs.
func ownerOf(value string) (share, host string) {
	i := strings.LastIndexByte(value, '=')
	return value[:max(i, 0)], value[i+1:]
}

// ownersOf returns what agent.Config.Owner is by the settings "owner"; nil where there are none.
func ownersOf(values []string) func(context.Context, string, backend.Share) (string, error) {
	if len(values) == 0 {
		return nil
	}
	hosts := map[string]string{}
	for _, v := range values {
		share, host := ownerOf(v)
		hosts[strings.ToLower(share)] = host
	}
	return func(_ context.Context, _ string, share backend.Share) (string, error) {
		if host, ok := hosts[strings.ToLower(share.Name)]; ok {
			return host, nil
		}
		return hosts["*"], nil
	}
}
