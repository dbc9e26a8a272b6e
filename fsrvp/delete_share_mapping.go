package fsrvp

import (
	"context"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// DeleteShareMappingRequest is the request of DeleteShareMapping (opnum 11, MS-FSRVP 3.1.4.12).
type DeleteShareMappingRequest struct {
	ShadowCopySetID SetID    `json:"ShadowCopySetId"`
	ShadowCopyID    CopyID   `json:"ShadowCopyId"`
	ShareName       ndr.WTF8 `json:"ShareName"` // a UNC path
}

// Opnum returns [OpDeleteShareMapping].
func (*DeleteShareMappingRequest) Opnum() Opnum { return OpDeleteShareMapping }

// Parse implements Message.
func (m *DeleteShareMappingRequest) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.ShadowCopySetID = SetID(d.GUID())
	m.ShadowCopyID = CopyID(d.GUID())
	m.ShareName = ndr.WTF8(d.WString())
	return d.Err()
}

// Append implements Message.
func (m *DeleteShareMappingRequest) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.GUID(m.ShadowCopySetID)
	e.GUID(m.ShadowCopyID)
	e.WString(string(m.ShareName))
	return e.Bytes()
}

// DeleteShareMappingResponse is the response of DeleteShareMapping (opnum 11, MS-FSRVP 3.1.4.12).
type DeleteShareMappingResponse struct{ StatusResponse }

// Opnum returns [OpDeleteShareMapping].
func (*DeleteShareMappingResponse) Opnum() Opnum { return OpDeleteShareMapping }

// DeleteShareMapping implements Service.
func (c *Client) DeleteShareMapping(ctx context.Context, set SetID, cpy CopyID, share string) error {
	return c.serve.DeleteShareMapping(ctx, set, cpy, share)
}

// DeleteShareMapping implements Service.
func (f ServiceFunc) DeleteShareMapping(ctx context.Context, set SetID, cpy CopyID, share string) error {
	_, err := invoke[DeleteShareMappingResponse](ctx, f, &DeleteShareMappingRequest{
		ShadowCopySetID: set, ShadowCopyID: cpy, ShareName: ndr.WTF8(share),
	})
	return err
}

func (m *DeleteShareMappingRequest) serve(ctx context.Context, s Service) (Response, error) {
	return new(DeleteShareMappingResponse), s.DeleteShareMapping(ctx, m.ShadowCopySetID, m.ShadowCopyID,
		string(m.ShareName))
}
