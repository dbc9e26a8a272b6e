package fsrvp

import (
	"context"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// AbortShadowCopySetRequest is the request of AbortShadowCopySet (opnum 7, MS-FSRVP 3.1.4.8).
type AbortShadowCopySetRequest struct {
	ShadowCopySetID SetID `json:"ShadowCopySetId"`
}

// Opnum returns [OpAbortShadowCopySet].
func (*AbortShadowCopySetRequest) Opnum() Opnum { return OpAbortShadowCopySet }

// Parse implements Message.
func (m *AbortShadowCopySetRequest) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.ShadowCopySetID = SetID(d.GUID())
	return d.Err()
}

// Append implements Message.
func (m *AbortShadowCopySetRequest) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.GUID(m.ShadowCopySetID)
	return e.Bytes()
}

// AbortShadowCopySetResponse is the response of AbortShadowCopySet (opnum 7, MS-FSRVP 3.1.4.8).
type AbortShadowCopySetResponse struct{ StatusResponse }

// Opnum returns [OpAbortShadowCopySet].
func (*AbortShadowCopySetResponse) Opnum() Opnum { return OpAbortShadowCopySet }

// AbortShadowCopySet implements Service.
func (c *Client) AbortShadowCopySet(ctx context.Context, set SetID) error {
	return c.serve.AbortShadowCopySet(ctx, set)
}

// AbortShadowCopySet implements Service.
func (f ServiceFunc) AbortShadowCopySet(ctx context.Context, set SetID) error {
	_, err := invoke[AbortShadowCopySetResponse](ctx, f, &AbortShadowCopySetRequest{ShadowCopySetID: set})
	return err
}

func (m *AbortShadowCopySetRequest) serve(ctx context.Context, s Service) (Response, error) {
	return new(AbortShadowCopySetResponse), s.AbortShadowCopySet(ctx, m.ShadowCopySetID)
}
