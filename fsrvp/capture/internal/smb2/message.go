// Package smb2 reads the parts of SMB 2 and 3 that a decoder of captures needs, with the codec of
// [github.com/go-fsrvp/go-fsrvp/dcerpc/smb2]. The bytes may be damaged or truncated, so its
// functions return false rather than a reason. Slices that they return alias the message.
package smb2

import "github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"

// Names from the codec.
type (
	Header  = smb2.Header
	Command = smb2.Command
	Cipher  = smb2.Cipher
	FileID  = smb2.FileID
	Keys    = smb2.Keys
	Preauth = smb2.Preauth
	// Signer verifies signatures.
	Signer = smb2.Signer
	// Transform is the header of an encrypted message.
	Transform = smb2.Transform
)

// Names from the codec.
const (
	HeaderSize      = smb2.HeaderSize
	TransformSize   = smb2.TransformSize
	Magic           = smb2.Magic
	MagicTransform  = smb2.MagicTransform
	MagicCompressed = smb2.MagicCompressed
	MagicSMB1       = smb2.MagicSMB1

	Negotiate    = smb2.CommandNegotiate
	SessionSetup = smb2.CommandSessionSetup
	Logoff       = smb2.CommandLogoff
	TreeConnect  = smb2.CommandTreeConnect
	Create       = smb2.CommandCreate
	Close        = smb2.CommandClose
	Read         = smb2.CommandRead
	Write        = smb2.CommandWrite
	IOCTL        = smb2.CommandIOCTL

	FlagResponse = smb2.FlagResponse
	FlagAsync    = smb2.FlagAsync
	FlagRelated  = smb2.FlagRelated
	FlagSigned   = smb2.FlagSigned

	AES128CCM = smb2.AES128CCM
	AES128GCM = smb2.AES128GCM
	AES256CCM = smb2.AES256CCM
	AES256GCM = smb2.AES256GCM

	FSCTLPipeTransceive = smb2.FSCTLPipeTransceive
)

// Statuses and dialects without types: of headers and of raw bytes.
const (
	StatusSuccess                = 0x00000000
	StatusPending                = 0x00000103
	StatusBufferOverflow         = 0x80000005
	StatusMoreProcessingRequired = 0xC0000016

	Dialect202 = 0x0202
	Dialect300 = 0x0300
	Dialect302 = 0x0302
	Dialect311 = 0x0311
)

// ErrCipher means that no key can be derived.
var ErrCipher = smb2.ErrCipher

// DeriveKeys derives the keys of a session.
func DeriveKeys(dialect smb2.Dialect, c Cipher, sessionKey []byte, hash Preauth) (*Keys, error) {
	return smb2.DeriveKeys(dialect, c, sessionKey, hash)
}

// NewSigner derives the key of signatures. Dialect 2.0.2 signs as 2.1 does.
func NewSigner(r *NegotiateResponse, sessionKey []byte, hash Preauth) (*Signer, error) {
	dialect := r.Dialect
	if dialect == Dialect202 {
		dialect = smb2.SMB210
	}
	return smb2.NewSigner(dialect, r.Signing, sessionKey, hash)
}

// ParseHeader reads the header at the start of b.
func ParseHeader(b []byte) (Header, bool) {
	h, err := smb2.ParseHeader(b)
	return h, err == nil
}

// ParseTransform reads the header at the start of b.
func ParseTransform(b []byte) (Transform, bool) {
	t, err := smb2.ParseTransform(b)
	return t, err == nil
}

// Part is a range of a message whose end may be missing.
type Part struct {
	Bytes   []byte
	Missing int // the number of missing bytes
}

// NegotiateResponse is the choice of a server.
type NegotiateResponse struct {
	Dialect    smb2.Dialect
	ServerGUID [16]byte
	Cipher     Cipher // zero if there is no encryption
	Signing    smb2.SigningAlgorithm
}

// ParseNegotiateResponse reads a NegotiateResponse.
func ParseNegotiateResponse(msg []byte) (NegotiateResponse, bool) {
	r, err := smb2.ParseNegotiateResponse(msg)
	if err != nil && r.Dialect == 0 {
		return NegotiateResponse{}, false
	}
	// A truncated message may still have the cipher, and a server of dialect 3.0 that does not
	// encrypt needs no key.
	out := NegotiateResponse{Dialect: r.Dialect, ServerGUID: r.ServerGUID}
	out.Cipher, _ = r.Cipher()
	out.Signing, _ = r.Signing()
	if out.Dialect == Dialect300 || out.Dialect == Dialect302 {
		out.Cipher = AES128CCM
	}
	return out, true
}

// SessionSetupRequest returns the security token of a request, and whether it binds a connection to
// a session of another (SMB2_SESSION_FLAG_BINDING).
func SessionSetupRequest(msg []byte) (token []byte, binding, ok bool) {
	r, err := smb2.ParseSessionSetupRequest(msg)
	return r.Token, r.Flags&1 != 0, err == nil
}

// SessionSetupResponse returns the security token of a response.
func SessionSetupResponse(msg []byte) ([]byte, bool) {
	r, err := smb2.ParseSessionSetupResponse(msg)
	return r.Token, err == nil
}

// TreeConnectResponse reports whether the tree is that of the pipes.
func TreeConnectResponse(msg []byte) (pipes, ok bool) {
	r, err := smb2.ParseTreeConnectResponse(msg)
	return r.Type == smb2.SharePipe, err == nil
}

// CreateRequest returns the name of the file or pipe to open.
func CreateRequest(msg []byte) (string, bool) {
	r, err := smb2.ParseCreateRequest(msg)
	return r.Name, err == nil
}

// CreateResponse returns the id of the opened file.
func CreateResponse(msg []byte) (FileID, bool) {
	r, err := smb2.ParseCreateResponse(msg)
	return r.ID, err == nil
}

// CloseRequest returns the id of the file to close.
func CloseRequest(msg []byte) (FileID, bool) {
	r, err := smb2.ParseCloseRequest(msg)
	return r.ID, err == nil
}

// ReadRequest returns the id of the file to read.
func ReadRequest(msg []byte) (FileID, bool) {
	r, err := smb2.ParseReadRequest(msg)
	return r.ID, err == nil
}

// ReadResponse returns the data that was read.
func ReadResponse(msg []byte) (Part, bool) {
	r, err := smb2.ParseReadResponse(msg)
	return Part{r.Data, r.Missing}, err == nil
}

// WriteRequest returns the file and the data to write.
func WriteRequest(msg []byte) (FileID, Part, bool) {
	r, err := smb2.ParseWriteRequest(msg)
	return r.ID, Part{r.Data, r.Missing}, err == nil
}

// IOCTLRequest returns the control code, the file and the input.
func IOCTLRequest(msg []byte) (code uint32, id FileID, input Part, ok bool) {
	r, err := smb2.ParseIOCTLRequest(msg)
	return r.Code, r.ID, Part{r.Input, r.Missing}, err == nil
}

// IOCTLResponse returns the output.
func IOCTLResponse(msg []byte) (Part, bool) {
	r, err := smb2.ParseIOCTLResponse(msg)
	return Part{r.Output, r.Missing}, err == nil
}
