package smb2

import "fmt"

// A Dialect is a version of SMB (MS-SMB2 2.2.3).
type Dialect uint16

// The dialects.
const (
	SMB210 Dialect = 0x0210 // SMB 2.1
	SMB300 Dialect = 0x0300 // SMB 3.0
	SMB302 Dialect = 0x0302 // SMB 3.0.2
	SMB311 Dialect = 0x0311 // SMB 3.1.1
)

// String returns "SMB 3.1.1", and "SMB dialect 0x0202" for one that this package does not speak.
func (d Dialect) String() string {
	switch d {
	case SMB210:
		return "SMB 2.1"
	case SMB300:
		return "SMB 3.0"
	case SMB302:
		return "SMB 3.0.2"
	case SMB311:
		return "SMB 3.1.1"
	}
	return fmt.Sprintf("SMB dialect 0x%04X", uint16(d))
}

// Security modes (MS-SMB2 2.2.3).
const (
	SigningEnabled  = 0x1
	SigningRequired = 0x2
)

// Capabilities that matter here (MS-SMB2 2.2.3, 2.2.4).
const (
	CapDFS        = 0x01
	CapLargeMTU   = 0x04 // requests of more than 64 KiB
	CapEncryption = 0x40 // of dialects 3.0 and 3.0.2
)

// A ContextType names a negotiate context (MS-SMB2 2.2.3.1).
type ContextType uint16

// The negotiate contexts that matter here.
const (
	ContextPreauth    ContextType = 1 // SMB2_PREAUTH_INTEGRITY_CAPABILITIES
	ContextEncryption ContextType = 2 // SMB2_ENCRYPTION_CAPABILITIES
	ContextNetname    ContextType = 5 // SMB2_NETNAME_NEGOTIATE_CONTEXT_ID
	ContextSigning    ContextType = 8 // SMB2_SIGNING_CAPABILITIES
)

// A NegotiateContext is one element of a list of dialect 3.1.1 (MS-SMB2 2.2.3.1). Each begins at a
// multiple of eight bytes from the header:
//
//	0 ContextType, 2 bytes | 2 DataLength, 2 bytes | 4 reserved | 8 Data
type NegotiateContext struct {
	Type ContextType
	Data []byte
}

// hashSHA512 is the one hash of pre-authentication integrity.
const hashSHA512 = 1

// PreauthContext offers SHA-512, or chooses it.
func PreauthContext(salt []byte) NegotiateContext {
	b := le.AppendUint16(nil, 1)
	b = le.AppendUint16(b, uint16(len(salt)))
	b = le.AppendUint16(b, hashSHA512)
	return NegotiateContext{ContextPreauth, append(b, salt...)}
}

// EncryptionContext offers ciphers, the best first.
func EncryptionContext(ciphers ...Cipher) NegotiateContext {
	b := le.AppendUint16(nil, uint16(len(ciphers)))
	for _, c := range ciphers {
		b = le.AppendUint16(b, uint16(c))
	}
	return NegotiateContext{ContextEncryption, b}
}

// SigningContext offers signing algorithms, the best first.
func SigningContext(algorithms ...SigningAlgorithm) NegotiateContext {
	b := le.AppendUint16(nil, uint16(len(algorithms)))
	for _, a := range algorithms {
		b = le.AppendUint16(b, uint16(a))
	}
	return NegotiateContext{ContextSigning, b}
}

// IDs returns the numbers in an encryption or signing context, or of the hashes in a
// pre-authentication one.
func (c *NegotiateContext) IDs() ([]uint16, error) {
	b := c.Data
	if len(b) < 2 {
		return nil, fmt.Errorf("%w: a negotiate context of %d bytes", ErrMessage, len(b))
	}
	n := int(le.Uint16(b))
	if b = b[2:]; c.Type == ContextPreauth {
		if len(b) < 2 {
			return nil, fmt.Errorf("%w: a negotiate context without its lengths", ErrMessage)
		}
		b = b[2:]
	}
	if n > len(b)/2 {
		return nil, fmt.Errorf("%w: a negotiate context of %d numbers in %d bytes", ErrMessage, n, len(b))
	}
	ids := make([]uint16, n)
	for i := range ids {
		ids[i] = le.Uint16(b[2*i:])
	}
	return ids, nil
}

// maxContexts is more than there are kinds of them.
const maxContexts = 64

// parseContexts reads a list at an offset from the header.
func parseContexts(msg []byte, off uint32, count uint16) ([]NegotiateContext, error) {
	if count > maxContexts {
		return nil, fmt.Errorf("%w: %d negotiate contexts", ErrMessage, count)
	}
	var list []NegotiateContext
	for range count {
		head, err := whole(msg, off, 8)
		if err != nil {
			return nil, err
		}
		c := NegotiateContext{Type: ContextType(le.Uint16(head))}
		n := uint32(le.Uint16(head[2:]))
		if c.Data, err = whole(msg, off+8, n); err != nil {
			return nil, err
		}
		list = append(list, c)
		off += (8 + n + 7) &^ 7
	}
	return list, nil
}

// appendContexts appends a list; at is the offset from the header at which it begins, a multiple of
// 8.
func appendContexts(dst []byte, list []NegotiateContext) ([]byte, error) {
	for i, c := range list {
		if err := size16("a negotiate context", len(c.Data)); err != nil {
			return nil, err
		}
		dst = le.AppendUint16(dst, uint16(c.Type))
		dst = le.AppendUint16(dst, uint16(len(c.Data)))
		dst = append(dst, 0, 0, 0, 0)
		dst = append(dst, c.Data...)
		if i < len(list)-1 {
			dst = append(dst, make([]byte, -len(c.Data)&7)...)
		}
	}
	return dst, nil
}

// A NegotiateRequest offers dialects (MS-SMB2 2.2.3):
//
//	 0 StructureSize 36 | 2 DialectCount | 4 SecurityMode | 6 reserved | 8 Capabilities | 12 ClientGuid, 16 bytes
//	28 NegotiateContextOffset | 32 NegotiateContextCount | 34 reserved | 36 Dialects | NegotiateContextList
type NegotiateRequest struct {
	SecurityMode uint16
	Capabilities uint32
	ClientGUID   [16]byte
	Dialects     []Dialect
	Contexts     []NegotiateContext // where dialect 3.1.1 is offered
}

// ParseNegotiateRequest reads one. Data of contexts aliases msg.
func ParseNegotiateRequest(msg []byte) (NegotiateRequest, error) {
	b, err := body(msg, 36)
	if err != nil {
		return NegotiateRequest{}, err
	}
	r := NegotiateRequest{SecurityMode: le.Uint16(b[4:]), Capabilities: le.Uint32(b[8:]),
		ClientGUID: [16]byte(b[12:28])}
	list, err := whole(msg, HeaderSize+36, 2*uint32(le.Uint16(b[2:])))
	if err != nil {
		return r, err
	}
	has311 := false
	for ; len(list) > 0; list = list[2:] {
		d := Dialect(le.Uint16(list))
		r.Dialects = append(r.Dialects, d)
		has311 = has311 || d == SMB311
	}
	if has311 {
		r.Contexts, err = parseContexts(msg, le.Uint32(b[28:]), le.Uint16(b[32:]))
	}
	return r, err
}

// AppendBinary appends the body.
func (r *NegotiateRequest) AppendBinary(dst []byte) ([]byte, error) {
	if err := size16("a list of dialects", len(r.Dialects)); err != nil {
		return nil, err
	}
	if err := size16("a list of negotiate contexts", len(r.Contexts)); err != nil {
		return nil, err
	}
	end := 36 + 2*len(r.Dialects)
	pad := -end & 7
	dst = le.AppendUint16(dst, 36)
	dst = le.AppendUint16(dst, uint16(len(r.Dialects)))
	dst = le.AppendUint16(dst, r.SecurityMode)
	dst = le.AppendUint16(dst, 0)
	dst = le.AppendUint32(dst, r.Capabilities)
	dst = append(dst, r.ClientGUID[:]...)
	if len(r.Contexts) > 0 {
		dst = le.AppendUint32(dst, uint32(HeaderSize+end+pad))
	} else {
		dst = le.AppendUint32(dst, 0)
	}
	dst = le.AppendUint32(dst, uint32(len(r.Contexts)))
	for _, d := range r.Dialects {
		dst = le.AppendUint16(dst, uint16(d))
	}
	if len(r.Contexts) == 0 {
		return dst, nil
	}
	return appendContexts(append(dst, make([]byte, pad)...), r.Contexts)
}

// A NegotiateResponse is the choice of a server (MS-SMB2 2.2.4):
//
//	 0 StructureSize 65 | 2 SecurityMode | 4 DialectRevision | 6 NegotiateContextCount | 8 ServerGuid, 16 bytes
//	24 Capabilities | 28 MaxTransactSize | 32 MaxReadSize | 36 MaxWriteSize | 40 SystemTime | 48 ServerStartTime
//	56 SecurityBufferOffset, Length | 60 NegotiateContextOffset | 64 Buffer
type NegotiateResponse struct {
	SecurityMode    uint16
	Dialect         Dialect
	ServerGUID      [16]byte
	Capabilities    uint32
	MaxTransactSize uint32
	MaxReadSize     uint32
	MaxWriteSize    uint32
	SystemTime      uint64 // a FILETIME, as is
	ServerStartTime uint64
	Token           []byte             // SPNEGO's offer; often empty
	Contexts        []NegotiateContext // of dialect 3.1.1
}

// ParseNegotiateResponse reads one. Slices alias msg.
func ParseNegotiateResponse(msg []byte) (NegotiateResponse, error) {
	b, err := body(msg, 64)
	if err != nil {
		return NegotiateResponse{}, err
	}
	r := NegotiateResponse{
		SecurityMode: le.Uint16(b[2:]), Dialect: Dialect(le.Uint16(b[4:])), ServerGUID: [16]byte(b[8:24]),
		Capabilities: le.Uint32(b[24:]), MaxTransactSize: le.Uint32(b[28:]), MaxReadSize: le.Uint32(b[32:]),
		MaxWriteSize: le.Uint32(b[36:]), SystemTime: le.Uint64(b[40:]), ServerStartTime: le.Uint64(b[48:]),
	}
	if r.Token, err = whole(msg, uint32(le.Uint16(b[56:])), uint32(le.Uint16(b[58:]))); err != nil {
		return r, err
	}
	if r.Dialect == SMB311 {
		r.Contexts, err = parseContexts(msg, le.Uint32(b[60:]), le.Uint16(b[6:]))
	}
	return r, err
}

// AppendBinary appends the body.
func (r *NegotiateResponse) AppendBinary(dst []byte) ([]byte, error) {
	if err := size16("a token", len(r.Token)); err != nil {
		return nil, err
	}
	if err := size16("a list of negotiate contexts", len(r.Contexts)); err != nil {
		return nil, err
	}
	end := 64 + len(r.Token)
	pad := -end & 7
	dst = le.AppendUint16(dst, 65)
	dst = le.AppendUint16(dst, r.SecurityMode)
	dst = le.AppendUint16(dst, uint16(r.Dialect))
	dst = le.AppendUint16(dst, uint16(len(r.Contexts)))
	dst = append(dst, r.ServerGUID[:]...)
	for _, v := range []uint32{r.Capabilities, r.MaxTransactSize, r.MaxReadSize, r.MaxWriteSize} {
		dst = le.AppendUint32(dst, v)
	}
	dst = le.AppendUint64(dst, r.SystemTime)
	dst = le.AppendUint64(dst, r.ServerStartTime)
	dst = le.AppendUint16(dst, HeaderSize+64)
	dst = le.AppendUint16(dst, uint16(len(r.Token)))
	if len(r.Contexts) > 0 {
		dst = le.AppendUint32(dst, uint32(HeaderSize+end+pad))
	} else {
		dst = le.AppendUint32(dst, 0)
	}
	dst = append(dst, r.Token...)
	if len(r.Contexts) == 0 {
		return dst, nil
	}
	return appendContexts(append(dst, make([]byte, pad)...), r.Contexts)
}

// chosen returns the number that the server has chosen in a context; has is false where it sent
// none.
func (r *NegotiateResponse) chosen(t ContextType) (id uint16, has bool, err error) {
	for i := range r.Contexts {
		if c := &r.Contexts[i]; c.Type == t {
			ids, err := c.IDs()
			switch {
			case err != nil:
				return 0, false, err
			case has:
				return 0, false, fmt.Errorf("%w: two negotiate contexts of type %d", ErrMessage, t)
			case len(ids) != 1:
				return 0, false, fmt.Errorf("%w: a choice of %d in a negotiate context of type %d", ErrMessage,
					len(ids), t)
			}
			id, has = ids[0], true
		}
	}
	return id, has, nil
}

// Cipher returns the cipher of the connection (MS-SMB2 3.2.5.2): zero if there is no encryption.
func (r *NegotiateResponse) Cipher() (Cipher, error) {
	switch r.Dialect {
	case SMB300, SMB302:
		if r.Capabilities&CapEncryption != 0 {
			return AES128CCM, nil
		}
	case SMB311:
		id, _, err := r.chosen(ContextEncryption)
		return Cipher(id), err
	}
	return 0, nil
}

// Signing returns the signing algorithm of the connection.
func (r *NegotiateResponse) Signing() (SigningAlgorithm, error) {
	switch r.Dialect {
	case SMB300, SMB302:
		return AESCMAC, nil
	case SMB311:
		id, has, err := r.chosen(ContextSigning)
		if err == nil && has {
			return SigningAlgorithm(id), nil
		}
		return AESCMAC, err
	}
	return HMACSHA256, nil
}

// ValidateNegotiateInfo is the input and the output of FSCTL_VALIDATE_NEGOTIATE_INFO (MS-SMB2
// 2.2.31.4, 2.2.32.6):
//
//	0 Capabilities | 4 Guid, 16 bytes | 20 SecurityMode | 22 DialectCount and Dialects, or the Dialect alone
type ValidateNegotiateInfo struct {
	Capabilities uint32
	GUID         [16]byte
	SecurityMode uint16
	Dialects     []Dialect // one, in the output
}

// AppendRequest appends the input.
func (v *ValidateNegotiateInfo) AppendRequest(dst []byte) []byte {
	dst = v.appendHead(dst)
	dst = le.AppendUint16(dst, uint16(len(v.Dialects)))
	for _, d := range v.Dialects {
		dst = le.AppendUint16(dst, uint16(d))
	}
	return dst
}

// AppendResponse appends the output.
func (v *ValidateNegotiateInfo) AppendResponse(dst []byte) []byte {
	dst = v.appendHead(dst)
	for _, d := range v.Dialects {
		dst = le.AppendUint16(dst, uint16(d))
	}
	return dst
}

func (v *ValidateNegotiateInfo) appendHead(dst []byte) []byte {
	dst = le.AppendUint32(dst, v.Capabilities)
	dst = append(dst, v.GUID[:]...)
	return le.AppendUint16(dst, v.SecurityMode)
}

// ParseValidateNegotiateResponse reads the output.
func ParseValidateNegotiateResponse(b []byte) (ValidateNegotiateInfo, error) {
	if len(b) != 24 {
		return ValidateNegotiateInfo{}, fmt.Errorf("%w: VALIDATE_NEGOTIATE_INFO of %d bytes", ErrMessage, len(b))
	}
	return ValidateNegotiateInfo{le.Uint32(b), [16]byte(b[4:20]), le.Uint16(b[20:]),
		[]Dialect{Dialect(le.Uint16(b[22:]))}}, nil
}
