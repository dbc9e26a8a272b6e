package smb2

import (
	"fmt"
	"strings"
	"time"
)

// fileTimeEpoch is 1 January 1601 in seconds before 1970.
const fileTimeEpoch = 11644473600

// FileTime returns the time of a FILETIME, in units of 100 ns since 1601 (MS-DTYP 2.3.3). Zero
// means that there is none, and gives the zero time.
func FileTime(t uint64) time.Time {
	if t == 0 || t > 1<<63-1 {
		return time.Time{}
	}
	return time.Unix(int64(t/1e7)-fileTimeEpoch, int64(t%1e7)*100)
}

// A DirEntry is one entry of a listing (FileIdBothDirectoryInformation, MS-FSCC 2.4.17).
type DirEntry struct {
	Name       string
	Info       FileInfo
	ReparseTag uint32 // of a reparse point
	ID         uint64 // that the file system gives the file; zero where it has none
}

// ParseDirEntries reads a piece of a listing, and appends its entries to dst:
//
//	 0 NextEntryOffset | 4 FileIndex | 8 four times | 40 EndOfFile | 48 AllocationSize | 56 FileAttributes
//	60 FileNameLength | 64 EaSize, or the reparse tag | 68 ShortNameLength ... | 96 FileId, 8 bytes | 104 FileName
//
// Names that lead elsewhere are an error; "." and ".." are left out.
func ParseDirEntries(b []byte, dst []DirEntry) ([]DirEntry, error) {
	for len(b) > 0 {
		if len(b) < 104 {
			return dst, fmt.Errorf("%w: a directory entry of %d bytes", ErrMessage, len(b))
		}
		next, n := le.Uint32(b), le.Uint32(b[60:])
		if uint64(n) > uint64(len(b)-104) || n%2 != 0 {
			return dst, fmt.Errorf("%w: a name of %d bytes", ErrMessage, n)
		}
		e := DirEntry{Name: DecodeName(b[104 : 104+n]), ID: le.Uint64(b[96:])}
		e.Info = FileInfo{
			Created: le.Uint64(b[8:]), Accessed: le.Uint64(b[16:]), Written: le.Uint64(b[24:]), Changed: le.Uint64(b[32:]),
			EndOfFile: le.Uint64(b[40:]), AllocationSize: le.Uint64(b[48:]), Attributes: le.Uint32(b[56:]),
		}
		if e.Info.Attributes&AttributeReparsePoint != 0 {
			e.ReparseTag = le.Uint32(b[64:])
		}
		switch {
		case e.Name == "." || e.Name == "..":
		case e.Name == "" || strings.ContainsAny(e.Name, "/\\\x00"):
			return dst, fmt.Errorf("%w: a directory entry with the name %q", ErrMessage, e.Name)
		default:
			dst = append(dst, e)
		}
		if next == 0 {
			return dst, nil
		}
		if next < 104+n || uint64(next) > uint64(len(b)) {
			return dst, fmt.Errorf("%w: a directory entry at %d", ErrMessage, next)
		}
		b = b[next:]
	}
	return dst, nil
}

// appendDirEntries is ParseDirEntries' inverse.
func appendDirEntries(dst []byte, list []DirEntry) ([]byte, error) {
	for i, e := range list {
		start := len(dst)
		dst = append(dst, make([]byte, 8)...)
		for _, v := range []uint64{e.Info.Created, e.Info.Accessed, e.Info.Written, e.Info.Changed, e.Info.EndOfFile,
			e.Info.AllocationSize} {
			dst = le.AppendUint64(dst, v)
		}
		dst = le.AppendUint32(dst, e.Info.Attributes)
		name, err := AppendName(nil, e.Name)
		if err != nil {
			return nil, err
		}
		dst = le.AppendUint32(dst, uint32(len(name)))
		dst = le.AppendUint32(dst, e.ReparseTag)
		dst = append(dst, make([]byte, 28)...)
		dst = le.AppendUint64(dst, e.ID)
		dst = append(dst, name...)
		if i < len(list)-1 {
			for (len(dst)-start)%8 != 0 {
				dst = append(dst, 0)
			}
			le.PutUint32(dst[start:], uint32(len(dst)-start))
		}
	}
	return dst, nil
}

// A Stream is a data stream of a file (MS-FSCC 2.4.49). The main stream has no name.
type Stream struct {
	Name       string // "Zone.Identifier" of ":Zone.Identifier:$DATA"
	Type       string // "$DATA"
	Size       int64  // bytes
	Allocation int64  // bytes
}

// ParseStreams reads FileStreamInformation:
//
//	0 NextEntryOffset | 4 StreamNameLength | 8 StreamSize | 16 StreamAllocationSize | 24 StreamName
func ParseStreams(b []byte) ([]Stream, error) {
	var list []Stream
	for len(b) > 0 {
		if len(b) < 24 {
			return nil, fmt.Errorf("%w: a stream's entry of %d bytes", ErrMessage, len(b))
		}
		next, n := le.Uint32(b), le.Uint32(b[4:])
		if uint64(n) > uint64(len(b)-24) || n%2 != 0 {
			return nil, fmt.Errorf("%w: a stream's name of %d bytes", ErrMessage, n)
		}
		name, ok := strings.CutPrefix(DecodeName(b[24:24+n]), ":")
		name, kind, _ := strings.Cut(name, ":")
		if !ok || strings.ContainsAny(name, "/\\\x00") || strings.ContainsAny(kind, "/\\:\x00") {
			return nil, fmt.Errorf("%w: a stream with the name %q and the type %q", ErrMessage, name, kind)
		}
		list = append(list, Stream{name, kind, int64(le.Uint64(b[8:]) &^ (1 << 63)),
			int64(le.Uint64(b[16:]) &^ (1 << 63))})
		if next == 0 {
			break
		}
		if next < 24+n || uint64(next) > uint64(len(b)) {
			return nil, fmt.Errorf("%w: a stream's entry at %d", ErrMessage, next)
		}
		b = b[next:]
	}
	return list, nil
}

// A Range is a part of a file, in bytes.
type Range struct{ Offset, Length int64 }

// ParseRanges reads FILE_ALLOCATED_RANGE_BUFFERs (MS-FSCC 2.3.52): ordered, not one within the
// other, and none that ends before after.
func ParseRanges(b []byte, after int64) ([]Range, error) {
	if len(b)%16 != 0 {
		return nil, fmt.Errorf("%w: allocated ranges of %d bytes", ErrMessage, len(b))
	}
	list := make([]Range, 0, len(b)/16)
	for ; len(b) > 0; b = b[16:] {
		r := Range{int64(le.Uint64(b)), int64(le.Uint64(b[8:]))}
		if r.Offset < 0 || r.Length <= 0 || r.Offset+r.Length < 0 || r.Offset+r.Length <= after {
			return nil, fmt.Errorf("%w: an allocated range at %d of %d bytes", ErrMessage, r.Offset, r.Length)
		}
		after = r.Offset + r.Length
		list = append(list, r)
	}
	return list, nil
}

// Reparse tags (MS-FSCC 2.1.2.1).
const (
	ReparseMountPoint = 0xA0000003 // a junction
	ReparseSymlink    = 0xA000000C
	ReparseDFS        = 0x8000000A
	ReparseDFSR       = 0x80000012
	ReparseDedup      = 0x80000013
	ReparseNFS        = 0x80000014
	ReparseWOF        = 0x80000017 // compressed by the system
	ReparseHSM        = 0xC0000004
	ReparseHSM2       = 0x80000006
	ReparseSIS        = 0x80000007
	ReparseCloud      = 0x9000001A // and with 0x0000F000 masked out
	reparseCloudMask  = 0x0000F000
)

// A ReparseKind says what kind of object a reparse point is.
type ReparseKind int

// Kinds of reparse points.
const (
	// NoReparse is a file or a directory.
	NoReparse ReparseKind = iota
	// ReparseLink leads to another place: a symbolic link or a junction. Who follows it leaves the
	// tree, or never comes to an end.
	ReparseLink
	// ReparseDFSLink leads to a share of another server by DFS. What is behind it is not in the
	// copy of a share.
	ReparseDFSLink
	// ReparseData is a file whose data the server keeps elsewhere and gives when it is read:
	// deduplicated, compressed.
	ReparseData
	// ReparseRemote is a file whose data is in a cloud or on a tape. To read it may bring it back
	// from there.
	ReparseRemote
	// ReparseOther is anything else, such as a socket of WSL.
	ReparseOther
)

// KindOfReparse returns the kind of a tag; zero means no reparse point.
func KindOfReparse(tag uint32) ReparseKind {
	switch tag {
	case 0:
		return NoReparse
	case ReparseMountPoint, ReparseSymlink, 0xA000001D: // the last is WSL's symbolic link
		return ReparseLink
	case ReparseDFS, ReparseDFSR:
		return ReparseDFSLink
	case ReparseDedup, ReparseWOF, ReparseSIS:
		return ReparseData
	case ReparseHSM, ReparseHSM2:
		return ReparseRemote
	}
	if tag&^reparseCloudMask == ReparseCloud {
		return ReparseRemote
	}
	return ReparseOther
}
