package replay

import (
	"context"
	"errors"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// perform calls the method of a request. It returns the response, even if its status is a failure;
// an error is a *dcerpc.Fault, or says that there was no answer.
func perform(ctx context.Context, s fsrvp.Service, req fsrvp.Message) (fsrvp.Response, error) {
	resp, err := fsrvp.Serve(ctx, s, req)
	return answer(resp, err)
}

// answer returns the response if err is the server's answer.
func answer(r fsrvp.Response, err error) (fsrvp.Response, error) {
	if err != nil && status(err).IsSuccess() {
		return nil, err
	}
	return r, nil
}

// status returns the status that err wraps, zero if there is none.
func status(err error) fsrvp.Status {
	var s fsrvp.Status
	errors.As(err, &s)
	return s
}
