package transcript

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"unicode/utf8"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// MaxLine is the longest line that Read accepts, in bytes: more than any call with stubs of 1 MiB
// needs.
const MaxLine = 16 << 20

// Errors that an [*Error] may wrap.
var (
	ErrNotTranscript = errors.New(`the first line is not the header of a transcript, {"format":"fsrvp-transcript","version":1}`)
	ErrVersion       = errors.New("the version of the transcript is unknown")
	ErrLineTooLong   = fmt.Errorf("the line has more than %d bytes", MaxLine)
)

// An Error says what is wrong with a transcript, and where. It wraps [ErrNotTranscript], [ErrVersion],
// [ErrLineTooLong], [io.ErrUnexpectedEOF] for a truncated last line, the error of the reader, or
// another error.
type Error struct {
	Line int // from 1
	Err  error
}

func (e *Error) Error() string {
	return fmt.Sprintf("transcript: line %d: %v", e.Line, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Read reads a transcript call by call, in the order of its lines. The caller owns each Exchange.
// An [*Error] comes last, with a nil Exchange; the calls before it are valid. Read needs memory for
// one line.
//
// The sequence can be used only once. Empty lines, and lines that begin with #, are skipped.
func Read(r io.Reader) iter.Seq2[*Exchange, error] {
	return func(yield func(*Exchange, error) bool) {
		in := bufio.NewReaderSize(r, 64<<10)
		begun := false
		for n := 1; ; n++ {
			b, err := readLine(in)
			end := errors.Is(err, io.EOF)
			if err != nil && !end {
				yield(nil, &Error{n, err})
				return
			}
			if b = bytes.TrimSpace(b); len(b) > 0 && b[0] != '#' {
				e, err := parseLine(b, !begun)
				if err != nil {
					if end && begun && !json.Valid(b) {
						err = fmt.Errorf("it is cut off: %w", io.ErrUnexpectedEOF)
					}
					yield(nil, &Error{n, err})
					return
				}
				begun = true
				if e != nil && !yield(e, nil) {
					return
				}
			}
			if end {
				if !begun {
					yield(nil, &Error{n, ErrNotTranscript})
				}
				return
			}
		}
	}
}

// ReadAll reads a whole transcript. Even with an error it returns the calls before it.
func ReadAll(r io.Reader) ([]*Exchange, error) {
	var all []*Exchange
	for e, err := range Read(r) {
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
	return all, nil
}

// readLine reads to the next newline, or to the end with io.EOF. The bytes are valid until the next
// read.
func readLine(in *bufio.Reader) ([]byte, error) {
	b, err := in.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return b, err
	}
	whole := bytes.Clone(b)
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(whole) > MaxLine {
			return nil, ErrLineTooLong
		}
		b, err = in.ReadSlice('\n')
		whole = append(whole, b...)
	}
	if len(whole) > MaxLine {
		return nil, ErrLineTooLong
	}
	return whole, err
}

// parseLine reads one line: a call, or nil for a header. The first line must be a header.
func parseLine(b []byte, first bool) (*Exchange, error) {
	var l struct {
		header
		line
	}
	err := json.Unmarshal(b, &l)
	if err == nil && !utf8.Valid(b) { // which json accepts
		err = errors.New("it is not UTF-8")
	}
	if err != nil {
		if first {
			return nil, ErrNotTranscript
		}
		return nil, err
	}
	switch {
	case l.Format == formatName && l.Version != formatVersion:
		return nil, fmt.Errorf("%w: %d", ErrVersion, l.Version)
	case l.Format == formatName:
		return nil, nil
	case first || l.Format != "":
		return nil, ErrNotTranscript
	}
	return l.exchange()
}

func (l *line) exchange() (*Exchange, error) {
	if l.Opnum == nil && l.Method != "" {
		for op := fsrvp.Opnum(0); op.Valid(); op++ {
			if op.String() == l.Method {
				l.Opnum = (*uint16)(&op)
				break
			}
		}
	}
	switch {
	case l.Time.IsZero():
		return nil, errors.New("the time is missing")
	case l.Opnum == nil:
		return nil, errors.New("the opnum is missing")
	case !fsrvp.Opnum(*l.Opnum).Valid():
		return nil, fmt.Errorf("the interface has no opnum %d", *l.Opnum)
	case l.Method != "" && l.Method != fsrvp.Opnum(*l.Opnum).String():
		return nil, fmt.Errorf("opnum %d is %v, not %q", *l.Opnum, fsrvp.Opnum(*l.Opnum), l.Method)
	}
	req, resp := fsrvp.NewRequest(fsrvp.Opnum(*l.Opnum)), fsrvp.NewResponse(fsrvp.Opnum(*l.Opnum))
	e := &Exchange{
		Time:       l.Time.UTC(),
		Connection: Connection{l.Client, l.Server, l.User, l.Mechanism, dcerpc.AuthLevel(l.AuthLevel)},
		Request:    req,
		Error:      l.ResponseError,
	}
	if l.ResponseTime != nil {
		e.ResponseTime = l.ResponseTime.UTC()
	}
	if isNull(l.Request) {
		return nil, errors.New("the request is missing")
	}
	if err := json.Unmarshal(l.Request, e.Request); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if !isNull(l.Response) {
		e.Response = resp
		if err := json.Unmarshal(l.Response, e.Response); err != nil {
			return nil, fmt.Errorf("response: %w", err)
		}
	}
	if l.Fault != nil {
		e.Fault = l.Fault.fault()
	}
	switch {
	case l.Status != nil && e.Response == nil && l.Fault == nil:
		// A response of only a status: a failure written by hand.
		if e.Response = resp; *l.Status == 0 && !onlyStatus(resp) {
			return nil, errors.New("the status is zero, but there is no response with the results")
		}
		if err := json.Unmarshal(fmt.Appendf(nil, `{"Return":%d}`, *l.Status), resp); err != nil {
			return nil, fmt.Errorf("status: %w", err)
		}
	case l.Status != nil && e.Response == nil:
		return nil, errors.New("there are a status and a fault; leave one of them out")
	case l.Status != nil && fsrvp.Status(*l.Status) != e.Response.Status():
		return nil, fmt.Errorf("the status is %v, and the Return of the response %v; change both, or leave the status out",
			statusText(fsrvp.Status(*l.Status)), statusText(e.Response.Status()))
	}
	if err := e.Check(); err != nil {
		return nil, fmt.Errorf("the call %w", err)
	}
	return e, nil
}

func isNull(b json.RawMessage) bool { return len(b) == 0 || string(b) == "null" }
