package fsrvp_test

import (
	"context"
	"fmt"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// readOnly lets clients ask, and refuses whatever changes the server.
func readOnly(next fsrvp.Service) fsrvp.Service {
	return fsrvp.ServiceFunc(func(ctx context.Context, req fsrvp.Message) (fsrvp.Response, error) {
		switch req.Opnum() {
		case fsrvp.OpGetSupportedVersion, fsrvp.OpIsPathSupported, fsrvp.OpIsPathShadowCopied:
			return fsrvp.Serve(ctx, next, req)
		}
		return nil, fsrvp.ErrAccessDenied
	})
}

// logged prints each call and its status, and gives each a deadline.
func logged(next fsrvp.Service) fsrvp.Service {
	return fsrvp.ServiceFunc(func(ctx context.Context, req fsrvp.Message) (fsrvp.Response, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		resp, err := fsrvp.Serve(ctx, next, req)
		fmt.Println(req.Opnum(), fsrvp.StatusOf(err).Name())
		return resp, err
	})
}

// A middleware is a function of a few lines between two Services: any client, agent, recorder or
// fake.
func ExampleServiceFunc() {
	server := fsrvp.ServiceFunc(func(_ context.Context, req fsrvp.Message) (fsrvp.Response, error) {
		return fsrvp.NewResponse(req.Opnum()), nil // of a server that answers everything with success
	})
	s := logged(readOnly(server))
	_, _ = s.GetSupportedVersion(context.Background())
	_, err := s.StartShadowCopySet(context.Background(), fsrvp.NewSetID())
	fmt.Println(err)
	// Output:
	// GetSupportedVersion ZERO
	// StartShadowCopySet E_ACCESSDENIED
	// the caller may not do this (E_ACCESSDENIED, 0x80070005)
}
