package fsrvp

import (
	"context"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// SetContextRequest is what SetContext (opnum 1, MS-FSRVP 3.1.4.2) takes.
type SetContextRequest struct {
	Context ContextValue `json:"Context"`
}

// Opnum returns OpSetContext.
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

// SetContextResponse is what SetContext (opnum 1, MS-FSRVP 3.1.4.2) returns.
type SetContextResponse struct {
	Return Status `json:"Return"`
}

// Opnum returns OpSetContext.
func (*SetContextResponse) Opnum() Opnum { return OpSetContext }

// Status returns m.Return.
func (m *SetContextResponse) Status() Status { return m.Return }

// Parse implements Message.
func (m *SetContextResponse) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.Return = Status(d.Uint32())
	return d.Err()
}

// Append implements Message.
func (m *SetContextResponse) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.Uint32(uint32(m.Return))
	return e.Bytes()
}

func (m *SetContextResponse) setStatus(s Status) { m.Return = s }

// SetContext implements Service.
func (c *Client) SetContext(ctx context.Context, value ContextValue) error {
	return c.call(ctx, 0, &SetContextRequest{Context: value}, new(SetContextResponse))
}

func (m *SetContextRequest) serve(ctx context.Context, s Service) (Response, error) {
	return new(SetContextResponse), s.SetContext(ctx, m.Context)
}
