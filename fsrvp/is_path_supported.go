package fsrvp

import (
	"context"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// IsPathSupportedRequest is the request of IsPathSupported (opnum 8, MS-FSRVP 3.1.4.9).
type IsPathSupportedRequest struct {
	ShareName ndr.WTF8 `json:"ShareName"` // a UNC path
}

// Opnum returns [OpIsPathSupported].
func (*IsPathSupportedRequest) Opnum() Opnum { return OpIsPathSupported }

// Parse implements Message.
func (m *IsPathSupportedRequest) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.ShareName = ndr.WTF8(d.WString())
	return d.Err()
}

// Append implements Message.
func (m *IsPathSupportedRequest) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.WString(string(m.ShareName))
	return e.Bytes()
}

// IsPathSupportedResponse is the response of IsPathSupported (opnum 8, MS-FSRVP 3.1.4.9).
type IsPathSupportedResponse struct {
	SupportedByThisProvider uint32         `json:"SupportedByThisProvider"` // a BOOL: TRUE is any value but zero
	OwnerMachineName        ndr.NullString `json:"OwnerMachineName"`
	Return                  Status         `json:"Return"`
}

// Opnum returns [OpIsPathSupported].
func (*IsPathSupportedResponse) Opnum() Opnum { return OpIsPathSupported }

// Status returns m.Return.
func (m *IsPathSupportedResponse) Status() Status { return m.Return }

// Parse implements Message.
func (m *IsPathSupportedResponse) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.SupportedByThisProvider = d.Uint32()
	m.OwnerMachineName = ndr.NullString{}
	if d.Pointer() {
		m.OwnerMachineName = ndr.StringOf(d.WString())
	}
	m.Return = Status(d.Uint32())
	return d.Err()
}

// Append implements Message.
func (m *IsPathSupportedResponse) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.Uint32(m.SupportedByThisProvider)
	e.Pointer(m.OwnerMachineName.Valid)
	if m.OwnerMachineName.Valid {
		e.WString(m.OwnerMachineName.String)
	}
	e.Uint32(uint32(m.Return))
	return e.Bytes()
}

// SetStatus sets m.Return.
func (m *IsPathSupportedResponse) SetStatus(s Status) { m.Return = s }

// IsPathSupported implements Service.
func (c *Client) IsPathSupported(ctx context.Context, share string) (PathSupport, error) {
	return c.serve.IsPathSupported(ctx, share)
}

// IsPathSupported implements Service.
func (f ServiceFunc) IsPathSupported(ctx context.Context, share string) (PathSupport, error) {
	resp, err := invoke[IsPathSupportedResponse](ctx, f, &IsPathSupportedRequest{ShareName: ndr.WTF8(share)})
	return PathSupport{Supported: resp.SupportedByThisProvider != 0, Owner: resp.OwnerMachineName.String}, err
}

func (m *IsPathSupportedRequest) serve(ctx context.Context, s Service) (Response, error) {
	p, err := s.IsPathSupported(ctx, string(m.ShareName))
	return &IsPathSupportedResponse{SupportedByThisProvider: boolean(p.Supported),
		OwnerMachineName: nullIfEmpty(p.Owner)}, err
}
