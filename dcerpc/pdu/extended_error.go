package pdu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf16"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// Limits of extended error information.
const (
	MaxExtendedErrors = 32
	MaxExtendedParams = 4 // MS-EERR 2.2.1.8
)

// ErrorComponent is the part of a system that made a record.
type ErrorComponent uint32

// The components that Windows has.
const (
	ComponentApplication ErrorComponent = 1
	ComponentRuntime     ErrorComponent = 2
	ComponentSecurity    ErrorComponent = 3 // the security package; the status is a SECURITY_STATUS
)

// An ExtendedError is a record of the extended error information that a server may append to a
// bind_nak or a fault (ExtendedErrorInfo, MS-EERR 2.2.1.8). It is neither signed nor sealed: use it
// only as text for people.
//
// The records are a chain, the outermost error first. They are encoded by type serialization
// version 1 (MS-RPCE 2.2.6) as a pointer to the first one, in NDR 2.0:
//
//	 0 version 1, byte order, header length 8, filler
//	 8 length of what follows byte 16, filler
//	16 pointer to the record
//	20 number of parameters | the record | what its pointers point to, the next record first
type ExtendedError struct {
	Computer  string // where the error was found; empty means the sender
	ProcessID uint32
	Time      time.Time // UTC, in steps of 100 ns; the zero Time is the wire's zero
	Component ErrorComponent
	Status    uint32
	Location  uint16 // a number that the component gives to a place in its code
	Flags     uint16 // 1: records before this one are missing; 2: records after it
	// Params say more: string, ANSIString, int32, int16, int64, []byte or nil each,
	// [MaxExtendedParams] at most.
	Params []any
}

// ANSIString is a parameter that is a string of bytes in the sender's code page.
type ANSIString string

// The types of parameters (MS-EERR 2.2.1.4).
const (
	paramANSI    = 1
	paramUnicode = 2
	paramLong    = 3
	paramShort   = 4
	paramPointer = 5
	paramNone    = 6
	paramBinary  = 7
)

// ErrExtended is the error of [ParseExtendedErrors].
var ErrExtended = errors.New("pdu: malformed extended error information")

const serializationHeader = 16

// AppendExtendedErrors appends the encoding of the records, the first of which is the outermost
// error. It fails if there are no records, more than [MaxExtendedErrors] records, or more than
// [MaxExtendedParams] parameters in one, and for parameters of other types and strings of more than
// 32,766 units.
func AppendExtendedErrors(dst []byte, records []ExtendedError) ([]byte, error) {
	if len(records) == 0 || len(records) > MaxExtendedErrors {
		return dst, fmt.Errorf("pdu: %d records, 1 to %d can be sent", len(records), MaxExtendedErrors)
	}
	start := len(dst)
	dst = append(dst, 1, 0x10, 8, 0, 0xCC, 0xCC, 0xCC, 0xCC, 0, 0, 0, 0, 0, 0, 0, 0)
	e := ndr.NewEncoder(dst, ndr.NDR20)
	e.Pointer(true)
	if err := appendExtended(&e, records); err != nil {
		return dst[:start], err
	}
	e.Align(8)
	out, err := e.Bytes()
	if err != nil {
		return dst[:start], err
	}
	binary.LittleEndian.PutUint32(out[start+8:], uint32(len(out)-start-serializationHeader))
	return out, nil
}

func appendExtended(e *ndr.Encoder, records []ExtendedError) error {
	r := &records[0]
	if len(r.Params) > MaxExtendedParams {
		return fmt.Errorf("pdu: %d parameters, %d can be sent", len(r.Params), MaxExtendedParams)
	}
	var later []func() // what pointers point to
	units := func(s string, nul bool) error {
		u := utf16.Encode([]rune(s))
		if nul {
			u = append(u, 0)
		}
		if len(u) > 1<<15-1 {
			return fmt.Errorf("pdu: a string of %d units", len(u))
		}
		e.Uint16(uint16(len(u)))
		e.Pointer(true)
		later = append(later, func() {
			e.Uint3264(uint64(len(u)))
			for _, c := range u {
				e.Uint16(c)
			}
		})
		return nil
	}
	raw := func(b []byte) error {
		if len(b) > 1<<15-1 {
			return fmt.Errorf("pdu: a parameter of %d bytes", len(b))
		}
		e.Uint16(uint16(len(b)))
		e.Pointer(true)
		later = append(later, func() {
			e.Uint3264(uint64(len(b)))
			e.Raw(b)
		})
		return nil
	}

	e.Uint3264(uint64(len(r.Params)))
	e.Align(8)
	e.Pointer(len(records) > 1)
	if r.Computer == "" {
		e.Uint16(2)
		e.Uint16(2)
	} else {
		e.Uint16(1)
		e.Uint16(1)
		e.Align(4)
		if err := units(r.Computer, true); err != nil {
			return err
		}
	}
	e.Uint32(r.ProcessID)
	e.Uint64(filetime(r.Time))
	e.Uint32(uint32(r.Component))
	e.Uint32(r.Status)
	e.Uint16(r.Location)
	e.Uint16(r.Flags)
	e.Uint16(uint16(len(r.Params)))
	for _, p := range r.Params {
		e.Align(8)
		tag := func(kind uint16) {
			e.Uint16(kind)
			e.Uint16(kind)
		}
		var err error
		switch v := p.(type) {
		case ANSIString:
			tag(paramANSI)
			err = raw(append([]byte(v), 0))
		case string:
			tag(paramUnicode)
			err = units(v, true)
		case int32:
			tag(paramLong)
			e.Uint32(uint32(v))
		case int16:
			tag(paramShort)
			e.Uint16(uint16(v))
		case int64:
			tag(paramPointer)
			e.Int64(v)
		case nil:
			tag(paramNone)
		case []byte:
			tag(paramBinary)
			err = raw(v)
		default:
			err = fmt.Errorf("pdu: a parameter of type %T", p)
		}
		if err != nil {
			return err
		}
	}
	if len(records) > 1 {
		if err := appendExtended(e, records[1:]); err != nil {
			return err
		}
	}
	for _, f := range later {
		f()
	}
	return nil
}

// ParseExtendedErrors reads the records. Bytes after them are ignored. It allocates no more than a
// small multiple of len(b). Any violation of the format is an error for the whole (MS-EERR
// 2.2.2.2).
func ParseExtendedErrors(b []byte) ([]ExtendedError, error) {
	if len(b) < serializationHeader || b[0] != 1 || b[1]&^0x10 != 0 {
		return nil, ErrExtended
	}
	syntax, order := ndr.NDR20, binary.ByteOrder(binary.LittleEndian)
	if b[1] == 0 {
		syntax, order = ndr.NDR20BE, binary.BigEndian
	}
	if order.Uint16(b[2:]) != 8 {
		return nil, ErrExtended
	}
	n := order.Uint32(b[8:])
	if uint64(n) > uint64(len(b)-serializationHeader) {
		return nil, ErrExtended
	}
	d := ndr.NewDecoder(b[serializationHeader:serializationHeader+int(n)], syntax)
	if !d.Pointer() {
		return nil, errors.Join(ErrExtended, d.Err())
	}
	var records []ExtendedError
	parseExtended(&d, &records)
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrExtended, err)
	}
	return records, nil
}

// parseExtended reads a record and those after it.
func parseExtended(d *ndr.Decoder, records *[]ExtendedError) {
	if len(*records) == MaxExtendedErrors {
		d.Fail("record", "there are too many")
	}
	var later []func()
	units := func(to func(string)) {
		n, there := d.Uint16(), d.Pointer()
		if !there {
			return
		}
		later = append(later, func() {
			u := make([]uint16, 0, min(d.Remaining()/2, int(n)))
			if count := d.Count(2); count != int(n) {
				d.Fail("string", "its length differs from that in its structure")
				return
			}
			for range n {
				u = append(u, d.Uint16())
			}
			if len(u) > 0 && u[len(u)-1] == 0 {
				u = u[:len(u)-1]
			}
			to(string(utf16.Decode(u)))
		})
	}
	raw := func(to func([]byte)) {
		n, there := d.Uint16(), d.Pointer()
		if !there {
			return
		}
		later = append(later, func() {
			if count := d.Count(1); count != int(n) {
				d.Fail("bytes", "their number differs from that in their structure")
				return
			}
			to(append([]byte{}, d.Raw(int(n))...))
		})
	}

	params := d.Count(4)
	d.Align(8)
	next := d.Pointer()
	var r ExtendedError
	switch present := d.Uint16(); {
	case d.Uint16() != present:
		d.Fail("computer name", "its two types differ")
	case present == 1:
		d.Align(4)
		units(func(s string) { r.Computer = s })
	case present != 2:
		d.Fail("computer name", "is neither there nor absent")
	}
	r.ProcessID = d.Uint32()
	r.Time = timeOf(d.Uint64())
	r.Component = ErrorComponent(d.Uint32())
	r.Status = d.Uint32()
	r.Location = d.Uint16()
	r.Flags = d.Uint16()
	if n := d.Uint16(); int(n) != params || n > MaxExtendedParams {
		d.Fail("parameters", "there are too many, or two numbers of them")
	}
	if d.Err() != nil {
		return
	}
	r.Params = make([]any, params)
	for i := range r.Params {
		set := func(v any) { r.Params[i] = v }
		d.Align(8)
		kind := d.Uint16()
		if d.Uint16() != kind {
			d.Fail("parameter", "its two types differ")
		}
		switch kind {
		case paramANSI:
			d.Align(4)
			raw(func(b []byte) {
				if len(b) > 0 && b[len(b)-1] == 0 {
					b = b[:len(b)-1]
				}
				set(ANSIString(b))
			})
		case paramUnicode:
			d.Align(4)
			units(func(s string) { set(s) })
		case paramLong:
			set(int32(d.Uint32()))
		case paramShort:
			set(int16(d.Uint16()))
		case paramPointer:
			set(d.Int64())
		case paramNone:
		case paramBinary:
			d.Align(4)
			raw(func(b []byte) { set(b) })
		default:
			d.Fail("parameter", "has an unknown type")
		}
	}
	i := len(*records)
	*records = append(*records, ExtendedError{})
	if next && d.Err() == nil {
		parseExtended(d, records)
	}
	for _, f := range later {
		if d.Err() != nil {
			return
		}
		f()
	}
	if len(r.Params) == 0 {
		r.Params = nil
	}
	(*records)[i] = r
}

// A FILETIME counts from 1601.
const filetimeEpoch = 116444736000000000

func filetime(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.Unix()*1e7 + int64(t.Nanosecond())/100 + filetimeEpoch)
}

func timeOf(v uint64) time.Time {
	if v == 0 || v > 1<<62 {
		return time.Time{}
	}
	n := int64(v) - filetimeEpoch
	return time.Unix(n/1e7, n%1e7*100).UTC()
}
