package fsrvp

import (
	"context"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// RecoveryCompleteShadowCopySetRequest is what RecoveryCompleteShadowCopySet (opnum 6, MS-FSRVP 3.1.4.7)
// takes.
type RecoveryCompleteShadowCopySetRequest struct {
	ShadowCopySetID SetID `json:"ShadowCopySetId"`
}

// Opnum returns OpRecoveryCompleteShadowCopySet.
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

// RecoveryCompleteShadowCopySetResponse is what RecoveryCompleteShadowCopySet (opnum 6, MS-FSRVP 3.1.4.7)
// returns.
type RecoveryCompleteShadowCopySetResponse struct {
	Return Status `json:"Return"`
}

// Opnum returns OpRecoveryCompleteShadowCopySet.
func (*RecoveryCompleteShadowCopySetResponse) Opnum() Opnum { return OpRecoveryCompleteShadowCopySet }

// Status returns m.Return.
func (m *RecoveryCompleteShadowCopySetResponse) Status() Status { return m.Return }

// Parse implements Message.
func (m *RecoveryCompleteShadowCopySetResponse) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.Return = Status(d.Uint32())
	return d.Err()
}

// Append implements Message.
func (m *RecoveryCompleteShadowCopySetResponse) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.Uint32(uint32(m.Return))
	return e.Bytes()
}

func (m *RecoveryCompleteShadowCopySetResponse) setStatus(s Status) { m.Return = s }

// RecoveryCompleteShadowCopySet implements Service.
func (c *Client) RecoveryCompleteShadowCopySet(ctx context.Context, set SetID) error {
	return c.call(ctx, 0, &RecoveryCompleteShadowCopySetRequest{ShadowCopySetID: set}, new(RecoveryCompleteShadowCopySetResponse))
}

func (m *RecoveryCompleteShadowCopySetRequest) serve(ctx context.Context, s Service) (Response, error) {
	return new(RecoveryCompleteShadowCopySetResponse), s.RecoveryCompleteShadowCopySet(ctx, m.ShadowCopySetID)
}
