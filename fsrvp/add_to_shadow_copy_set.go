package fsrvp

import (
	"context"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// AddToShadowCopySetRequest is the request of AddToShadowCopySet (opnum 3, MS-FSRVP 3.1.4.4).
type AddToShadowCopySetRequest struct {
	ClientShadowCopyID CopyID   `json:"ClientShadowCopyId"`
	ShadowCopySetID    SetID    `json:"ShadowCopySetId"`
	ShareName          ndr.WTF8 `json:"ShareName"` // a UNC path
}

// Opnum returns [OpAddToShadowCopySet].
func (*AddToShadowCopySetRequest) Opnum() Opnum { return OpAddToShadowCopySet }

// Parse implements Message.
func (m *AddToShadowCopySetRequest) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.ClientShadowCopyID = CopyID(d.GUID())
	m.ShadowCopySetID = SetID(d.GUID())
	m.ShareName = ndr.WTF8(d.WString())
	return d.Err()
}

// Append implements Message.
func (m *AddToShadowCopySetRequest) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.GUID(m.ClientShadowCopyID)
	e.GUID(m.ShadowCopySetID)
	e.WString(string(m.ShareName))
	return e.Bytes()
}

// AddToShadowCopySetResponse is the response of AddToShadowCopySet (opnum 3, MS-FSRVP 3.1.4.4).
type AddToShadowCopySetResponse struct {
	ShadowCopyID CopyID `json:"pShadowCopyId"`
	Return       Status `json:"Return"`
}

// Opnum returns [OpAddToShadowCopySet].
func (*AddToShadowCopySetResponse) Opnum() Opnum { return OpAddToShadowCopySet }

// Status returns m.Return.
func (m *AddToShadowCopySetResponse) Status() Status { return m.Return }

// Parse implements Message.
func (m *AddToShadowCopySetResponse) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.ShadowCopyID = CopyID(d.GUID())
	m.Return = Status(d.Uint32())
	return d.Err()
}

// Append implements Message.
func (m *AddToShadowCopySetResponse) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.GUID(m.ShadowCopyID)
	e.Uint32(uint32(m.Return))
	return e.Bytes()
}

// SetStatus sets m.Return.
func (m *AddToShadowCopySetResponse) SetStatus(s Status) { m.Return = s }

// AddToShadowCopySet implements Service.
func (c *Client) AddToShadowCopySet(ctx context.Context, client CopyID, set SetID, share string) (CopyID, error) {
	return c.serve.AddToShadowCopySet(ctx, client, set, share)
}

// AddToShadowCopySet implements Service.
func (f ServiceFunc) AddToShadowCopySet(ctx context.Context, client CopyID, set SetID, share string) (CopyID, error) {
	resp, err := invoke[AddToShadowCopySetResponse](ctx, f, &AddToShadowCopySetRequest{
		ClientShadowCopyID: client, ShadowCopySetID: set, ShareName: ndr.WTF8(share),
	})
	return resp.ShadowCopyID, err
}

func (m *AddToShadowCopySetRequest) serve(ctx context.Context, s Service) (Response, error) {
	id, err := s.AddToShadowCopySet(ctx, m.ClientShadowCopyID, m.ShadowCopySetID, string(m.ShareName))
	return &AddToShadowCopySetResponse{ShadowCopyID: id}, err
}
