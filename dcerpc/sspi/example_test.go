package sspi_test

import (
	"context"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/sspi"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A backup service on Windows calls a file server as the account that it runs as.
func Example() {
	auth, err := sspi.NewInitiator(nil)
	if err != nil {
		return // on another system, errors.ErrUnsupported
	}
	client, err := fsrvp.Dial(context.Background(), "fs1.example.com", &fsrvp.Config{
		Transport: new(smbpipe.SystemDialer), // the pipe, by the system's SMB client
		Auth:      auth,                      // RPC's own security inside
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	fmt.Println(client.IsPathSupported(context.Background(), `\\fs1.example.com\vms`))
}
