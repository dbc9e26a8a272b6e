package ndr

import (
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// WTF8 is a string in the form that [Encoder.WString] takes and [Decoder.WString] returns: UTF-8 in
// which a surrogate without its other half is written as the three bytes that UTF-8's scheme gives
// for it. Its JSON form keeps lone surrogates.
type WTF8 string

// A NullString is the value of a unique pointer to a string: a string, or NULL, which differs from
// the empty string. The zero value is NULL.
type NullString struct {
	String string // WTF-8, see Encoder.WString; empty if Valid is not set
	Valid  bool   // not NULL
}

// StringOf returns s as a string that is not NULL.
func StringOf(s string) NullString { return NullString{String: s, Valid: true} }

// MarshalJSON returns null, or a JSON string as [WTF8.MarshalJSON] does.
func (n NullString) MarshalJSON() ([]byte, error) {
	if !n.Valid {
		return []byte("null"), nil
	}
	return WTF8(n.String).MarshalJSON()
}

// UnmarshalJSON reads null or a JSON string.
func (n *NullString) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = NullString{}
		return nil
	}
	var s WTF8
	if err := s.UnmarshalJSON(b); err != nil {
		return err
	}
	*n = StringOf(string(s))
	return nil
}

// MarshalJSON returns a JSON string. Lone surrogates become escapes such as \ud800, which
// [WTF8.UnmarshalJSON] reads back; other JSON readers may replace them.
func (s WTF8) MarshalJSON() ([]byte, error) {
	out := append(make([]byte, 0, len(s)+2), '"')
	for i := 0; i < len(s); {
		r, size := decodeRune(string(s[i:]))
		i += size
		switch {
		case r < 0:
			return nil, errors.New("ndr: string is not WTF-8")
		case r == '"' || r == '\\':
			out = append(out, '\\', byte(r))
		case r < 0x20 || utf16.IsSurrogate(r):
			out = append(out, '\\', 'u')
			for shift := 12; shift >= 0; shift -= 4 {
				out = append(out, "0123456789abcdef"[r>>shift&0xF])
			}
		default:
			out = utf8.AppendRune(out, r)
		}
	}
	return append(out, '"'), nil
}

// UnmarshalJSON reads what MarshalJSON wrote, or any other JSON string.
func (s *WTF8) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' || b[len(b)-1] != '"' {
		return errors.New("ndr: not a JSON string")
	}
	var out []byte
	for b = b[1 : len(b)-1]; len(b) > 0; {
		if b[0] != '\\' {
			out = append(out, b[0])
			b = b[1:]
			continue
		}
		r, size, err := unescape(b)
		if err != nil {
			return err
		}
		b = b[size:]
		if utf16.IsSurrogate(r) {
			if low, size, err := unescape(b); err == nil {
				if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
					r, b = pair, b[size:]
				}
			}
		}
		out = appendRune(out, r)
	}
	*s = WTF8(out)
	return nil
}

// unescape reads one escape sequence of JSON at the start of b.
func unescape(b []byte) (r rune, size int, err error) {
	if len(b) >= 2 && b[0] == '\\' {
		switch b[1] {
		case '"', '\\', '/':
			return rune(b[1]), 2, nil
		case 'b':
			return '\b', 2, nil
		case 'f':
			return '\f', 2, nil
		case 'n':
			return '\n', 2, nil
		case 'r':
			return '\r', 2, nil
		case 't':
			return '\t', 2, nil
		case 'u':
			if len(b) >= 6 {
				if v, err := strconv.ParseUint(string(b[2:6]), 16, 16); err == nil {
					return rune(v), 6, nil
				}
			}
		}
	}
	return 0, 0, errors.New("ndr: bad escape in JSON string")
}

// appendRune is utf8.AppendRune for WTF-8: it keeps lone surrogates.
func appendRune(b []byte, r rune) []byte {
	if utf16.IsSurrogate(r) {
		return append(b, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
	}
	return utf8.AppendRune(b, r)
}

// decodeRune is utf8.DecodeRuneInString for WTF-8: it accepts lone surrogates, and returns -1 for
// other invalid bytes. The string s must not be empty.
func decodeRune(s string) (r rune, size int) {
	if s[0] < utf8.RuneSelf {
		return rune(s[0]), 1
	}
	r, size = utf8.DecodeRuneInString(s)
	if r != utf8.RuneError || size > 1 {
		return r, size
	}
	// ED A0..BF 80..BF: the surrogates, which UTF-8 leaves out.
	if len(s) >= 3 && s[0] == 0xED && s[1]&0xE0 == 0xA0 && s[2]&0xC0 == 0x80 {
		return 0xD000 | rune(s[1]&0x3F)<<6 | rune(s[2]&0x3F), 3
	}
	return -1, 1
}
