package smb2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

const (
	// outputSize is how much listings and queries return at once: what one credit is good for.
	outputSize = creditSize
	// maxRanges bounds the allocated ranges of a file.
	maxRanges = 4 << 20
)

// OpenOptions say how a file is opened. The zero value suits a backup.
type OpenOptions struct {
	// Access is the desired access. Zero means to read data, extended attributes, attributes, and
	// the descriptor without its SACL.
	Access uint32
	// NoBackupIntent leaves out FILE_OPEN_FOR_BACKUP_INTENT, which lets accounts with the privilege
	// to back up files read files whose ACL forbids it.
	NoBackupIntent bool
	// Options are the options of CREATE, such as [OptionDirectory] and [OptionReparsePoint].
	Options uint32
}

const accessBackup = AccessReadData | AccessReadEA | AccessReadAttributes | AccessReadControl | AccessSynchronize

func (o *OpenOptions) request(name string) CreateRequest {
	r := CreateRequest{Access: o.Access, Share: shareAll, Disposition: dispositionOpen, Options: o.Options, Name: name}
	if r.Access == 0 {
		r.Access = accessBackup
	}
	if !o.NoBackupIntent {
		r.Options |= OptionBackupIntent
	}
	return r
}

// A File is an open file, directory or pipe. It is safe for concurrent use.
type File struct {
	t    *Tree
	name string
	id   FileID
	info FileInfo
	pipe bool

	mu     sync.Mutex
	closed bool
}

// Open opens a file or directory that exists, by its path within the share, with backslashes; the
// empty name is the share's root. The share mode lets others read, write and delete. Errors are
// [*Error]s.
func (t *Tree) Open(ctx context.Context, name string, o *OpenOptions) (*File, error) {
	if o == nil {
		o = new(OpenOptions)
	}
	req := o.request(name)
	return t.create(ctx, OpOpen, &req)
}

// OpenPipe opens a named pipe, "FssagentRpc", of IPC$.
func (t *Tree) OpenPipe(ctx context.Context, name string) (*File, error) {
	req := CreateRequest{Access: accessPipe, Share: shareAll, Disposition: dispositionOpen, Name: name}
	f, err := t.create(ctx, OpOpenPipe, &req)
	if err != nil {
		return nil, err
	}
	f.pipe = true
	t.s.use()
	return f, nil
}

func (t *Tree) create(ctx context.Context, op string, req *CreateRequest) (*File, error) {
	a, err := t.call(ctx, CommandCreate, callOptions{orphan: t.closeOrphan}, req.AppendBinary)
	if err != nil {
		return nil, t.failure(op, req.Name, err)
	}
	defer a.release()
	if err := expect(&a); err != nil {
		return nil, t.failure(op, req.Name, err)
	}
	return t.opened(op, req.Name, a.msg)
}

func (t *Tree) opened(op, name string, msg []byte) (*File, error) {
	r, err := ParseCreateResponse(msg)
	if err != nil {
		return nil, t.failure(op, name, t.s.malformed(err))
	}
	return &File{t: t, name: name, id: r.ID, info: r.Info}, nil
}

// closeOrphan closes what was opened for a caller that does not wait any more.
func (t *Tree) closeOrphan(msg []byte) {
	if r, err := ParseCreateResponse(msg); err == nil {
		f := &File{t: t, id: r.ID}
		_ = f.closeNow(context.Background())
	}
}

// Tree returns the tree of the file.
func (f *File) Tree() *Tree { return f.t }

// Name returns the name that the file was opened by.
func (f *File) Name() string { return f.name }

// Info returns the server's information about the file when it was opened.
func (f *File) Info() FileInfo { return f.info }

func (f *File) isClosed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// use fails where the file is closed.
func (f *File) use(op string) error {
	if f.isClosed() {
		return f.failure(op, net.ErrClosed)
	}
	return nil
}

func (f *File) failure(op string, err error) error {
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return f.t.failure(op, f.name, err)
}

// close marks the file, and reports whether it was open.
func (f *File) close() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.closed
	f.closed = true
	return !was
}

// Close asks the server to close the file and waits for the answer as long as the context allows.
// The file is closed in any case: if no answer comes, together with its session.
func (f *File) Close(ctx context.Context) error {
	if !f.close() {
		return f.failure(OpClose, net.ErrClosed)
	}
	if f.pipe {
		defer f.t.s.unuse()
	}
	if err := f.closeNow(ctx); err != nil {
		return f.failure(OpClose, err)
	}
	return nil
}

func (f *File) closeNow(ctx context.Context) error {
	req := CloseRequest{ID: f.id}
	// Samba does not close a pipe under a call before that is over.
	a, err := f.t.call(ctx, CommandClose, callOptions{patient: f.pipe}, req.AppendBinary)
	if err != nil {
		return err
	}
	defer a.release()
	return expect(&a)
}

// CloseLater asks the server to close the file and does not wait for the answer.
func (f *File) CloseLater() error {
	if !f.close() {
		return f.failure(OpClose, net.ErrClosed)
	}
	if f.pipe {
		defer f.t.s.unuse()
	}
	if f.t.isClosed() {
		return nil // it was closed with the tree
	}
	var fr frame
	fr.begin(f.t.s.c, 128)
	fr.add(CommandClose, 1)
	req := CloseRequest{ID: f.id}
	fr.b, _ = req.AppendBinary(fr.b) // has no errors
	res, _, err := f.t.s.c.tryReserve(1, 1)
	if err != nil || res.n == 0 {
		fr.drop()
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		return f.closeNow(ctx)
	}
	fr.rs[0].abandoned = true
	if err := f.t.s.transmit(&fr, f.t.id, res, f.t.protect); err != nil {
		return f.failure(OpClose, err)
	}
	return nil
}

// Transceive writes a message to a pipe and reads one, or the first part of one, in a single round
// trip. It returns how much was read into out. If the message is longer, the error is
// [StatusBufferOverflow] and n is len(out). The server may take any time. Sent, which may be nil,
// is called once the message was written or will not be written.
func (f *File) Transceive(ctx context.Context, message, out []byte, sent func()) (n int, err error) {
	req := IOCTLRequest{Code: FSCTLPipeTransceive, ID: f.id, Input: message,
		MaxOutput: uint32(min(len(out), outputSize))}
	a, err := f.t.call(ctx, CommandIOCTL, callOptions{patient: true, sent: sent}, req.AppendBinary)
	if err != nil {
		return 0, err
	}
	defer a.release()
	if err := expect(&a, StatusBufferOverflow); err != nil {
		return 0, err
	}
	r, err := ParseIOCTLResponse(a.msg)
	if err != nil || r.Missing != 0 || len(r.Output) > len(out) {
		return 0, f.t.s.malformed(fmt.Errorf("an answer of %d bytes, %d are missing (%w)", len(r.Output), r.Missing,
			err))
	}
	n = copy(out, r.Output)
	if a.Status == StatusBufferOverflow {
		return n, StatusBufferOverflow
	}
	return n, nil
}

// ReadPipe reads one message of a pipe, or a part of one. See [File.Transceive].
func (f *File) ReadPipe(ctx context.Context, out []byte) (n int, err error) {
	req := ReadRequest{ID: f.id, Length: uint32(min(len(out), outputSize))}
	a, err := f.t.call(ctx, CommandRead, callOptions{patient: true}, req.AppendBinary)
	if err != nil {
		return 0, err
	}
	defer a.release()
	if err := expect(&a, StatusBufferOverflow); err != nil {
		return 0, err
	}
	r, err := ParseReadResponse(a.msg)
	if err != nil || r.Missing != 0 || len(r.Data) > len(out) {
		return 0, f.t.s.malformed(fmt.Errorf("an answer of %d bytes, %d are missing (%w)", len(r.Data), r.Missing, err))
	}
	return copy(out, r.Data), nil
}

// WritePipe writes one message to a pipe. See [File.Transceive].
func (f *File) WritePipe(ctx context.Context, message []byte, sent func()) error {
	req := WriteRequest{ID: f.id, Data: message}
	a, err := f.t.call(ctx, CommandWrite, callOptions{patient: true, sent: sent}, req.AppendBinary)
	if err != nil {
		return err
	}
	defer a.release()
	if err := expect(&a); err != nil {
		return err
	}
	r, err := ParseWriteResponse(a.msg)
	if err != nil {
		return f.t.s.malformed(err)
	}
	if int(r.Count) != len(message) {
		return io.ErrShortWrite
	}
	return nil
}

// List returns the next part of a directory's listing, in the server's order. With restart it
// begins again. At the end the error is [io.EOF].
func (f *File) List(ctx context.Context, restart bool) ([]DirEntry, error) {
	if err := f.use(OpList); err != nil {
		return nil, err
	}
	req := QueryDirectoryRequest{Class: classIDBothDirectory, ID: f.id, Pattern: "*", MaxOutput: outputSize}
	if restart {
		req.Flags = QueryRestart
	}
	a, err := f.t.call(ctx, CommandQueryDirectory, callOptions{}, req.AppendBinary)
	if err != nil {
		return nil, f.failure(OpList, err)
	}
	defer a.release()
	if a.Status == StatusNoMoreFiles || a.Status == StatusNoSuchFile {
		return nil, io.EOF
	}
	out, err := f.output(&a)
	if err != nil {
		return nil, f.failure(OpList, err)
	}
	list, err := ParseDirEntries(out, nil)
	if err != nil {
		return nil, f.failure(OpList, f.t.s.malformed(err))
	}
	return list, nil
}

// output returns that of a query.
func (f *File) output(a *answer) ([]byte, error) {
	if err := expect(a); err != nil {
		return nil, err
	}
	r, err := ParseQueryResponse(a.msg)
	if err != nil || len(r.Output) > outputSize {
		return nil, f.t.s.malformed(fmt.Errorf("an output of %d bytes (%w)", len(r.Output), err))
	}
	return r.Output, nil
}

// query asks for information; use gets the output, which is valid during the call.
func (f *File) query(ctx context.Context, kind, class uint8, additional uint32, use func(out []byte) error) error {
	if err := f.use(OpQuery); err != nil {
		return err
	}
	req := QueryInfoRequest{Type: kind, Class: class, MaxOutput: outputSize, Additional: additional, ID: f.id}
	a, err := f.t.call(ctx, CommandQueryInfo, callOptions{}, req.AppendBinary)
	if err != nil {
		return f.failure(OpQuery, err)
	}
	defer a.release()
	out, err := f.output(&a)
	if err != nil {
		return f.failure(OpQuery, err)
	}
	if err := use(out); err != nil {
		return f.failure(OpQuery, f.t.s.malformed(err))
	}
	return nil
}

// Stat asks the server for its current information about the file.
func (f *File) Stat(ctx context.Context) (info FileInfo, err error) {
	err = f.query(ctx, infoFile, classNetworkOpen, 0, func(out []byte) (err error) {
		info, err = ParseFileInfo(out)
		return err
	})
	return info, err
}

// ReparseTag returns the tag of a reparse point that was opened with [OptionReparsePoint]; it is
// zero for anything else.
func (f *File) ReparseTag(ctx context.Context) (tag uint32, err error) {
	err = f.query(ctx, infoFile, classAttributeTag, 0, func(out []byte) error {
		if len(out) < 8 {
			return fmt.Errorf("%w: FileAttributeTagInformation of %d bytes", ErrMessage, len(out))
		}
		if le.Uint32(out)&AttributeReparsePoint != 0 {
			tag = le.Uint32(out[4:])
		}
		return nil
	})
	return tag, err
}

// Streams returns the data streams of the file, including its main stream.
func (f *File) Streams(ctx context.Context) (list []Stream, err error) {
	err = f.query(ctx, infoFile, classStream, 0, func(out []byte) (err error) {
		list, err = ParseStreams(out)
		return err
	})
	return list, err
}

// Parts of a security descriptor (MS-DTYP 2.4.7).
const (
	SecurityOwner = 0x1
	SecurityGroup = 0x2
	SecurityDACL  = 0x4
	SecuritySACL  = 0x8 // the file must be opened with AccessSystemSecurity
)

// Descriptor returns parts of the security descriptor in its self-relative form (MS-DTYP 2.4.6).
func (f *File) Descriptor(ctx context.Context, parts uint32) (d []byte, err error) {
	err = f.query(ctx, infoSecurity, 0, parts, func(out []byte) error {
		d = append([]byte(nil), out...)
		return nil
	})
	return d, err
}

// ReparsePoint returns the data of a reparse point that was opened with [OptionReparsePoint]
// (MS-FSCC 2.1.2).
func (f *File) ReparsePoint(ctx context.Context) (data []byte, err error) {
	err = f.control(ctx, FSCTLGetReparsePoint, nil, func(out []byte, _ bool) error {
		data = append([]byte(nil), out...)
		return nil
	})
	return data, err
}

// Control runs a control code of the file (MS-FSCC 2.3) and returns its output, 64 KiB at most.
func (f *File) Control(ctx context.Context, code uint32, input []byte) (out []byte, err error) {
	err = f.control(ctx, code, input, func(b []byte, more bool) error {
		out = append([]byte(nil), b...)
		if more {
			return fmt.Errorf("%w: an output that was cut", ErrMessage)
		}
		return nil
	})
	return out, err
}

// control runs a control code of a file.
func (f *File) control(ctx context.Context, code uint32, input []byte, use func(out []byte, more bool) error) error {
	if err := f.use(OpQuery); err != nil {
		return err
	}
	req := IOCTLRequest{Code: code, ID: f.id, Input: input, MaxOutput: outputSize}
	a, err := f.t.call(ctx, CommandIOCTL, callOptions{}, req.AppendBinary)
	if err != nil {
		return f.failure(OpQuery, err)
	}
	defer a.release()
	if err := expect(&a, StatusBufferOverflow); err != nil {
		return f.failure(OpQuery, err)
	}
	r, err := ParseIOCTLResponse(a.msg)
	if err == nil && (r.Missing != 0 || len(r.Output) > outputSize) {
		err = fmt.Errorf("%w: an output of %d bytes", ErrMessage, len(r.Output)+r.Missing)
	}
	if err == nil {
		err = use(r.Output, a.Status == StatusBufferOverflow)
	}
	if err != nil {
		return f.failure(OpQuery, f.t.s.malformed(err))
	}
	return nil
}

// AllocatedRanges returns the parts of the file between offset and offset+length that hold data, in
// order; the rest reads as zeros. A server that cannot tell returns [StatusInvalidDeviceRequest] or
// [StatusNotSupported].
func (f *File) AllocatedRanges(ctx context.Context, offset, length int64) ([]Range, error) {
	var all []Range
	end := offset + length
	for round := 0; offset < end; round++ {
		input := le.AppendUint64(le.AppendUint64(nil, uint64(offset)), uint64(end-offset))
		more := false
		err := f.control(ctx, FSCTLQueryAllocatedRanges, input, func(out []byte, overflow bool) error {
			list, err := ParseRanges(out, offset)
			if err != nil {
				return err
			}
			before := offset
			for _, r := range list {
				from, to := max(r.Offset, offset), min(r.Offset+r.Length, end)
				if from < to {
					all = append(all, Range{from, to - from})
					offset = to
				}
			}
			if more = overflow; more && (offset == before || round > maxRanges/1024) {
				return fmt.Errorf("%w: allocated ranges without an end", ErrMessage)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(all) > maxRanges {
			return nil, f.failure(OpQuery, fmt.Errorf("the file has more than %d allocated ranges", maxRanges))
		}
		if !more {
			break
		}
	}
	return all, nil
}
