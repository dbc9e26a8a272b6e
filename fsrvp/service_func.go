package fsrvp

import (
	"context"
	"fmt"
)

// A ServiceFunc is a [Service] made of one function: all 13 methods call it with their request. The
// function returns the response of the same method, of the type that [NewResponse] returns. The
// method returns the function's error or, if that is nil, the response's status unless it is zero;
// its results always come from the response. A nil response, or one of another method, is an error.
//
// Together with [Serve], its inverse, a function of a few lines can wrap any Service, to add
// logging, metrics, deadlines or access control:
//
//	fsrvp.ServiceFunc(func(ctx context.Context, req fsrvp.Message) (fsrvp.Response, error) {
//		resp, err := fsrvp.Serve(ctx, next, req)
//		log.Println(req.Opnum(), resp.Status())
//		return resp, err
//	})
//
// A wait that the wire cannot express fails before the function is called. The function must be
// safe for concurrent use. It must not keep the request or the response after it has returned.
type ServiceFunc func(ctx context.Context, req Message) (Response, error)

var _ Service = ServiceFunc(nil)

// Serve calls the method of s whose request req is. The response holds the method's results, even
// if it failed, and the status that a server answers for its error, see [StatusOf]. The error is
// the method's, or says that a result cannot be expressed on the wire. If req is not a request, the
// response is nil and the error says so.
func Serve(ctx context.Context, s Service, req Message) (Response, error) {
	r, ok := req.(request)
	if !ok {
		return nil, fmt.Errorf("fsrvp: a %T is not the request of a method", req)
	}
	resp, err := r.serve(ctx, s)
	resp.SetStatus(StatusOf(err))
	return resp, err
}

// invoke calls f for a method whose response is an R. It always returns an R.
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
