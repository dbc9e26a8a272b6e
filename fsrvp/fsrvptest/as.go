package fsrvptest

import (
	"context"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// As returns a Service that calls s in the process on behalf of peer, for an agent without RPC in
// front of it.
func As(s fsrvp.Service, peer dcerpc.Peer) fsrvp.Service {
	return fsrvp.ServiceFunc(func(ctx context.Context, req fsrvp.Message) (fsrvp.Response, error) {
		return fsrvp.Serve(dcerpc.WithPeer(ctx, peer), s, req)
	})
}
