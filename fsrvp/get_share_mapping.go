package fsrvp

import (
	"context"
	"errors"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// GetShareMappingRequest is the request of GetShareMapping (opnum 10, MS-FSRVP 3.1.4.11).
type GetShareMappingRequest struct {
	ShadowCopyID    CopyID   `json:"ShadowCopyId"`
	ShadowCopySetID SetID    `json:"ShadowCopySetId"`
	ShareName       ndr.WTF8 `json:"ShareName"` // a UNC path
	Level           uint32   `json:"Level"`     // 1 is the only level
}

// Opnum returns [OpGetShareMapping].
func (*GetShareMappingRequest) Opnum() Opnum { return OpGetShareMapping }

// Parse implements Message.
func (m *GetShareMappingRequest) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.ShadowCopyID = CopyID(d.GUID())
	m.ShadowCopySetID = SetID(d.GUID())
	m.ShareName = ndr.WTF8(d.WString())
	m.Level = d.Uint32()
	return d.Err()
}

// Append implements Message.
func (m *GetShareMappingRequest) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.GUID(m.ShadowCopyID)
	e.GUID(m.ShadowCopySetID)
	e.WString(string(m.ShareName))
	e.Uint32(m.Level)
	return e.Bytes()
}

// GetShareMappingResponse is the response of GetShareMapping (opnum 10, MS-FSRVP 3.1.4.11).
//
// [ShareMapping] is a union (MS-FSRVP 2.2.3.1):
//
//	| Level, the discriminant | NDR64: pad to 8 | Level 1: pointer | its structure, then the names | Return |
type GetShareMappingResponse struct {
	Level         uint32         `json:"Level"` // repeats the request's; 1 is the only level with an arm
	ShareMapping1 *ShareMapping1 `json:"ShareMapping1"`
	Return        Status         `json:"Return"`
}

// ShareMapping1 is FSSAGENT_SHARE_MAPPING_1 (MS-FSRVP 2.2.1.1).
//
//	| ShadowCopySetId 16 | ShadowCopyId 16 | two referents | CreationTimestamp 8 | the two names |
type ShareMapping1 struct {
	ShadowCopySetID     SetID          `json:"ShadowCopySetId"`
	ShadowCopyID        CopyID         `json:"ShadowCopyId"`
	ShareNameUNC        ndr.NullString `json:"ShareNameUNC"`
	ShadowCopyShareName ndr.NullString `json:"ShadowCopyShareName"` // NULL if the share is not exposed
	CreationTimestamp   Filetime       `json:"CreationTimestamp"`
}

// mappingAlign is the alignment of the union's arm in NDR64, since it is a pointer, and of the
// structure in every syntax, since it has a hyper.
const mappingAlign = 8

// Opnum returns [OpGetShareMapping].
func (*GetShareMappingResponse) Opnum() Opnum { return OpGetShareMapping }

// Status returns m.Return.
func (m *GetShareMappingResponse) Status() Status { return m.Return }

// Parse implements Message.
func (m *GetShareMappingResponse) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.ShareMapping1 = nil
	m.Level = d.Discriminant(mappingAlign)
	if m.Level == 1 && d.Pointer() {
		m.ShareMapping1 = new(ShareMapping1)
		m.ShareMapping1.parse(&d)
	}
	m.Return = Status(d.Uint32())
	return d.Err()
}

func (m *ShareMapping1) parse(d *ndr.Decoder) {
	d.Align(mappingAlign)
	m.ShadowCopySetID = SetID(d.GUID())
	m.ShadowCopyID = CopyID(d.GUID())
	m.ShareNameUNC.Valid = d.Pointer()
	m.ShadowCopyShareName.Valid = d.Pointer()
	m.CreationTimestamp = Filetime(d.Int64())
	if m.ShareNameUNC.Valid {
		m.ShareNameUNC.String = d.WString()
	}
	if m.ShadowCopyShareName.Valid {
		m.ShadowCopyShareName.String = d.WString()
	}
}

// Append implements Message. It fails if [ShareMapping1] is set and Level is not 1.
func (m *GetShareMappingResponse) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.Discriminant(m.Level, mappingAlign)
	switch {
	case m.Level == 1:
		e.Pointer(m.ShareMapping1 != nil)
		if m.ShareMapping1 != nil {
			m.ShareMapping1.append(&e)
		}
	case m.ShareMapping1 != nil:
		e.Fail("ShareMapping1", "is set at another level than 1")
	}
	e.Uint32(uint32(m.Return))
	return e.Bytes()
}

func (m *ShareMapping1) append(e *ndr.Encoder) {
	e.Align(mappingAlign)
	e.GUID(m.ShadowCopySetID)
	e.GUID(m.ShadowCopyID)
	e.Pointer(m.ShareNameUNC.Valid)
	e.Pointer(m.ShadowCopyShareName.Valid)
	e.Int64(int64(m.CreationTimestamp))
	if m.ShareNameUNC.Valid {
		e.WString(m.ShareNameUNC.String)
	}
	if m.ShadowCopyShareName.Valid {
		e.WString(m.ShadowCopyShareName.String)
	}
}

// SetStatus sets m.Return.
func (m *GetShareMappingResponse) SetStatus(s Status) { m.Return = s }

// GetShareMapping implements Service. It fails with [dcerpc.ErrBadPeer] if the answer has another
// level than the request.
func (c *Client) GetShareMapping(ctx context.Context, cpy CopyID, set SetID, share string, level uint32) (*ShareMapping,
	error) {
	return c.serve.GetShareMapping(ctx, cpy, set, share, level)
}

// GetShareMapping implements Service.
func (f ServiceFunc) GetShareMapping(ctx context.Context, cpy CopyID, set SetID, share string,
	level uint32) (*ShareMapping, error) {
	resp, err := invoke[GetShareMappingResponse](ctx, f, &GetShareMappingRequest{
		ShadowCopyID: cpy, ShadowCopySetID: set, ShareName: ndr.WTF8(share), Level: level,
	})
	m := resp.ShareMapping1
	if m == nil {
		return nil, err
	}
	return &ShareMapping{
		SetID: m.ShadowCopySetID, CopyID: m.ShadowCopyID,
		Share: m.ShareNameUNC.String, Exposed: m.ShadowCopyShareName.String, Created: m.CreationTimestamp.Time(),
	}, err
}

func (m *GetShareMappingRequest) serve(ctx context.Context, s Service) (Response, error) {
	resp := &GetShareMappingResponse{Level: m.Level}
	mapping, err := s.GetShareMapping(ctx, m.ShadowCopyID, m.ShadowCopySetID, string(m.ShareName), m.Level)
	if mapping == nil || m.Level != 1 {
		return resp, err
	}
	created, rangeErr := FiletimeOf(mapping.Created)
	if rangeErr != nil {
		return resp, errors.Join(err, rangeErr)
	}
	resp.ShareMapping1 = &ShareMapping1{
		ShadowCopySetID: mapping.SetID, ShadowCopyID: mapping.CopyID,
		ShareNameUNC: nullIfEmpty(mapping.Share), ShadowCopyShareName: nullIfEmpty(mapping.Exposed), CreationTimestamp: created,
	}
	return resp, err
}
