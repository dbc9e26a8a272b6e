package smb2

import "fmt"

// A FileID names an open file or pipe (MS-SMB2 2.2.14.1).
type FileID [16]byte

// RelatedFileID stands, in a compound, for the file that the previous message has opened or used.
var RelatedFileID = FileID{
	0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
}

// Related reports whether the id is [RelatedFileID].
func (id FileID) Related() bool { return id == RelatedFileID }

// Access rights (MS-SMB2 2.2.13.1).
const (
	AccessReadData             = 0x00000001 // of a directory: to list it
	AccessWriteData            = 0x00000002
	AccessAppendData           = 0x00000004
	AccessReadEA               = 0x00000008
	AccessReadAttributes       = 0x00000080
	AccessReadControl          = 0x00020000 // the descriptor without its SACL
	AccessSynchronize          = 0x00100000
	AccessSystemSecurity       = 0x01000000 // the descriptor's SACL
	AccessMaximumAllowed       = 0x02000000
	accessPipe                 = 0x0012019F // FILE_GENERIC_READ | FILE_GENERIC_WRITE
	shareRead, shareAll        = 0x1, 0x7
	dispositionOpen            = 1
	dispositionOverwriteIf     = 5 // the file is made, or emptied
	impersonationImpersonation = 2
)

// Options of a CREATE (MS-SMB2 2.2.13).
const (
	OptionDirectory     = 0x00000001 // FILE_DIRECTORY_FILE
	OptionSequential    = 0x00000004 // FILE_SEQUENTIAL_ONLY
	OptionNonDirectory  = 0x00000040 // FILE_NON_DIRECTORY_FILE
	OptionBackupIntent  = 0x00004000 // FILE_OPEN_FOR_BACKUP_INTENT
	OptionReparsePoint  = 0x00200000 // FILE_OPEN_REPARSE_POINT
	OptionNoRecall      = 0x00400000 // FILE_OPEN_NO_RECALL
	createRequestFixed  = 56
	createResponseFixed = 88
)

// A CreateRequest opens a file, a directory or a pipe (MS-SMB2 2.2.13):
//
//	 0 StructureSize 57 | 2 SecurityFlags | 3 RequestedOplockLevel | 4 ImpersonationLevel | 8 SmbCreateFlags
//	16 reserved | 24 DesiredAccess | 28 FileAttributes | 32 ShareAccess | 36 CreateDisposition | 40 CreateOptions
//	44 NameOffset, NameLength | 48 CreateContextsOffset, Length | 56 Buffer
//
// Create contexts are not read and not written.
type CreateRequest struct {
	Access      uint32
	Attributes  uint32
	Share       uint32
	Disposition uint32
	Options     uint32
	Name        string // below the share, with backslashes; empty for its root
}

// ParseCreateRequest reads one.
func ParseCreateRequest(msg []byte) (CreateRequest, error) {
	b, err := body(msg, createRequestFixed)
	if err != nil {
		return CreateRequest{}, err
	}
	name, err := whole(msg, uint32(le.Uint16(b[44:])), uint32(le.Uint16(b[46:])))
	return CreateRequest{
		Access: le.Uint32(b[24:]), Attributes: le.Uint32(b[28:]), Share: le.Uint32(b[32:]),
		Disposition: le.Uint32(b[36:]), Options: le.Uint32(b[40:]), Name: DecodeName(name),
	}, err
}

// AppendBinary appends the body.
func (r *CreateRequest) AppendBinary(dst []byte) ([]byte, error) {
	start := len(dst)
	dst = append(dst, 57, 0, 0, 0)
	dst = le.AppendUint32(dst, impersonationImpersonation)
	dst = append(dst, make([]byte, 16)...)
	for _, v := range []uint32{r.Access, r.Attributes, r.Share, r.Disposition, r.Options} {
		dst = le.AppendUint32(dst, v)
	}
	dst = le.AppendUint16(dst, HeaderSize+createRequestFixed)
	dst = append(dst, make([]byte, 10)...)
	out, err := AppendName(dst, r.Name)
	if err != nil {
		return nil, err
	}
	n := len(out) - len(dst)
	if err := size16("a name", n); err != nil {
		return nil, err
	}
	le.PutUint16(out[start+46:], uint16(n))
	if n == 0 {
		out = append(out, 0) // the buffer has one byte at least
	}
	return out, nil
}

// FileInfo is the information about a file in several responses. Times are FILETIMEs, sizes are in
// bytes.
type FileInfo struct {
	Created, Accessed, Written, Changed uint64
	AllocationSize, EndOfFile           uint64
	Attributes                          uint32 // MS-FSCC 2.6
}

// ParseFileInfo reads a FileNetworkOpenInformation (MS-FSCC 2.4.29), of which CREATE's answer has
// the fields too: four times, AllocationSize, EndOfFile, FileAttributes. It needs 52 bytes.
func ParseFileInfo(b []byte) (FileInfo, error) {
	if len(b) < 52 {
		return FileInfo{}, fmt.Errorf("%w: FileNetworkOpenInformation of %d bytes", ErrMessage, len(b))
	}
	return parseFileInfo(b), nil
}

func parseFileInfo(b []byte) FileInfo {
	return FileInfo{
		Created: le.Uint64(b), Accessed: le.Uint64(b[8:]), Written: le.Uint64(b[16:]), Changed: le.Uint64(b[24:]),
		AllocationSize: le.Uint64(b[32:]), EndOfFile: le.Uint64(b[40:]), Attributes: le.Uint32(b[48:]),
	}
}

func (i *FileInfo) append(dst []byte) []byte {
	for _, v := range []uint64{i.Created, i.Accessed, i.Written, i.Changed, i.AllocationSize, i.EndOfFile} {
		dst = le.AppendUint64(dst, v)
	}
	return le.AppendUint32(dst, i.Attributes)
}

// File attributes (MS-FSCC 2.6).
const (
	AttributeReadOnly     = 0x00000001
	AttributeHidden       = 0x00000002
	AttributeSystem       = 0x00000004
	AttributeDirectory    = 0x00000010
	AttributeArchive      = 0x00000020
	AttributeNormal       = 0x00000080
	AttributeSparse       = 0x00000200
	AttributeReparsePoint = 0x00000400
	AttributeCompressed   = 0x00000800
	AttributeOffline      = 0x00001000
	AttributeEncrypted    = 0x00004000
)

// A CreateResponse describes what was opened (MS-SMB2 2.2.14):
//
//	 0 StructureSize 89 | 2 OplockLevel | 3 Flags | 4 CreateAction | 8 four times | 40 AllocationSize | 48 EndofFile
//	56 FileAttributes | 60 reserved | 64 FileId, 16 bytes | 80 CreateContextsOffset, Length | 88 Buffer
type CreateResponse struct {
	Action uint32
	Info   FileInfo
	ID     FileID
}

// ParseCreateResponse reads one.
func ParseCreateResponse(msg []byte) (CreateResponse, error) {
	b, err := body(msg, createResponseFixed)
	if err != nil {
		return CreateResponse{}, err
	}
	return CreateResponse{le.Uint32(b[4:]), parseFileInfo(b[8:]), FileID(b[64:80])}, nil
}

// AppendBinary appends the body.
func (r *CreateResponse) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, 89, 0, 0, 0)
	dst = le.AppendUint32(dst, r.Action)
	dst = r.Info.append(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, r.ID[:]...)
	return append(dst, make([]byte, 8)...), nil
}

// A CloseRequest closes a file (MS-SMB2 2.2.15): 0 StructureSize 24 | 2 Flags | 4 reserved | 8
// FileId.
type CloseRequest struct {
	Flags uint16
	ID    FileID
}

// ParseCloseRequest reads one.
func ParseCloseRequest(msg []byte) (CloseRequest, error) {
	b, err := body(msg, 24)
	if err != nil {
		return CloseRequest{}, err
	}
	return CloseRequest{le.Uint16(b[2:]), FileID(b[8:24])}, nil
}

// AppendBinary appends the body.
func (r *CloseRequest) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, 24, 0)
	dst = le.AppendUint16(dst, r.Flags)
	dst = append(dst, 0, 0, 0, 0)
	return append(dst, r.ID[:]...), nil
}

// A CloseResponse confirms a CLOSE (MS-SMB2 2.2.16): 0 StructureSize 60 | 2 Flags | 4 reserved | 8
// as [FileInfo].
type CloseResponse struct {
	Flags uint16
	Info  FileInfo
}

// ParseCloseResponse reads one.
func ParseCloseResponse(msg []byte) (CloseResponse, error) {
	b, err := body(msg, 60)
	if err != nil {
		return CloseResponse{}, err
	}
	return CloseResponse{le.Uint16(b[2:]), parseFileInfo(b[8:])}, nil
}

// AppendBinary appends the body.
func (r *CloseResponse) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, 60, 0)
	dst = le.AppendUint16(dst, r.Flags)
	return r.Info.append(append(dst, 0, 0, 0, 0)), nil
}

// A ReadRequest reads from a file or a pipe (MS-SMB2 2.2.19):
//
//	 0 StructureSize 49 | 2 Padding | 3 Flags | 4 Length | 8 Offset, 8 bytes | 16 FileId, 16 bytes | 32 MinimumCount
//	36 Channel | 40 RemainingBytes | 44 ReadChannelInfoOffset, Length | 48 Buffer
type ReadRequest struct {
	ID      FileID
	Offset  uint64
	Length  uint32
	Minimum uint32
}

// dataOffset is where the data of a READ response and a WRITE request begin.
const dataOffset = HeaderSize + 16

// ParseReadRequest reads one.
func ParseReadRequest(msg []byte) (ReadRequest, error) {
	b, err := body(msg, 48)
	if err != nil {
		return ReadRequest{}, err
	}
	return ReadRequest{FileID(b[16:32]), le.Uint64(b[8:]), le.Uint32(b[4:]), le.Uint32(b[32:])}, nil
}

// AppendBinary appends the body.
func (r *ReadRequest) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, 49, 0, dataOffset, 0)
	dst = le.AppendUint32(dst, r.Length)
	dst = le.AppendUint64(dst, r.Offset)
	dst = append(dst, r.ID[:]...)
	dst = le.AppendUint32(dst, r.Minimum)
	return append(dst, make([]byte, 13)...), nil // the buffer has one byte at least
}

// A ReadResponse has what was read (MS-SMB2 2.2.20):
//
//	0 StructureSize 17 | 2 DataOffset, 1 byte | 3 reserved | 4 DataLength | 8 DataRemaining | 12 Flags | 16 Buffer
type ReadResponse struct {
	Data    []byte
	Missing int // how many bytes of Data are beyond the end of the message, which a capture has cut
}

// ParseReadResponse reads one. Data aliases msg.
func ParseReadResponse(msg []byte) (r ReadResponse, err error) {
	b, err := body(msg, 16)
	if err != nil {
		return r, err
	}
	r.Data, r.Missing, err = part(msg, uint32(b[2]), le.Uint32(b[4:]))
	return r, err
}

// AppendBinary appends the body.
func (r *ReadResponse) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, 17, 0, dataOffset, 0)
	dst = le.AppendUint32(dst, uint32(len(r.Data)))
	dst = append(dst, make([]byte, 8)...)
	if len(r.Data) == 0 {
		return append(dst, 0), nil
	}
	return append(dst, r.Data...), nil
}

// A WriteRequest writes to a file or a pipe (MS-SMB2 2.2.21):
//
//	 0 StructureSize 49 | 2 DataOffset | 4 Length | 8 Offset, 8 bytes | 16 FileId, 16 bytes | 32 Channel
//	36 RemainingBytes | 40 WriteChannelInfoOffset, Length | 44 Flags | 48 Buffer
type WriteRequest struct {
	ID      FileID
	Offset  uint64
	Data    []byte
	Missing int // as in a ReadResponse
}

// ParseWriteRequest reads one. Data aliases msg.
func ParseWriteRequest(msg []byte) (r WriteRequest, err error) {
	b, err := body(msg, 48)
	if err != nil {
		return r, err
	}
	r.ID, r.Offset = FileID(b[16:32]), le.Uint64(b[8:])
	r.Data, r.Missing, err = part(msg, uint32(le.Uint16(b[2:])), le.Uint32(b[4:]))
	return r, err
}

// AppendBinary appends the body.
func (r *WriteRequest) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, 49, 0, HeaderSize+48, 0)
	dst = le.AppendUint32(dst, uint32(len(r.Data)))
	dst = le.AppendUint64(dst, r.Offset)
	dst = append(dst, r.ID[:]...)
	dst = append(dst, make([]byte, 16)...)
	if len(r.Data) == 0 {
		return append(dst, 0), nil
	}
	return append(dst, r.Data...), nil
}

// A WriteResponse says how much was written (MS-SMB2 2.2.22): 0 StructureSize 17 | 2 reserved | 4
// Count | 8 ...
type WriteResponse struct{ Count uint32 }

// ParseWriteResponse reads one.
func ParseWriteResponse(msg []byte) (WriteResponse, error) {
	b, err := body(msg, 16)
	if err != nil {
		return WriteResponse{}, err
	}
	return WriteResponse{le.Uint32(b[4:])}, nil
}

// AppendBinary appends the body.
func (r *WriteResponse) AppendBinary(dst []byte) ([]byte, error) {
	dst = le.AppendUint32(append(dst, 17, 0, 0, 0), r.Count)
	return append(dst, make([]byte, 9)...), nil
}

// Control codes (MS-SMB2 2.2.31, MS-FSCC 2.3).
const (
	FSCTLPipeTransceive        = 0x0011C017 // writes to a pipe and reads from it
	FSCTLPipePeek              = 0x0011400C
	FSCTLValidateNegotiateInfo = 0x00140204
	FSCTLQueryAllocatedRanges  = 0x000940CF
	FSCTLGetReparsePoint       = 0x000900A8
	// of a share's root: the previous versions that there are (MS-SMB2 3.3.5.15.1)
	FSCTLEnumerateSnapshots = 0x00144064
)

// An IOCTLRequest is a control code with its input (MS-SMB2 2.2.31):
//
//	 0 StructureSize 57 | 2 reserved | 4 CtlCode | 8 FileId, 16 bytes | 24 InputOffset | 28 InputCount
//	32 MaxInputResponse | 36 OutputOffset | 40 OutputCount | 44 MaxOutputResponse | 48 Flags | 52 reserved | 56 Buffer
type IOCTLRequest struct {
	Code      uint32
	ID        FileID
	Input     []byte
	Missing   int // as in a ReadResponse
	MaxOutput uint32
}

// ParseIOCTLRequest reads one. Input aliases msg.
func ParseIOCTLRequest(msg []byte) (r IOCTLRequest, err error) {
	b, err := body(msg, 56)
	if err != nil {
		return r, err
	}
	r.Code, r.ID, r.MaxOutput = le.Uint32(b[4:]), FileID(b[8:24]), le.Uint32(b[44:])
	r.Input, r.Missing, err = part(msg, le.Uint32(b[24:]), le.Uint32(b[28:]))
	return r, err
}

// AppendBinary appends the body.
func (r *IOCTLRequest) AppendBinary(dst []byte) ([]byte, error) {
	const isFSCTL = 1
	dst = append(dst, 57, 0, 0, 0)
	dst = le.AppendUint32(dst, r.Code)
	dst = append(dst, r.ID[:]...)
	dst = le.AppendUint32(dst, HeaderSize+56)
	dst = le.AppendUint32(dst, uint32(len(r.Input)))
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint32(dst, r.MaxOutput)
	dst = le.AppendUint32(dst, isFSCTL)
	dst = le.AppendUint32(dst, 0)
	if len(r.Input) == 0 {
		return append(dst, 0), nil
	}
	return append(dst, r.Input...), nil
}

// An IOCTLResponse has the output of a control code (MS-SMB2 2.2.32):
//
//	 0 StructureSize 49 | 2 reserved | 4 CtlCode | 8 FileId, 16 bytes | 24 InputOffset | 28 InputCount
//	32 OutputOffset | 36 OutputCount | 40 Flags | 44 reserved | 48 Buffer
type IOCTLResponse struct {
	Code    uint32
	ID      FileID
	Output  []byte
	Missing int // as in a ReadResponse
}

// ParseIOCTLResponse reads one. Output aliases msg.
func ParseIOCTLResponse(msg []byte) (r IOCTLResponse, err error) {
	b, err := body(msg, 48)
	if err != nil {
		return r, err
	}
	r.Code, r.ID = le.Uint32(b[4:]), FileID(b[8:24])
	r.Output, r.Missing, err = part(msg, le.Uint32(b[32:]), le.Uint32(b[36:]))
	return r, err
}

// AppendBinary appends the body.
func (r *IOCTLResponse) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, 49, 0, 0, 0)
	dst = le.AppendUint32(dst, r.Code)
	dst = append(dst, r.ID[:]...)
	dst = le.AppendUint32(dst, HeaderSize+48)
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint32(dst, HeaderSize+48)
	dst = le.AppendUint32(dst, uint32(len(r.Output)))
	dst = append(dst, make([]byte, 8)...)
	if len(r.Output) == 0 {
		return append(dst, 0), nil
	}
	return append(dst, r.Output...), nil
}

// Information classes (MS-FSCC 2.4, MS-SMB2 2.2.37).
const (
	infoFile     = 1 // SMB2_0_INFO_FILE
	infoSecurity = 3 // SMB2_0_INFO_SECURITY

	classIDBothDirectory = 0x25 // FileIdBothDirectoryInformation
	classStream          = 0x16 // FileStreamInformation
	classNetworkOpen     = 0x22 // FileNetworkOpenInformation
	classAttributeTag    = 0x23 // FileAttributeTagInformation
)

// A QueryDirectoryRequest asks for a piece of a listing (MS-SMB2 2.2.33):
//
//	 0 StructureSize 33 | 2 FileInformationClass | 3 Flags | 4 FileIndex | 8 FileId, 16 bytes
//	24 FileNameOffset, Length | 28 OutputBufferLength | 32 Buffer
type QueryDirectoryRequest struct {
	Class     uint8
	Flags     uint8
	ID        FileID
	Pattern   string
	MaxOutput uint32
}

// QueryRestart in Flags begins a listing again.
const QueryRestart = 0x01

// ParseQueryDirectoryRequest reads one.
func ParseQueryDirectoryRequest(msg []byte) (r QueryDirectoryRequest, err error) {
	b, err := body(msg, 32)
	if err != nil {
		return r, err
	}
	p, err := whole(msg, uint32(le.Uint16(b[24:])), uint32(le.Uint16(b[26:])))
	return QueryDirectoryRequest{b[2], b[3], FileID(b[8:24]), DecodeName(p), le.Uint32(b[28:])}, err
}

// AppendBinary appends the body.
func (r *QueryDirectoryRequest) AppendBinary(dst []byte) ([]byte, error) {
	pattern, err := AppendName(nil, r.Pattern)
	if err == nil {
		err = size16("a pattern", len(pattern))
	}
	if err != nil {
		return nil, err
	}
	dst = append(dst, 33, 0, r.Class, r.Flags, 0, 0, 0, 0)
	dst = append(dst, r.ID[:]...)
	dst = le.AppendUint16(dst, HeaderSize+32)
	dst = le.AppendUint16(dst, uint16(len(pattern)))
	dst = le.AppendUint32(dst, r.MaxOutput)
	return append(dst, pattern...), nil
}

// A QueryInfoRequest asks for what is known of a file (MS-SMB2 2.2.37):
//
//	 0 StructureSize 41 | 2 InfoType | 3 FileInfoClass | 4 OutputBufferLength | 8 InputBufferOffset | 10 reserved
//	12 InputBufferLength | 16 AdditionalInformation | 20 Flags | 24 FileId, 16 bytes | 40 Buffer
type QueryInfoRequest struct {
	Type       uint8
	Class      uint8
	MaxOutput  uint32
	Additional uint32 // which parts of a security descriptor
	ID         FileID
}

// ParseQueryInfoRequest reads one.
func ParseQueryInfoRequest(msg []byte) (QueryInfoRequest, error) {
	b, err := body(msg, 40)
	if err != nil {
		return QueryInfoRequest{}, err
	}
	return QueryInfoRequest{b[2], b[3], le.Uint32(b[4:]), le.Uint32(b[16:]), FileID(b[24:40])}, nil
}

// AppendBinary appends the body.
func (r *QueryInfoRequest) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, 41, 0, r.Type, r.Class)
	dst = le.AppendUint32(dst, r.MaxOutput)
	dst = append(dst, make([]byte, 8)...)
	dst = le.AppendUint32(dst, r.Additional)
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, r.ID[:]...)
	return append(dst, 0), nil
}

// A QueryResponse answers QUERY_DIRECTORY and QUERY_INFO (MS-SMB2 2.2.34, 2.2.38):
//
//	0 StructureSize 9 | 2 OutputBufferOffset | 4 OutputBufferLength | 8 Buffer
type QueryResponse struct{ Output []byte }

// ParseQueryResponse reads one. Output aliases msg.
func ParseQueryResponse(msg []byte) (r QueryResponse, err error) {
	b, err := body(msg, 8)
	if err != nil {
		return r, err
	}
	r.Output, err = whole(msg, uint32(le.Uint16(b[2:])), le.Uint32(b[4:]))
	return r, err
}

// AppendBinary appends the body.
func (r *QueryResponse) AppendBinary(dst []byte) ([]byte, error) {
	if len(r.Output) > maxPart {
		return nil, fmt.Errorf("smb2: an output of %d bytes is too long", len(r.Output))
	}
	dst = append(dst, 9, 0, HeaderSize+8, 0)
	dst = le.AppendUint32(dst, uint32(len(r.Output)))
	if len(r.Output) == 0 {
		return append(dst, 0), nil
	}
	return append(dst, r.Output...), nil
}
