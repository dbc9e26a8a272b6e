package redirector_test

import (
	"context"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/redirector"
)

// A file of a share is opened with the log-on of the process, and read.
func ExampleOpenShare() {
	ctx := context.Background()
	share, err := redirector.OpenShare(ctx, `\\fs1.example.com\vms@{f0f1f2f3-e0e1-d8d9-c8c9-cacbcccdcecf}`)
	if err != nil {
		return // on another system, errors.ErrUnsupported
	}
	defer share.Close()
	file, err := share.Open(ctx, `vm1\disk.vhdx`, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer file.Close()
	fmt.Println(file.Info().EndOfFile)
}
