package redirector

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
)

// A Share is a share of a server. It is safe for concurrent use.
type Share struct {
	sys           system
	server, share string
	unc           string

	mu     sync.Mutex
	closed bool
	files  map[*File]struct{} // that are open
}

// OpenShare connects to a share, `\\server\share`. The context bounds only that. Errors are of type
// [*smb2.Error].
func OpenShare(ctx context.Context, unc string) (*Share, error) {
	sys, err := newSystem()
	if err != nil {
		return nil, err
	}
	return openShare(ctx, sys, unc)
}

func openShare(ctx context.Context, sys system, unc string) (*Share, error) {
	server, share, err := smb2.SplitUNC(unc)
	if err != nil {
		return nil, err
	}
	s := &Share{sys: sys, server: server, share: share, unc: `\\` + server + `\` + share,
		files: make(map[*File]struct{})}
	// The root stays open, so that the system keeps the session.
	_, err = s.open(ctx, smb2.OpOpenShare, "", &smb2.OpenOptions{
		Access: smb2.AccessReadAttributes | smb2.AccessSynchronize, Options: smb2.OptionDirectory,
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Path returns `\\server\share`.
func (s *Share) Path() string { return s.unc }

// Close closes the share and all files that are open in it. Calls in progress and later calls
// return errors that match [net.ErrClosed].
func (s *Share) Close() error {
	s.mu.Lock()
	s.closed = true
	files := s.files
	s.files = nil
	s.mu.Unlock()
	for f := range files {
		f.h.close()
	}
	return nil
}

func (s *Share) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// forget removes a closed file.
func (s *Share) forget(f *File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, f)
}

// failure returns an *smb2.Error. One of err and status must not be zero.
func (s *Share) failure(op, name string, err error, status smb2.Status) error {
	path := s.unc
	if name != "" {
		path += `\` + name
	}
	if s.isClosed() {
		err, status = net.ErrClosed, 0
	}
	return &smb2.Error{Op: op, Path: path, Err: err, Status: status}
}

// Open opens an existing file or directory by its name below the share, with backslashes; the empty
// name is the share's root. If o is nil, it opens the file as for backup. Errors are of type
// [*smb2.Error].
func (s *Share) Open(ctx context.Context, name string, o *smb2.OpenOptions) (*File, error) {
	if o == nil {
		o = new(smb2.OpenOptions)
	}
	return s.open(ctx, smb2.OpOpen, name, o)
}

func (s *Share) open(ctx context.Context, op, name string, o *smb2.OpenOptions) (*File, error) {
	if s.isClosed() {
		return nil, s.failure(op, name, net.ErrClosed, 0)
	}
	n, status, err := cancellable(ctx, func() (native, smb2.Status) { return s.sys.open(s.server, s.share, name, o) })
	if err != nil || status != smb2.StatusSuccess {
		return nil, s.failure(op, name, err, status)
	}
	f := newFile(s, n, name)
	if f.info, err = f.Stat(ctx); err != nil {
		f.h.close()
		return nil, err
	}
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.files[f] = struct{}{}
	}
	s.mu.Unlock()
	if closed {
		f.h.close()
		return nil, s.failure(op, name, net.ErrClosed, 0)
	}
	return f, nil
}

// ReadFile reads a whole file. It fails if the file has more than limit bytes; a negative limit
// means no limit.
func (s *Share) ReadFile(ctx context.Context, name string, o *smb2.OpenOptions, limit int64) ([]byte, error) {
	f, err := s.Open(ctx, name, o)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.readAll(ctx, limit)
}

// errTooLong is the error for a file that is longer than the caller allows.
func errTooLong(limit int64) error { return fmt.Errorf("the file has more than %d bytes", limit) }
