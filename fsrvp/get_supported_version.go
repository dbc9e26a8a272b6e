package fsrvp

import (
	"context"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// GetSupportedVersionRequest is the request of GetSupportedVersion (opnum 0, MS-FSRVP 3.1.4.1).
type GetSupportedVersionRequest struct{}

// Opnum returns [OpGetSupportedVersion].
func (*GetSupportedVersionRequest) Opnum() Opnum { return OpGetSupportedVersion }

// Parse implements Message; there is nothing to read.
func (*GetSupportedVersionRequest) Parse(ndr.Syntax, []byte) error { return nil }

// Append implements Message; there is nothing to write.
func (*GetSupportedVersionRequest) Append(dst []byte, _ ndr.Syntax) ([]byte, error) { return dst, nil }

// GetSupportedVersionResponse is the response of GetSupportedVersion (opnum 0, MS-FSRVP 3.1.4.1).
type GetSupportedVersionResponse struct {
	MinVersion uint32 `json:"MinVersion"`
	MaxVersion uint32 `json:"MaxVersion"`
	Return     Status `json:"Return"`
}

// Opnum returns [OpGetSupportedVersion].
func (*GetSupportedVersionResponse) Opnum() Opnum { return OpGetSupportedVersion }

// Status returns m.Return.
func (m *GetSupportedVersionResponse) Status() Status { return m.Return }

// Parse implements Message.
func (m *GetSupportedVersionResponse) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.MinVersion = d.Uint32()
	m.MaxVersion = d.Uint32()
	m.Return = Status(d.Uint32())
	return d.Err()
}

// Append implements Message.
func (m *GetSupportedVersionResponse) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.Uint32(m.MinVersion)
	e.Uint32(m.MaxVersion)
	e.Uint32(uint32(m.Return))
	return e.Bytes()
}

// SetStatus sets m.Return.
func (m *GetSupportedVersionResponse) SetStatus(s Status) { m.Return = s }

// GetSupportedVersion implements Service.
func (c *Client) GetSupportedVersion(ctx context.Context) (Versions, error) {
	return c.serve.GetSupportedVersion(ctx)
}

// GetSupportedVersion implements Service.
func (f ServiceFunc) GetSupportedVersion(ctx context.Context) (Versions, error) {
	resp, err := invoke[GetSupportedVersionResponse](ctx, f, &GetSupportedVersionRequest{})
	return Versions{Min: resp.MinVersion, Max: resp.MaxVersion}, err
}

func (*GetSupportedVersionRequest) serve(ctx context.Context, s Service) (Response, error) {
	v, err := s.GetSupportedVersion(ctx)
	return &GetSupportedVersionResponse{MinVersion: v.Min, MaxVersion: v.Max}, err
}
