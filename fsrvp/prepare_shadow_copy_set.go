package fsrvp

import (
	"context"
	"time"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// PrepareShadowCopySetRequest is the request of PrepareShadowCopySet (opnum 12, MS-FSRVP 3.1.4.13).
type PrepareShadowCopySetRequest struct {
	ShadowCopySetID       SetID  `json:"ShadowCopySetId"`
	TimeOutInMilliseconds uint32 `json:"TimeOutInMilliseconds"`
}

// Opnum returns [OpPrepareShadowCopySet].
func (*PrepareShadowCopySetRequest) Opnum() Opnum { return OpPrepareShadowCopySet }

// Parse implements Message.
func (m *PrepareShadowCopySetRequest) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.ShadowCopySetID = SetID(d.GUID())
	m.TimeOutInMilliseconds = d.Uint32()
	return d.Err()
}

// Append implements Message.
func (m *PrepareShadowCopySetRequest) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.GUID(m.ShadowCopySetID)
	e.Uint32(m.TimeOutInMilliseconds)
	return e.Bytes()
}

// PrepareShadowCopySetResponse is the response of PrepareShadowCopySet (opnum 12, MS-FSRVP 3.1.4.13).
type PrepareShadowCopySetResponse struct{ StatusResponse }

// Opnum returns [OpPrepareShadowCopySet].
func (*PrepareShadowCopySetResponse) Opnum() Opnum { return OpPrepareShadowCopySet }

// PrepareShadowCopySet implements Service.
func (c *Client) PrepareShadowCopySet(ctx context.Context, set SetID, wait time.Duration) error {
	return c.serve.PrepareShadowCopySet(ctx, set, wait)
}

// PrepareShadowCopySet implements Service.
func (f ServiceFunc) PrepareShadowCopySet(ctx context.Context, set SetID, wait time.Duration) error {
	ms, err := milliseconds(wait)
	if err != nil {
		return err
	}
	_, err = invoke[PrepareShadowCopySetResponse](ctx, f, &PrepareShadowCopySetRequest{ShadowCopySetID: set,
		TimeOutInMilliseconds: ms})
	return err
}

func (m *PrepareShadowCopySetRequest) serve(ctx context.Context, s Service) (Response, error) {
	return new(PrepareShadowCopySetResponse), s.PrepareShadowCopySet(ctx, m.ShadowCopySetID, m.wait())
}

func (m *PrepareShadowCopySetRequest) wait() time.Duration {
	return time.Duration(m.TimeOutInMilliseconds) * time.Millisecond
}
