package fsrvp

import (
	"context"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// StartShadowCopySetRequest is the request of StartShadowCopySet (opnum 2, MS-FSRVP 3.1.4.3).
type StartShadowCopySetRequest struct {
	ClientShadowCopySetID SetID `json:"ClientShadowCopySetId"`
}

// Opnum returns [OpStartShadowCopySet].
func (*StartShadowCopySetRequest) Opnum() Opnum { return OpStartShadowCopySet }

// Parse implements Message.
func (m *StartShadowCopySetRequest) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.ClientShadowCopySetID = SetID(d.GUID())
	return d.Err()
}

// Append implements Message.
func (m *StartShadowCopySetRequest) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.GUID(m.ClientShadowCopySetID)
	return e.Bytes()
}

// StartShadowCopySetResponse is the response of StartShadowCopySet (opnum 2, MS-FSRVP 3.1.4.3).
type StartShadowCopySetResponse struct {
	ShadowCopySetID SetID  `json:"pShadowCopySetId"`
	Return          Status `json:"Return"`
}

// Opnum returns [OpStartShadowCopySet].
func (*StartShadowCopySetResponse) Opnum() Opnum { return OpStartShadowCopySet }

// Status returns m.Return.
func (m *StartShadowCopySetResponse) Status() Status { return m.Return }

// Parse implements Message.
func (m *StartShadowCopySetResponse) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.ShadowCopySetID = SetID(d.GUID())
	m.Return = Status(d.Uint32())
	return d.Err()
}

// Append implements Message.
func (m *StartShadowCopySetResponse) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.GUID(m.ShadowCopySetID)
	e.Uint32(uint32(m.Return))
	return e.Bytes()
}

// SetStatus sets m.Return.
func (m *StartShadowCopySetResponse) SetStatus(s Status) { m.Return = s }

// StartShadowCopySet implements Service.
func (c *Client) StartShadowCopySet(ctx context.Context, client SetID) (SetID, error) {
	return c.serve.StartShadowCopySet(ctx, client)
}

// StartShadowCopySet implements Service.
func (f ServiceFunc) StartShadowCopySet(ctx context.Context, client SetID) (SetID, error) {
	resp, err := invoke[StartShadowCopySetResponse](ctx, f, &StartShadowCopySetRequest{ClientShadowCopySetID: client})
	return resp.ShadowCopySetID, err
}

func (m *StartShadowCopySetRequest) serve(ctx context.Context, s Service) (Response, error) {
	set, err := s.StartShadowCopySet(ctx, m.ClientShadowCopySetID)
	return &StartShadowCopySetResponse{ShadowCopySetID: set}, err
}
