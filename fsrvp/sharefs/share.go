package sharefs

import (
	"context"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/redirector"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
)

// A share is a connection to a share, with package smb2 or the system's redirector.
type share interface {
	open(ctx context.Context, name string, o *smb2.OpenOptions) (handle, error)
	ReadFile(ctx context.Context, name string, o *smb2.OpenOptions, limit int64) ([]byte, error)
	// alive reports whether the session with the server is alive.
	alive() bool
	Close() error
}

// A handle is an open file.
type handle interface {
	Name() string
	Info() smb2.FileInfo
	Stat(ctx context.Context) (smb2.FileInfo, error)
	List(ctx context.Context, restart bool) ([]smb2.DirEntry, error)
	ReadAt(ctx context.Context, b []byte, off int64) (int, error)
	AllocatedRanges(ctx context.Context, offset, length int64) ([]smb2.Range, error)
	Descriptor(ctx context.Context, parts uint32) ([]byte, error)
	Streams(ctx context.Context) ([]smb2.Stream, error)
	ReparseTag(ctx context.Context) (uint32, error)
	ReparsePoint(ctx context.Context) ([]byte, error)
	CloseLater() error

	reader(off, length int64, chunk, window int) reader
}

// A reader reads a part of a file, ahead of its caller.
type reader interface {
	Next(ctx context.Context) ([]byte, error)
	Stop()
}

// smbShare and smbFile are based on package smb2.
type (
	smbShare struct{ *smb2.Tree }
	smbFile  struct{ *smb2.File }
)

func (s smbShare) open(ctx context.Context, name string, o *smb2.OpenOptions) (handle, error) {
	f, err := s.Open(ctx, name, o)
	if err != nil {
		return nil, err
	}
	return smbFile{f}, nil
}

func (s smbShare) alive() bool { return s.Session().Alive() }

func (f smbFile) reader(off, length int64, chunk, window int) reader {
	return f.NewReader(off, length, chunk, window)
}

// systemShare and systemFile are based on the system's redirector.
type (
	systemShare struct{ *redirector.Share }
	systemFile  struct{ *redirector.File }
)

func (s systemShare) open(ctx context.Context, name string, o *smb2.OpenOptions) (handle, error) {
	f, err := s.Open(ctx, name, o)
	if err != nil {
		return nil, err
	}
	return systemFile{f}, nil
}

func (s systemShare) alive() bool { return true }

func (f systemFile) reader(off, length int64, chunk, window int) reader {
	return f.NewReader(off, length, chunk, window)
}
