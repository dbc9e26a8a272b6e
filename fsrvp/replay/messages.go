package replay

import (
	"context"
	"errors"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// perform calls the method of a request. It returns the response, also where the status in it is a
// failure; an error is a *dcerpc.Fault, or says that there was no answer.
func perform(ctx context.Context, s fsrvp.Service, req fsrvp.Message) (fsrvp.Response, error) {
	resp, err := fsrvp.Serve(ctx, s, req)
	return answer(resp, err)
}

// answer returns the response where err says what the server answered.
func answer(r fsrvp.Response, err error) (fsrvp.Response, error) {
	if err != nil && status(err).IsSuccess() {
		return nil, err
	}
	return r, nil
}

// status returns the status that err wraps, zero where there is none.
func status(err error) fsrvp.Status {
	var s fsrvp.Status
	errors.As(err, &s)
	return s
}
