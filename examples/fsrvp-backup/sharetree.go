package main

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf16"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/sharefs"
)

// The records that Docker's layers of Windows images have, and libarchive's.
const (
	keyDescriptor = "MSWINDOWS.rawsd"    // the security descriptor, self-relative, in base64
	keyAttributes = "MSWINDOWS.fileattr" // the attributes of MS-FSCC 2.6, in decimal
	keyMountPoint = "MSWINDOWS.mountpoint"
	keyCreated    = "LIBARCHIVE.creationtime"
)

// A shareTree is a share, or a directory of one.
type shareTree struct {
	fsys *sharefs.FS
	base string
	// noAudit reports that the server lets this account see no SACLs.
	noAudit atomic.Bool
}

// What a file is opened for: all that is archived of it, which is what sharefs asks for, and with
// it the SACL, which takes SeSecurityPrivilege.
const accessFile = smb2.AccessReadData | smb2.AccessReadEA | smb2.AccessReadAttributes | smb2.AccessReadControl | smb2.AccessSynchronize

func openShareTree(ctx context.Context, open func(context.Context, string) (*sharefs.FS, error), unc,
	base string) (*shareTree, error) {
	fsys, err := open(ctx, unc)
	if err != nil {
		return nil, err
	}
	return &shareTree{fsys: fsys, base: base}, nil
}

func (t *shareTree) Close() error { return t.fsys.Close() }

// fatal: the server has not said that it is about one file.
func (t *shareTree) fatal(err error) bool {
	return smb2.StatusOf(err) == 0 && !errors.Is(err, fs.ErrInvalid)
}

func (t *shareTree) list(ctx context.Context, dir string) ([]*node, error) {
	entries, err := t.fsys.WithContext(ctx).ReadDir(path.Join(t.base, dir))
	if err != nil {
		return nil, err
	}
	nodes := make([]*node, 0, len(entries))
	for _, e := range entries {
		n := &node{path: path.Join(dir, e.Name())}
		info, err := e.Info()
		if err != nil {
			n.err = err
		} else {
			n.describe(info)
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// describe takes over what a listing says. The rights are in the descriptor; whoever unpacks the
// archive elsewhere has files that the owner alone can read.
func (n *node) describe(info fs.FileInfo) {
	n.size, n.modified = info.Size(), info.ModTime()
	n.mode = 0o600
	if info.Mode().Perm()&0o200 == 0 {
		n.mode = 0o400
	}
	if a, ok := info.Sys().(*sharefs.Attributes); ok {
		n.add(keyAttributes, strconv.FormatUint(uint64(a.FileAttributes), 10))
		if !a.Created.IsZero() {
			n.add(keyCreated, paxTime(a.Created))
		}
		n.holes = a.Sparse()
		n.accessed = a.Accessed
		if a.ReparseTag == smb2.ReparseMountPoint {
			n.add(keyMountPoint, "1")
			n.kind, n.mode, n.size = typeSymlink, 0o777, 0
			return
		}
		if a.Reparse() == smb2.ReparseDFSLink {
			n.irregular = &problem{
				Path: n.path, Kind: kindMissing, Reason: "it leads to another share by DFS; back that share up by its own name",
			}
			n.size = 0
			return
		}
	}
	switch info.Mode().Type() {
	case 0:
		n.kind = typeFile
	case fs.ModeDir:
		n.kind, n.mode = typeDir, 0o700
	case fs.ModeSymlink:
		n.kind, n.mode, n.size = typeSymlink, 0o777, 0
	default:
		n.size = 0
		n.irregular = &problem{Path: n.path, Kind: kindMissing,
			Reason: "it is a reparse point of a kind that the archive has no place for"}
	}
}

func (t *shareTree) open(ctx context.Context, n *node) (content, error) {
	if file, stream, ok := strings.Cut(n.path, ":"); ok { // no name of a file has one
		f, err := t.fsys.WithContext(ctx).OpenFile(path.Join(t.base, file), nil)
		if err != nil {
			return nil, err
		}
		s, err := f.OpenStream(stream)
		if err != nil {
			f.Close()
			return nil, err
		}
		return &streamFile{shareFile{File: s}, f}, nil
	}
	o := &smb2.OpenOptions{Access: accessFile | smb2.AccessSystemSecurity}
	if n.kind == typeSymlink {
		o.Options = smb2.OptionReparsePoint
	}
	audit := !t.noAudit.Load()
	if !audit {
		o.Access = accessFile
	}
	f, err := t.fsys.WithContext(ctx).OpenFile(path.Join(t.base, n.path), o)
	if audit && (errors.Is(err, smb2.StatusPrivilegeNotHeld) || errors.Is(err, smb2.StatusAccessDenied)) {
		audit = false
		f, err = t.fsys.WithContext(ctx).OpenFile(path.Join(t.base, n.path),
			&smb2.OpenOptions{Access: accessFile, Options: o.Options})
		if err == nil {
			t.noAudit.Store(true)
		}
	}
	if err != nil {
		return nil, err
	}
	return &shareFile{File: f, link: n.kind == typeSymlink, audit: audit}, nil
}

// A shareFile is a file of a share.
type shareFile struct {
	*sharefs.File
	link  bool
	audit bool // its SACL may be read
}

// describe adds the security descriptor and the target of a link.
func (f *shareFile) describe(m *member) error {
	if f.link {
		data, err := f.ReparsePoint()
		if err != nil {
			return err
		}
		if m.link, err = linkTarget(data); err != nil {
			return err
		}
	}
	parts := uint32(smb2.SecurityOwner | smb2.SecurityGroup | smb2.SecurityDACL)
	if f.audit {
		parts |= smb2.SecuritySACL
	}
	sd, err := f.Descriptor(parts)
	if err != nil {
		return err
	}
	m.add(keyDescriptor, base64.StdEncoding.EncodeToString(sd))
	return nil
}

// A streamFile is an alternate stream. What is known of its file goes with that.
type streamFile struct {
	shareFile
	file *sharefs.File
}

func (f *streamFile) describe(*member) error               { return nil }
func (f *streamFile) streams(*node) ([]*node, error)       { return nil, nil }
func (f *streamFile) extents(size int64) ([]extent, error) { return wholeFile(size), nil }
func (f *streamFile) Close() error                         { return errors.Join(f.File.Close(), f.file.Close()) }

// linkTarget reads the data of a symbolic link or a junction (MS-FSCC 2.1.2.4, 2.1.2.5).
//
//	+-----+--------+----+----------------+-------------+------------+----------+-------+-----------
//	| tag | length | 0  | subst. offset  | subst. len. | pr. offset | pr. len. | flags | names, UTF-16
//	| 4   | 2      | 2  | 2              | 2           | 2          | 2        | 4 (*) |
//	+-----+--------+----+----------------+-------------+------------+----------+-------+-----------
//	(*) of a symbolic link alone
func linkTarget(b []byte) (string, error) {
	bad := errors.New("the link's data is not as MS-FSCC says")
	if len(b) < 16 {
		return "", bad
	}
	le := binary.LittleEndian
	names := b[16:]
	if le.Uint32(b) == smb2.ReparseSymlink {
		if len(names) < 4 {
			return "", bad
		}
		names = names[4:]
	}
	name := func(at []byte) (string, bool) {
		offset, length := int(le.Uint16(at)), int(le.Uint16(at[2:]))
		if offset+length > len(names) || length%2 != 0 {
			return "", false
		}
		units := make([]uint16, length/2)
		for i := range units {
			units[i] = le.Uint16(names[offset+2*i:])
		}
		return string(utf16.Decode(units)), true
	}
	target, ok := name(b[12:]) // the one for people
	if target == "" {
		target, ok = name(b[8:])
		target = strings.TrimPrefix(target, `\??\`)
	}
	if !ok || target == "" {
		return "", bad
	}
	return strings.ReplaceAll(target, `\`, "/"), nil
}

func (f *shareFile) extents(int64) ([]extent, error) {
	ranges, err := f.Ranges()
	if err != nil {
		return nil, err
	}
	all := make([]extent, 0, len(ranges))
	for _, r := range ranges {
		all = append(all, extent{r.Offset, r.Length})
	}
	return all, nil
}

func (f *shareFile) streams(n *node) ([]*node, error) {
	if f.link {
		return nil, nil
	}
	list, err := f.Streams()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b smb2.Stream) int { return strings.Compare(a.Name, b.Name) })
	var nodes []*node
	for _, s := range list {
		if s.Type != "" && s.Type != "$DATA" {
			continue
		}
		out := &node{path: n.path + ":" + s.Name, member: member{kind: typeFile, mode: 0o600, size: s.Size,
			modified: n.modified}}
		nodes = append(nodes, out)
	}
	return nodes, nil
}
