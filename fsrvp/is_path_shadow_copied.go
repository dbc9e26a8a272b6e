package fsrvp

import (
	"context"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// IsPathShadowCopiedRequest is the request of IsPathShadowCopied (opnum 9, MS-FSRVP 3.1.4.10).
type IsPathShadowCopiedRequest struct {
	ShareName ndr.WTF8 `json:"ShareName"` // a UNC path
}

// Opnum returns [OpIsPathShadowCopied].
func (*IsPathShadowCopiedRequest) Opnum() Opnum { return OpIsPathShadowCopied }

// Parse implements Message.
func (m *IsPathShadowCopiedRequest) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.ShareName = ndr.WTF8(d.WString())
	return d.Err()
}

// Append implements Message.
func (m *IsPathShadowCopiedRequest) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.WString(string(m.ShareName))
	return e.Bytes()
}

// IsPathShadowCopiedResponse is the response of IsPathShadowCopied (opnum 9, MS-FSRVP 3.1.4.10).
type IsPathShadowCopiedResponse struct {
	ShadowCopyPresent       uint32        `json:"ShadowCopyPresent"` // a BOOL: TRUE is any value but zero
	ShadowCopyCompatibility Compatibility `json:"ShadowCopyCompatibility"`
	Return                  Status        `json:"Return"`
}

// Opnum returns [OpIsPathShadowCopied].
func (*IsPathShadowCopiedResponse) Opnum() Opnum { return OpIsPathShadowCopied }

// Status returns m.Return.
func (m *IsPathShadowCopiedResponse) Status() Status { return m.Return }

// Parse implements Message.
func (m *IsPathShadowCopiedResponse) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.ShadowCopyPresent = d.Uint32()
	m.ShadowCopyCompatibility = Compatibility(d.Uint32())
	m.Return = Status(d.Uint32())
	return d.Err()
}

// Append implements Message.
func (m *IsPathShadowCopiedResponse) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.Uint32(m.ShadowCopyPresent)
	e.Uint32(uint32(m.ShadowCopyCompatibility))
	e.Uint32(uint32(m.Return))
	return e.Bytes()
}

// SetStatus sets m.Return.
func (m *IsPathShadowCopiedResponse) SetStatus(s Status) { m.Return = s }

// IsPathShadowCopied implements Service.
func (c *Client) IsPathShadowCopied(ctx context.Context, share string) (PathShadowCopied, error) {
	return c.serve.IsPathShadowCopied(ctx, share)
}

// IsPathShadowCopied implements Service.
func (f ServiceFunc) IsPathShadowCopied(ctx context.Context, share string) (PathShadowCopied, error) {
	resp, err := invoke[IsPathShadowCopiedResponse](ctx, f, &IsPathShadowCopiedRequest{ShareName: ndr.WTF8(share)})
	return PathShadowCopied{Present: resp.ShadowCopyPresent != 0, Compatibility: resp.ShadowCopyCompatibility}, err
}

func (m *IsPathShadowCopiedRequest) serve(ctx context.Context, s Service) (Response, error) {
	p, err := s.IsPathShadowCopied(ctx, string(m.ShareName))
	return &IsPathShadowCopiedResponse{ShadowCopyPresent: boolean(p.Present),
		ShadowCopyCompatibility: p.Compatibility}, err
}
