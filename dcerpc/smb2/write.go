package smb2

import (
	"context"
	"fmt"
	"io"
)

// attributeNormal is what a new file is: nothing in particular (MS-FSCC 2.6).
const attributeNormal = 0x80

// WriteFile writes a file with this content, of at most 64 KiB; it makes the file or replaces the
// content of an existing one. It is for tests that need a file to change: an existing file is empty
// for a moment, and may stay so after an error. Errors are [*Error]s.
func (t *Tree) WriteFile(ctx context.Context, name string, data []byte) error {
	if len(data) > creditSize {
		return t.failure(OpWrite, name, fmt.Errorf("%d bytes are more than %d", len(data), creditSize))
	}
	req := CreateRequest{
		Access: AccessWriteData | AccessReadAttributes | AccessSynchronize, Attributes: attributeNormal, Share: shareAll,
		Disposition: dispositionOverwriteIf, Options: OptionNonDirectory, Name: name,
	}
	f, err := t.create(ctx, OpWrite, &req)
	if err != nil {
		return err
	}
	if err := f.write(ctx, data); err != nil {
		_ = f.CloseLater() // the first error says more
		return f.failure(OpWrite, err)
	}
	return f.Close(ctx)
}

// write writes at the file's beginning, in one request.
func (f *File) write(ctx context.Context, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	req := WriteRequest{ID: f.id, Data: data}
	a, err := f.t.call(ctx, CommandWrite, callOptions{}, req.AppendBinary)
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
	if int(r.Count) != len(data) {
		return io.ErrShortWrite
	}
	return nil
}
