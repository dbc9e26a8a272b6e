// Package repeated has a flag value for flags that may be given several times.
package repeated

import "strings"

// Strings are the values of such a flag, in their order. It is a flag.Value.
type Strings []string

// String joins the values with blanks.
func (s *Strings) String() string { return strings.Join(*s, " ") }

// Set adds a value.
func (s *Strings) Set(value string) error {
	*s = append(*s, value)
	return nil
}
