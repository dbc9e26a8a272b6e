package smb2

// SessionFlags are a server's flags for a session (MS-SMB2 2.2.6).
type SessionFlags uint16

// Session flags.
const (
	SessionIsGuest     SessionFlags = 1
	SessionIsNull      SessionFlags = 2
	SessionEncryptData SessionFlags = 4
)

// A SessionSetupRequest carries one token of a log-in (MS-SMB2 2.2.5):
//
//	 0 StructureSize 25 | 2 Flags, 1 byte | 3 SecurityMode, 1 byte | 4 Capabilities | 8 Channel
//	12 SecurityBufferOffset, Length | 16 PreviousSessionId, 8 bytes | 24 Buffer
type SessionSetupRequest struct {
	Flags             uint8
	SecurityMode      uint8
	Capabilities      uint32
	PreviousSessionID uint64
	Token             []byte
}

// ParseSessionSetupRequest reads one. Token aliases msg.
func ParseSessionSetupRequest(msg []byte) (SessionSetupRequest, error) {
	b, err := body(msg, 24)
	if err != nil {
		return SessionSetupRequest{}, err
	}
	r := SessionSetupRequest{Flags: b[2], SecurityMode: b[3], Capabilities: le.Uint32(b[4:]),
		PreviousSessionID: le.Uint64(b[16:])}
	r.Token, err = whole(msg, uint32(le.Uint16(b[12:])), uint32(le.Uint16(b[14:])))
	return r, err
}

// AppendBinary appends the body.
func (r *SessionSetupRequest) AppendBinary(dst []byte) ([]byte, error) {
	if err := size16("a token", len(r.Token)); err != nil {
		return nil, err
	}
	dst = append(dst, 25, 0, r.Flags, r.SecurityMode)
	dst = le.AppendUint32(dst, r.Capabilities)
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint16(dst, HeaderSize+24)
	dst = le.AppendUint16(dst, uint16(len(r.Token)))
	dst = le.AppendUint64(dst, r.PreviousSessionID)
	return append(dst, r.Token...), nil
}

// A SessionSetupResponse carries the server's token (MS-SMB2 2.2.6):
//
//	0 StructureSize 9 | 2 SessionFlags | 4 SecurityBufferOffset, Length | 8 Buffer
type SessionSetupResponse struct {
	Flags SessionFlags
	Token []byte
}

// ParseSessionSetupResponse reads one. Token aliases msg.
func ParseSessionSetupResponse(msg []byte) (SessionSetupResponse, error) {
	b, err := body(msg, 8)
	if err != nil {
		return SessionSetupResponse{}, err
	}
	r := SessionSetupResponse{Flags: SessionFlags(le.Uint16(b[2:]))}
	r.Token, err = whole(msg, uint32(le.Uint16(b[4:])), uint32(le.Uint16(b[6:])))
	return r, err
}

// AppendBinary appends the body.
func (r *SessionSetupResponse) AppendBinary(dst []byte) ([]byte, error) {
	if err := size16("a token", len(r.Token)); err != nil {
		return nil, err
	}
	dst = le.AppendUint16(dst, 9)
	dst = le.AppendUint16(dst, uint16(r.Flags))
	dst = le.AppendUint16(dst, HeaderSize+8)
	dst = le.AppendUint16(dst, uint16(len(r.Token)))
	return append(dst, r.Token...), nil
}

// A TreeConnectRequest names a share, `\\server\share` (MS-SMB2 2.2.9):
//
//	0 StructureSize 9 | 2 Flags | 4 PathOffset | 6 PathLength | 8 Buffer
type TreeConnectRequest struct {
	Flags uint16
	Path  string
}

// ParseTreeConnectRequest reads one.
func ParseTreeConnectRequest(msg []byte) (TreeConnectRequest, error) {
	b, err := body(msg, 8)
	if err != nil {
		return TreeConnectRequest{}, err
	}
	p, err := whole(msg, uint32(le.Uint16(b[4:])), uint32(le.Uint16(b[6:])))
	return TreeConnectRequest{le.Uint16(b[2:]), DecodeName(p)}, err
}

// AppendBinary appends the body.
func (r *TreeConnectRequest) AppendBinary(dst []byte) ([]byte, error) {
	path, err := AppendName(nil, r.Path)
	if err == nil {
		err = size16("a path", len(path))
	}
	if err != nil {
		return nil, err
	}
	dst = le.AppendUint16(dst, 9)
	dst = le.AppendUint16(dst, r.Flags)
	dst = le.AppendUint16(dst, HeaderSize+8)
	dst = le.AppendUint16(dst, uint16(len(path)))
	return append(dst, path...), nil
}

// A ShareType says what a share holds (MS-SMB2 2.2.10).
type ShareType uint8

// Share types.
const (
	ShareDisk  ShareType = 1
	SharePipe  ShareType = 2
	SharePrint ShareType = 3
)

// Flags and capabilities of a share (MS-SMB2 2.2.10).
const (
	ShareFlagDFS         = 0x0001
	ShareFlagEncryptData = 0x8000
	ShareCapDFS          = 0x08
)

// A TreeConnectResponse describes a share (MS-SMB2 2.2.10):
//
//	0 StructureSize 16 | 2 ShareType, 1 byte | 3 reserved | 4 ShareFlags | 8 Capabilities | 12 MaximalAccess
type TreeConnectResponse struct {
	Type          ShareType
	Flags         uint32
	Capabilities  uint32
	MaximalAccess uint32
}

// ParseTreeConnectResponse reads one.
func ParseTreeConnectResponse(msg []byte) (TreeConnectResponse, error) {
	b, err := body(msg, 16)
	if err != nil {
		return TreeConnectResponse{}, err
	}
	return TreeConnectResponse{ShareType(b[2]), le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint32(b[12:])}, nil
}

// AppendBinary appends the body.
func (r *TreeConnectResponse) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, 16, 0, byte(r.Type), 0)
	dst = le.AppendUint32(dst, r.Flags)
	dst = le.AppendUint32(dst, r.Capabilities)
	return le.AppendUint32(dst, r.MaximalAccess), nil
}
