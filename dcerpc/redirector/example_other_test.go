//go:build !windows

package redirector_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/redirector"
)

// Systems other than Windows have no redirector: package smb2 is the client there.
func ExampleOpenShare_elsewhere() {
	_, err := redirector.OpenShare(context.Background(), `\\fs1.example.com\vms`)
	fmt.Println(errors.Is(err, errors.ErrUnsupported))
	// Output:
	// true
}
