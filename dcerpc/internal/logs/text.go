package logs

import (
	"log/slog"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// MaxText is how many bytes of what a peer has said go into one log line or error.
const MaxText = 256

// Cut returns the first bytes of a text that a peer has a say in, at most MaxText of them, and no
// half of a character. Where something was cut off, it ends in "...".
func Cut(s string) string {
	if len(s) <= MaxText {
		return s
	}
	const more = "..."
	n := MaxText - len(more)
	for i := 0; i < utf8.UTFMax && n > 0 && !utf8.RuneStart(s[n]); i++ {
		n--
	}
	return s[:n] + more
}

// Printable returns a text that a peer has chosen as one line that is safe to print: cut, and
// quoted if it holds anything but printable characters.
func Printable(s string) string {
	s = Cut(s)
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return strconv.Quote(s)
		}
	}
	return s
}

// Error is an attribute's value for an error whose text may be a peer's. The text is made, and cut,
// only when the line is written.
func Error(err error) slog.LogValuer { return cutError{err} }

type cutError struct{ error }

func (e cutError) LogValue() slog.Value { return slog.StringValue(Cut(e.Error())) }

// Short returns an error whose text is cut, and which matches what err matches.
func Short(err error) error {
	text := err.Error()
	if len(text) <= MaxText {
		return err
	}
	return &shortError{Cut(text), err}
}

type shortError struct {
	text string
	err  error
}

func (e *shortError) Error() string { return e.text }
func (e *shortError) Unwrap() error { return e.err }
