package smb2

import (
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// AppendName appends a name in UTF-16. Names on NTFS may contain unpaired surrogates, which UTF-8
// cannot represent; in s such a surrogate has the three bytes of its code point (WTF-8), as
// [DecodeName] writes it. Any other invalid UTF-8 is an error.
func AppendName(dst []byte, s string) ([]byte, error) {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			dst = append(dst, c, 0)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			u, ok := surrogate(s[i:])
			if !ok {
				return nil, fmt.Errorf("smb2: the name %q is not valid UTF-8", s)
			}
			dst = le.AppendUint16(dst, u)
			i += 3
			continue
		}
		i += n
		if r1, r2 := utf16.EncodeRune(r); r1 != utf8.RuneError {
			dst = le.AppendUint16(le.AppendUint16(dst, uint16(r1)), uint16(r2))
		} else {
			dst = le.AppendUint16(dst, uint16(r))
		}
	}
	return dst, nil
}

// surrogate decodes ED A0..BF 80..BF.
func surrogate(s string) (uint16, bool) {
	if len(s) < 3 || s[0] != 0xED || s[1] < 0xA0 || s[1] > 0xBF || s[2] < 0x80 || s[2] > 0xBF {
		return 0, false
	}
	return 0xD000 | uint16(s[1]&0x3F)<<6 | uint16(s[2]&0x3F), true
}

// DecodeName reads a name in UTF-16; an odd byte at the end is ignored. See [AppendName] for
// unpaired surrogates.
func DecodeName(b []byte) string {
	out := make([]byte, 0, len(b)/2+8)
	for len(b) >= 2 {
		u := le.Uint16(b)
		b = b[2:]
		r := rune(u)
		switch {
		case u < utf8.RuneSelf:
			out = append(out, byte(u))
			continue
		case !utf16.IsSurrogate(r):
		case len(b) >= 2 && utf16.DecodeRune(r, rune(le.Uint16(b))) != utf8.RuneError:
			r = utf16.DecodeRune(r, rune(le.Uint16(b)))
			b = b[2:]
		default:
			out = append(out, 0xED, 0x80|byte(u>>6&0x3F), 0x80|byte(u&0x3F))
			continue
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out)
}
