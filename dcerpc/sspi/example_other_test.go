//go:build !windows

package sspi_test

import (
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/sspi"
)

// A program for several systems uses the log-on of the process where there is one, and other
// mechanisms elsewhere.
func ExampleNewInitiator() {
	_, err := sspi.NewInitiator(nil)
	if errors.Is(err, errors.ErrUnsupported) {
		fmt.Println("use packages krb5, ntlm and spnego")
	}
	// Output:
	// use packages krb5, ntlm and spnego
}
