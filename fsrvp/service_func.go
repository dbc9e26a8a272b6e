package fsrvp

import (
	"context"
	"fmt"
)

// A ServiceFunc is a [Service] in one function: all 13 methods call it with their request. It
// returns the response of the same method, a pointer to the struct that [NewResponse] returns. The
// method fails with the error that the function returns, and, where that is nil, with the
// response's status if it is not zero; its results are the response's in any case. A nil response,
// or that of another method, is an error.
//
// With [Serve], its inverse, a function of a few lines stands between any two Services, for
// logging, metrics, deadlines or access:
//
//	fsrvp.ServiceFunc(func(ctx context.Context, req fsrvp.Message) (fsrvp.Response, error) {
//		resp, err := fsrvp.Serve(ctx, next, req)
//		log.Println(req.Opnum(), resp.Status())
//		return resp, err
//	})
//
// A wait that the wire cannot express fails before the function is called. The function may be
// called by several goroutines at once. It may keep neither the request nor the response after it
// has returned.
type ServiceFunc func(ctx context.Context, req Message) (Response, error)

var _ Service = ServiceFunc(nil)

// Serve calls the method of s whose request req is. The response, never nil for such a request,
// holds the results that the method returned, also where it failed, and the status that a server
// answers for err, [StatusOf] it. The error is the method's own; or it says that req is not a
// request, and the response is nil, or that a result cannot be expressed on the wire.
func Serve(ctx context.Context, s Service, req Message) (Response, error) {
	r, ok := req.(request)
	if !ok {
		return nil, fmt.Errorf("fsrvp: a %T is not the request of a method", req)
	}
	resp, err := r.serve(ctx, s)
	resp.SetStatus(StatusOf(err))
	return resp, err
}

// invoke calls f for a method whose response is an R. It returns an R in any case.
func invoke[R any, P interface {
	*R
	Response
}](ctx context.Context, f ServiceFunc, req Message) (P, error) {
	resp, err := f(ctx, req)
	r, ok := resp.(P)
	if !ok || r == nil {
		if r = new(R); err == nil {
			err = fmt.Errorf("fsrvp: a ServiceFunc answered %v with %T", req.Opnum(), resp)
		}
	}
	if err == nil {
		err = r.Status().Err()
	}
	return r, err
}
