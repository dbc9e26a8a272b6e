// Package sharefs reads a share of an SMB server, such as one that exposes a shadow copy, as a
// backup reads it: an [FS] is an [fs.FS] whose files have all their metadata too.
//
// Files are opened with backup intent, by which Backup Operators read what an ACL forbids them, and
// leave others all they want to do. Sys of an [fs.FileInfo] returns [*Attributes]; a [*File] has
// its security descriptor, its alternate streams and its allocated ranges.
//
// The share is connected to by package [github.com/go-fsrvp/go-fsrvp/dcerpc/smb2] ([Open], [New])
// or, on Windows, by the system itself ([OpenSystem]).
//
// # Names
//
// Names have slashes, as in package fs. A name on NTFS that is not valid UTF-16 is not valid UTF-8
// here either, and leads to its file again: half of a surrogate pair is what its three bytes would
// be (WTF-8).
//
// # Links
//
// What is a link in a listing is never a directory: a symbolic link has the type [fs.ModeSymlink];
// a junction, a link of DFS and what is unknown have [fs.ModeIrregular]; so a walk stays in its
// tree. [Attributes] has the tag. Files whose data the server keeps elsewhere (deduplicated,
// compressed, in a cloud) are files.
package sharefs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/redirector"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
)

// A Config says how a share is read. Nil means the zero Config.
type Config struct {
	// NoBackupIntent opens files without backup intent, as an ordinary program does.
	NoBackupIntent bool
	// Chunk is how many bytes a file's reader asks for at once. Zero means 1 MiB.
	Chunk int
	// Window is how many such pieces are underway at once. Zero means 8.
	Window int
	// MaxDirEntries bounds what ReadDir keeps of one directory. Zero means 2^20.
	MaxDirEntries int
	// MaxReadFile bounds what ReadFile keeps of one file, in bytes. Zero means 1 GiB.
	MaxReadFile int64
	// ReconnectTime is how long a share whose connection breaks is tried to be connected to again,
	// with files that are open opened again where they are the same still; then all operations fail
	// at once. Zero means 30 s; a negative value means never. Neither a share that was given to
	// [New] nor one of [OpenSystem] is connected to again.
	ReconnectTime time.Duration
}

// An Opener connects to shares: smbpipe.Dialer does.
type Opener interface {
	OpenTree(ctx context.Context, unc string) (*smb2.Tree, error)
}

// An FS is a share. It may be used by several goroutines at once, and so may its files, but for a
// file's own position.
type FS struct {
	c   *connection
	cfg *Config
	ctx context.Context
}

var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.ReadFileFS = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
)

// Open connects to a share, `\\server\share`. The context bounds that alone. Errors are *smb2.Errors; those of files are
// *fs.PathErrors around one.
func Open(ctx context.Context, o Opener, unc string, cfg *Config) (*FS, error) {
	t, err := o.OpenTree(ctx, unc)
	if err != nil {
		return nil, err
	}
	f := New(t, cfg)
	f.c.open = func(ctx context.Context) (share, error) {
		t, err := o.OpenTree(ctx, unc)
		return smbShare{t}, err
	}
	return f, nil
}

// New returns the files of a share that is connected, and owns it.
func New(t *smb2.Tree, cfg *Config) *FS {
	return newFS(smbShare{t}, cfg)
}

// OpenSystem connects to a share, `\\server\share`, by the SMB client of Windows itself, its
// redirector: with the log-on of the process, or of the thread where it impersonates somebody. The
// context bounds that alone. Errors are as those of [Open]; on other systems one matches
// [errors.ErrUnsupported].
func OpenSystem(ctx context.Context, unc string, cfg *Config) (*FS, error) {
	s, err := redirector.OpenShare(ctx, unc)
	if err != nil {
		return nil, err
	}
	return newFS(systemShare{s}, cfg), nil
}

func newFS(t share, cfg *Config) *FS {
	if cfg == nil {
		cfg = new(Config)
	}
	return &FS{c: &connection{share: t, wait: cfg.reconnectTime()}, cfg: cfg, ctx: context.Background()}
}

// WithContext returns the same share, whose operations, and those of files that it opens, end with
// ctx.
func (f *FS) WithContext(ctx context.Context) *FS {
	g := *f
	g.ctx = ctx
	return &g
}

// Tree returns the connection to the share, as it is now, or nil where the system has it.
func (f *FS) Tree() *smb2.Tree {
	if own, ok := f.c.current().(smbShare); ok {
		return own.Tree
	}
	return nil
}

// Close disconnects from the share. What is open ends with errors that match net.ErrClosed.
func (f *FS) Close() error { return f.c.close() }

// fault makes a *fs.PathError.
func fault(op, name string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// smbName turns a name of package fs into one of SMB, which "." has none. The name may be WTF-8.
func smbName(op, name string) (string, error) {
	if name == "." {
		return "", nil
	}
	ok := name != "" && !strings.ContainsAny(name, "\\:*?\"<>|\x00")
	for elem := range strings.SplitSeq(name, "/") {
		ok = ok && elem != "" && elem != "." && elem != ".."
	}
	if _, err := smb2.AppendName(nil, name); err != nil || !ok {
		return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return strings.ReplaceAll(name, "/", `\`), nil
}

func (f *FS) options(options uint32) *smb2.OpenOptions {
	return &smb2.OpenOptions{NoBackupIntent: f.cfg.NoBackupIntent, Options: options}
}

// Open opens a file or a directory: a [*File].
func (f *FS) Open(name string) (fs.File, error) {
	opened, err := f.OpenFile(name, nil)
	if err != nil {
		return nil, err // not a nil *File
	}
	return opened, nil
}

// OpenFile is Open with options: smb2.OptionReparsePoint opens a reparse point itself. Nil means
// how Open does it.
func (f *FS) OpenFile(name string, o *smb2.OpenOptions) (*File, error) {
	s, err := smbName("open", name)
	if err != nil {
		return nil, err
	}
	if o == nil {
		o = f.options(0)
	}
	return f.open(s, name, o)
}

// open opens what the server calls smb, and errors call name.
func (f *FS) open(smb, name string, o *smb2.OpenOptions) (*File, error) {
	file := &File{fsys: f, name: name, options: o}
	err := f.run(func(s share) (err error) {
		file.f, err = s.open(f.ctx, smb, o)
		file.of = s
		return err
	})
	if err != nil {
		return nil, fault("open", name, err)
	}
	return file, nil
}

// Stat follows links where the server does, as Open does.
func (f *FS) Stat(name string) (fs.FileInfo, error) { return f.stat(name, 0) }

// Lstat describes a link itself.
func (f *FS) Lstat(name string) (fs.FileInfo, error) { return f.stat(name, smb2.OptionReparsePoint) }

func (f *FS) stat(name string, options uint32) (fs.FileInfo, error) {
	s, err := smbName("stat", name)
	if err != nil {
		return nil, err
	}
	o := f.options(options)
	o.Access = smb2.AccessReadAttributes | smb2.AccessSynchronize
	var out fs.FileInfo
	err = f.run(func(of share) error {
		opened, err := of.open(f.ctx, s, o)
		if err != nil {
			return err
		}
		defer opened.CloseLater()
		tag := uint32(0)
		info := opened.Info()
		if options != 0 && info.Attributes&smb2.AttributeReparsePoint != 0 {
			if tag, err = opened.ReparseTag(f.ctx); err != nil {
				return err
			}
		}
		out = newInfo(name, info, tag, 0, options == 0)
		return nil
	})
	if err != nil {
		return nil, fault("stat", name, err)
	}
	return out, nil
}

// ReadDir lists a directory, sorted by name. A name that the server gives twice, as it may for a
// file that is replaced meanwhile, comes once.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	var all []fs.DirEntry
	err := f.run(func(share) error { // a listing that breaks begins again
		dir, err := f.OpenFile(name, nil)
		if err != nil {
			return err
		}
		defer dir.Close()
		all, err = dir.ReadDir(-1)
		return err
	})
	slices.SortStableFunc(all, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return slices.CompactFunc(all, func(a, b fs.DirEntry) bool { return a.Name() == b.Name() }), err
}

// ReadFile reads a whole file: in one round trip, if it has not more than 64 KiB.
func (f *FS) ReadFile(name string) ([]byte, error) {
	s, err := smbName("open", name)
	if err != nil {
		return nil, err
	}
	limit := f.cfg.MaxReadFile
	if limit == 0 {
		limit = 1 << 30
	}
	var b []byte
	err = f.run(func(of share) (err error) {
		b, err = of.ReadFile(f.ctx, s, f.options(smb2.OptionNonDirectory), limit)
		return err
	})
	if errors.Is(err, smb2.StatusFileIsADirectory) {
		return nil, fault("read", name, err)
	}
	return b, fault("open", name, err)
}

// Attributes are what a server says of a file beyond fs.FileInfo, whose Sys returns an *Attributes.
type Attributes struct {
	FileAttributes uint32 // MS-FSCC 2.6
	AllocationSize int64  // in bytes
	Created        time.Time
	Accessed       time.Time
	Changed        time.Time // attributes or contents, where ModTime is that of the contents
	// ReparseTag is that of a reparse point (MS-FSCC 2.1.2.1), in listings and from Lstat;
	// otherwise zero.
	ReparseTag uint32
	// ID is the file system's number of the file, in listings; zero where there is none.
	ID uint64
}

// Reparse returns what is behind the file, if it is a reparse point.
func (a *Attributes) Reparse() smb2.ReparseKind { return smb2.KindOfReparse(a.ReparseTag) }

// Sparse reports whether the file has holes, which [File.Ranges] leaves out.
func (a *Attributes) Sparse() bool { return a.FileAttributes&smb2.AttributeSparse != 0 }

// An info is an fs.FileInfo.
type info struct {
	name     string
	size     int64
	mode     fs.FileMode
	modified time.Time
	sys      Attributes
}

// newInfo makes one; followed means that a reparse point was followed to get there.
func newInfo(name string, i smb2.FileInfo, tag uint32, id uint64, followed bool) *info {
	const maxSize = 1<<63 - 1
	out := &info{
		name: path.Base(name), size: int64(i.EndOfFile & maxSize), mode: 0o666, modified: smb2.FileTime(i.Written),
		sys: Attributes{
			FileAttributes: i.Attributes, AllocationSize: int64(i.AllocationSize & maxSize),
			Created: smb2.FileTime(i.Created), Accessed: smb2.FileTime(i.Accessed), Changed: smb2.FileTime(i.Changed),
			ReparseTag: tag, ID: id,
		},
	}
	if i.Attributes&smb2.AttributeReadOnly != 0 {
		out.mode = 0o444
	}
	directory := i.Attributes&smb2.AttributeDirectory != 0
	kind := smb2.NoReparse
	if i.Attributes&smb2.AttributeReparsePoint != 0 && !followed {
		kind = smb2.ReparseOther
		if tag != 0 {
			kind = smb2.KindOfReparse(tag)
		}
	}
	switch {
	case kind == smb2.ReparseLink && tag != smb2.ReparseMountPoint:
		out.mode |= fs.ModeSymlink
	case kind == smb2.ReparseLink, kind == smb2.ReparseDFSLink, kind == smb2.ReparseOther:
		out.mode |= fs.ModeIrregular
	case directory:
		out.mode |= fs.ModeDir | 0o111
		out.size = 0
	}
	return out
}

func (i *info) Name() string               { return i.name }
func (i *info) Size() int64                { return i.size }
func (i *info) Mode() fs.FileMode          { return i.mode }
func (i *info) ModTime() time.Time         { return i.modified }
func (i *info) IsDir() bool                { return i.mode.IsDir() }
func (i *info) Sys() any                   { return &i.sys }
func (i *info) Info() (fs.FileInfo, error) { return i, nil }
func (i *info) Type() fs.FileMode          { return i.mode.Type() }
func (i *info) String() string             { return fs.FormatDirEntry(i) }

var errTooMany = errors.New("the directory has too many entries to keep at once; read it in pieces, by ReadDir of a number")

func tooMany(n int) error { return fmt.Errorf("%w: more than %d", errTooMany, n) }
