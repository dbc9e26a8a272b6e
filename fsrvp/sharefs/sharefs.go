// Package sharefs reads shares of SMB servers for backup, such as those that expose shadow copies:
// an [FS] is an [fs.FS] whose files have all their metadata.
//
// Files are opened with backup intent, which lets Backup Operators read files that an ACL forbids
// them, and in a sharing mode that does not hinder others. Sys of an [fs.FileInfo] returns
// [*Attributes]; a [*File] has its security descriptor, its alternate streams and its allocated
// ranges.
//
// The connection to a share uses package [github.com/go-fsrvp/go-fsrvp/dcerpc/smb2] ([Open], [New])
// or, on Windows, the system itself ([OpenSystem]).
//
// # Names
//
// Names have slashes, as in package fs. A name on NTFS that is not valid UTF-16 is not valid UTF-8
// either, but can be used to open its file: a lone surrogate is written as three bytes (WTF-8).
//
// # Links
//
// In a listing, a link is never a directory, so a walk stays in its tree: a symbolic link has the
// type [fs.ModeSymlink], and junctions, DFS links and unknown reparse points have
// [fs.ModeIrregular]. [Attributes] has the tag. Files whose data the server keeps elsewhere
// (deduplicated, compressed, in a cloud) are regular files.
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

// A Config configures an [FS]. Nil means the zero Config.
type Config struct {
	// NoBackupIntent opens files without backup intent, as an ordinary program does.
	NoBackupIntent bool
	// Chunk is the size of a read request, in bytes. Zero means 1 MiB.
	Chunk int
	// Window is the number of concurrent read requests. Zero means 8.
	Window int
	// MaxDirEntries bounds the number of entries that ReadDir returns. Zero means 2^20.
	MaxDirEntries int
	// MaxReadFile is the largest file that ReadFile reads, in bytes. Zero means 1 GiB.
	MaxReadFile int64
	// ReconnectTime is the time for connecting again after the connection breaks. Open files that
	// have not changed are opened again. After that time all operations fail at once. Zero means 30
	// s; a negative value means never. It does not apply to shares of [New] and [OpenSystem].
	ReconnectTime time.Duration
}

// An Opener connects to shares. smbpipe.Dialer implements it.
type Opener interface {
	OpenTree(ctx context.Context, unc string) (*smb2.Tree, error)
}

// An FS is a share. It and its files are safe for concurrent use, except for the position of a
// file.
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

// Open connects to a share, `\\server\share`. The context bounds only that. Errors are of type
// [*smb2.Error]; those of files are [*fs.PathError] values that wrap one.
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

// New returns the files of a connected share, and takes it over.
func New(t *smb2.Tree, cfg *Config) *FS {
	return newFS(smbShare{t}, cfg)
}

// OpenSystem connects to a share, `\\server\share`, with Windows' own SMB client, the redirector:
// with the log-on of the process, or of the thread if that impersonates a user. The context bounds
// only that. Errors are like those of [Open]; on other systems the error matches
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

// WithContext returns the same share with a context: its operations, and those of files opened
// through it, end with ctx.
func (f *FS) WithContext(ctx context.Context) *FS {
	g := *f
	g.ctx = ctx
	return &g
}

// Tree returns the current connection to the share, or nil if the system has it.
func (f *FS) Tree() *smb2.Tree {
	if own, ok := f.c.current().(smbShare); ok {
		return own.Tree
	}
	return nil
}

// Close disconnects from the share. Operations on open files return errors that match
// [net.ErrClosed].
func (f *FS) Close() error { return f.c.close() }

// fault makes a *fs.PathError.
func fault(op, name string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// smbName converts a name of package fs to one of SMB; "." becomes the empty name. The name may be
// WTF-8.
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

// Open opens a file or a directory. It returns a [*File].
func (f *FS) Open(name string) (fs.File, error) {
	opened, err := f.OpenFile(name, nil)
	if err != nil {
		return nil, err // not a nil *File
	}
	return opened, nil
}

// OpenFile is [FS.Open] with options: [smb2.OptionReparsePoint] opens a reparse point itself. Nil
// means the options of Open.
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

// open opens the file with the SMB name smb; errors use name.
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

// Stat follows links as far as the server does, like [FS.Open].
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

// ReadDir lists a directory, sorted by name. A name that the server lists twice, for example
// because the file was replaced meanwhile, is returned once.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	var all []fs.DirEntry
	err := f.run(func(share) error { // an interrupted listing begins again
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

// ReadFile reads a whole file, in one round trip if it has at most 64 KiB.
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

// Attributes are a server's information about a file beyond [fs.FileInfo], whose Sys returns an
// *Attributes.
type Attributes struct {
	FileAttributes uint32 // MS-FSCC 2.6
	AllocationSize int64  // in bytes
	Created        time.Time
	Accessed       time.Time
	Changed        time.Time // of attributes or contents, while ModTime is that of the contents
	// ReparseTag is the tag of a reparse point (MS-FSCC 2.1.2.1), in listings and from Lstat;
	// otherwise zero.
	ReparseTag uint32
	// ID is the file system's number of the file, in listings; zero if there is none.
	ID uint64
}

// Reparse returns the kind of the file if it is a reparse point.
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

// newInfo makes an info; followed means that a reparse point was followed to get there.
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

var errTooMany = errors.New("the directory has too many entries to return at once; read it in pieces, with ReadDir(n)")

func tooMany(n int) error { return fmt.Errorf("%w: more than %d", errTooMany, n) }
