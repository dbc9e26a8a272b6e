package fsrvp

import (
	"context"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// SetContextRequest is the request of SetContext (opnum 1, MS-FSRVP 3.1.4.2).
type SetContextRequest struct {
	Context ContextValue `json:"Context"`
}

// Opnum returns [OpSetContext].
func (*SetContextRequest) Opnum() Opnum { return OpSetContext }

// Parse implements Message.
func (m *SetContextRequest) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.Context = ContextValue(d.Uint32())
	return d.Err()
}

// Append implements Message.
func (m *SetContextRequest) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.Uint32(uint32(m.Context))
	return e.Bytes()
}

// SetContextResponse is the response of SetContext (opnum 1, MS-FSRVP 3.1.4.2).
type SetContextResponse struct{ StatusResponse }

// Opnum returns [OpSetContext].
func (*SetContextResponse) Opnum() Opnum { return OpSetContext }

// SetContext implements Service.
func (c *Client) SetContext(ctx context.Context, value ContextValue) error {
	return c.serve.SetContext(ctx, value)
}

// SetContext implements Service.
func (f ServiceFunc) SetContext(ctx context.Context, value ContextValue) error {
	_, err := invoke[SetContextResponse](ctx, f, &SetContextRequest{Context: value})
	return err
}

func (m *SetContextRequest) serve(ctx context.Context, s Service) (Response, error) {
	return new(SetContextResponse), s.SetContext(ctx, m.Context)
}
