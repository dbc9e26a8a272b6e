package fsrvp

import (
	"context"
	"time"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// PrepareShadowCopySetRequest is what PrepareShadowCopySet (opnum 12, MS-FSRVP 3.1.4.13) takes.
type PrepareShadowCopySetRequest struct {
	ShadowCopySetID       SetID  `json:"ShadowCopySetId"`
	TimeOutInMilliseconds uint32 `json:"TimeOutInMilliseconds"`
}

// Opnum returns OpPrepareShadowCopySet.
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

// PrepareShadowCopySetResponse is what PrepareShadowCopySet (opnum 12, MS-FSRVP 3.1.4.13) returns.
type PrepareShadowCopySetResponse struct {
	Return Status `json:"Return"`
}

// Opnum returns OpPrepareShadowCopySet.
func (*PrepareShadowCopySetResponse) Opnum() Opnum { return OpPrepareShadowCopySet }

// Status returns m.Return.
func (m *PrepareShadowCopySetResponse) Status() Status { return m.Return }

// Parse implements Message.
func (m *PrepareShadowCopySetResponse) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.Return = Status(d.Uint32())
	return d.Err()
}

// Append implements Message.
func (m *PrepareShadowCopySetResponse) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.Uint32(uint32(m.Return))
	return e.Bytes()
}

func (m *PrepareShadowCopySetResponse) setStatus(s Status) { m.Return = s }

// PrepareShadowCopySet implements Service.
func (c *Client) PrepareShadowCopySet(ctx context.Context, set SetID, wait time.Duration) error {
	ms, err := milliseconds(wait)
	if err != nil {
		return err
	}
	return c.call(ctx, wait, &PrepareShadowCopySetRequest{ShadowCopySetID: set, TimeOutInMilliseconds: ms}, new(PrepareShadowCopySetResponse))
}

func (m *PrepareShadowCopySetRequest) serve(ctx context.Context, s Service) (Response, error) {
	wait := time.Duration(m.TimeOutInMilliseconds) * time.Millisecond
	return new(PrepareShadowCopySetResponse), s.PrepareShadowCopySet(ctx, m.ShadowCopySetID, wait)
}
