package fsrvp

import (
	"context"
	"time"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// ExposeShadowCopySetRequest is the request of ExposeShadowCopySet (opnum 5, MS-FSRVP 3.1.4.6).
type ExposeShadowCopySetRequest struct {
	ShadowCopySetID       SetID  `json:"ShadowCopySetId"`
	TimeOutInMilliseconds uint32 `json:"TimeOutInMilliseconds"`
}

// Opnum returns [OpExposeShadowCopySet].
func (*ExposeShadowCopySetRequest) Opnum() Opnum { return OpExposeShadowCopySet }

// Parse implements Message.
func (m *ExposeShadowCopySetRequest) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.ShadowCopySetID = SetID(d.GUID())
	m.TimeOutInMilliseconds = d.Uint32()
	return d.Err()
}

// Append implements Message.
func (m *ExposeShadowCopySetRequest) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.GUID(m.ShadowCopySetID)
	e.Uint32(m.TimeOutInMilliseconds)
	return e.Bytes()
}

// ExposeShadowCopySetResponse is the response of ExposeShadowCopySet (opnum 5, MS-FSRVP 3.1.4.6).
type ExposeShadowCopySetResponse struct{ StatusResponse }

// Opnum returns [OpExposeShadowCopySet].
func (*ExposeShadowCopySetResponse) Opnum() Opnum { return OpExposeShadowCopySet }

// ExposeShadowCopySet implements Service.
func (c *Client) ExposeShadowCopySet(ctx context.Context, set SetID, wait time.Duration) error {
	return c.serve.ExposeShadowCopySet(ctx, set, wait)
}

// ExposeShadowCopySet implements Service.
func (f ServiceFunc) ExposeShadowCopySet(ctx context.Context, set SetID, wait time.Duration) error {
	ms, err := milliseconds(wait)
	if err != nil {
		return err
	}
	_, err = invoke[ExposeShadowCopySetResponse](ctx, f, &ExposeShadowCopySetRequest{ShadowCopySetID: set,
		TimeOutInMilliseconds: ms})
	return err
}

func (m *ExposeShadowCopySetRequest) serve(ctx context.Context, s Service) (Response, error) {
	return new(ExposeShadowCopySetResponse), s.ExposeShadowCopySet(ctx, m.ShadowCopySetID, m.wait())
}

func (m *ExposeShadowCopySetRequest) wait() time.Duration {
	return time.Duration(m.TimeOutInMilliseconds) * time.Millisecond
}
