package fsrvp

import (
	"context"
	"time"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// CommitShadowCopySetRequest is the request of CommitShadowCopySet (opnum 4, MS-FSRVP 3.1.4.5).
type CommitShadowCopySetRequest struct {
	ShadowCopySetID       SetID  `json:"ShadowCopySetId"`
	TimeOutInMilliseconds uint32 `json:"TimeOutInMilliseconds"`
}

// Opnum returns [OpCommitShadowCopySet].
func (*CommitShadowCopySetRequest) Opnum() Opnum { return OpCommitShadowCopySet }

// Parse implements Message.
func (m *CommitShadowCopySetRequest) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.ShadowCopySetID = SetID(d.GUID())
	m.TimeOutInMilliseconds = d.Uint32()
	return d.Err()
}

// Append implements Message.
func (m *CommitShadowCopySetRequest) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.GUID(m.ShadowCopySetID)
	e.Uint32(m.TimeOutInMilliseconds)
	return e.Bytes()
}

// CommitShadowCopySetResponse is the response of CommitShadowCopySet (opnum 4, MS-FSRVP 3.1.4.5).
type CommitShadowCopySetResponse struct{ StatusResponse }

// Opnum returns [OpCommitShadowCopySet].
func (*CommitShadowCopySetResponse) Opnum() Opnum { return OpCommitShadowCopySet }

// CommitShadowCopySet implements Service.
func (c *Client) CommitShadowCopySet(ctx context.Context, set SetID, wait time.Duration) error {
	return c.serve.CommitShadowCopySet(ctx, set, wait)
}

// CommitShadowCopySet implements Service.
func (f ServiceFunc) CommitShadowCopySet(ctx context.Context, set SetID, wait time.Duration) error {
	ms, err := milliseconds(wait)
	if err != nil {
		return err
	}
	_, err = invoke[CommitShadowCopySetResponse](ctx, f, &CommitShadowCopySetRequest{ShadowCopySetID: set,
		TimeOutInMilliseconds: ms})
	return err
}

func (m *CommitShadowCopySetRequest) serve(ctx context.Context, s Service) (Response, error) {
	return new(CommitShadowCopySetResponse), s.CommitShadowCopySet(ctx, m.ShadowCopySetID, m.wait())
}

func (m *CommitShadowCopySetRequest) wait() time.Duration {
	return time.Duration(m.TimeOutInMilliseconds) * time.Millisecond
}
