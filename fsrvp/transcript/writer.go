package transcript

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// The contents of the first line of a transcript.
const (
	formatName    = "fsrvp-transcript"
	formatVersion = 1
)

type header struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
}

// A line is one call of a transcript.
type line struct {
	Time          Timestamp       `json:"time"`
	ResponseTime  *Timestamp      `json:"response_time"`
	Client        string          `json:"client"`
	Server        string          `json:"server"`
	User          string          `json:"user"`
	Mechanism     string          `json:"mechanism"`
	AuthLevel     uint8           `json:"auth_level"`
	Opnum         *uint16         `json:"opnum"`
	Method        string          `json:"method"`
	Request       json.RawMessage `json:"request"`
	Response      json.RawMessage `json:"response"`
	Status        *statusValue    `json:"status"`
	StatusName    string          `json:"status_name,omitempty"`
	Fault         *faultLine      `json:"fault,omitempty"`
	ResponseError string          `json:"response_error,omitempty"`
}

type faultLine struct {
	Status        uint32 `json:"status"`
	Name          string `json:"name"`
	DidNotExecute bool   `json:"did_not_execute"`
}

func (f *faultLine) fault() *dcerpc.Fault {
	return &dcerpc.Fault{Status: pdu.FaultStatus(f.Status), DidNotExecute: f.DidNotExecute}
}

// A Timestamp is a time in JSON, always with nine digits of a second.
type Timestamp struct{ time.Time }

// TimestampForm is the form of a Timestamp, for time.Format.
const TimestampForm = "2006-01-02T15:04:05.000000000Z07:00"

// MarshalJSON fails if the year does not have four digits.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	u := t.UTC()
	if y := u.Year(); y < 0 || y > 9999 {
		return nil, fmt.Errorf("year %d is out of the range of RFC 3339", y)
	}
	return append(u.AppendFormat([]byte{'"'}, TimestampForm), '"'), nil
}

// A Writer writes a transcript. It is not safe for concurrent use.
type Writer struct {
	w     io.Writer
	begun bool
	err   error
}

// NewWriter returns a Writer that writes to w, and does not close it.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write writes one Exchange as one line, with one Write of the underlying writer; the first call
// also writes the header. If the Exchange cannot be written, Write writes nothing of it. After an
// error of the underlying writer, which may have written a part of a line, Write only returns that
// error.
func (w *Writer) Write(e *Exchange) error {
	if w.err != nil {
		return w.err
	}
	var b bytes.Buffer
	if !w.begun {
		appendHeader(&b)
	}
	if err := appendExchange(&b, e); err != nil {
		return fmt.Errorf("transcript: exchange cannot be written: %w", err)
	}
	w.write(b.Bytes())
	return w.err
}

// begin writes the header if nothing was written before.
func (w *Writer) begin() error {
	if w.err != nil || w.begun {
		return w.err
	}
	var b bytes.Buffer
	appendHeader(&b)
	w.write(b.Bytes())
	return w.err
}

func (w *Writer) write(b []byte) {
	w.begun = true
	n, err := w.w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		w.err = fmt.Errorf("transcript: writing the transcript: %w", err)
	}
}

func appendHeader(b *bytes.Buffer) {
	fmt.Fprintf(b, `{"format":%q,"version":%d}`+"\n", formatName, formatVersion)
}

func appendExchange(b *bytes.Buffer, e *Exchange) error {
	if err := e.Check(); err != nil {
		return err
	}
	op := uint16(e.Opnum())
	l := line{
		Time: Timestamp{e.Time}, Client: e.Client, Server: e.Server, User: e.User, Mechanism: e.Mechanism,
		AuthLevel: uint8(e.Level), Opnum: &op, Method: e.Opnum().String(), ResponseError: e.Error,
	}
	if !e.ResponseTime.IsZero() {
		l.ResponseTime = &Timestamp{e.ResponseTime}
	}
	var err error
	if l.Request, err = message(e.Request); err != nil {
		return err
	}
	if r := e.Response; r != nil {
		if l.Response, err = message(r); err != nil {
			return err
		}
		status := r.Status()
		l.Status, l.StatusName = (*statusValue)(&status), status.Name()
	}
	if f := e.Fault; f != nil {
		l.Fault = &faultLine{uint32(f.Status), f.Status.String(), f.DidNotExecute}
	}
	return encode(b, l)
}

func message(m fsrvp.Message) (json.RawMessage, error) {
	var b bytes.Buffer
	err := encode(&b, m)
	return b.Bytes(), err
}

// encode writes a value and a newline, with <, > and & as they are.
func encode(b *bytes.Buffer, v any) error {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
