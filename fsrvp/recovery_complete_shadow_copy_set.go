package fsrvp

import (
	"context"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// RecoveryCompleteShadowCopySetRequest is the request of RecoveryCompleteShadowCopySet (opnum 6,
// MS-FSRVP 3.1.4.7).
type RecoveryCompleteShadowCopySetRequest struct {
	ShadowCopySetID SetID `json:"ShadowCopySetId"`
}

// Opnum returns [OpRecoveryCompleteShadowCopySet].
func (*RecoveryCompleteShadowCopySetRequest) Opnum() Opnum { return OpRecoveryCompleteShadowCopySet }

// Parse implements Message.
func (m *RecoveryCompleteShadowCopySetRequest) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.ShadowCopySetID = SetID(d.GUID())
	return d.Err()
}

// Append implements Message.
func (m *RecoveryCompleteShadowCopySetRequest) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.GUID(m.ShadowCopySetID)
	return e.Bytes()
}

// RecoveryCompleteShadowCopySetResponse is the response of RecoveryCompleteShadowCopySet (opnum 6,
// MS-FSRVP 3.1.4.7).
type RecoveryCompleteShadowCopySetResponse struct{ StatusResponse }

// Opnum returns [OpRecoveryCompleteShadowCopySet].
func (*RecoveryCompleteShadowCopySetResponse) Opnum() Opnum { return OpRecoveryCompleteShadowCopySet }

// RecoveryCompleteShadowCopySet implements Service.
func (c *Client) RecoveryCompleteShadowCopySet(ctx context.Context, set SetID) error {
	return c.serve.RecoveryCompleteShadowCopySet(ctx, set)
}

// RecoveryCompleteShadowCopySet implements Service.
func (f ServiceFunc) RecoveryCompleteShadowCopySet(ctx context.Context, set SetID) error {
	_, err := invoke[RecoveryCompleteShadowCopySetResponse](ctx, f,
		&RecoveryCompleteShadowCopySetRequest{ShadowCopySetID: set})
	return err
}

func (m *RecoveryCompleteShadowCopySetRequest) serve(ctx context.Context, s Service) (Response, error) {
	return new(RecoveryCompleteShadowCopySetResponse), s.RecoveryCompleteShadowCopySet(ctx, m.ShadowCopySetID)
}
