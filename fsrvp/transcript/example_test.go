package transcript_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// A recorder between a program and a server, and what it has written, read again.
func Example() {
	server := fsrvp.ServiceFunc(func(_ context.Context, req fsrvp.Message) (fsrvp.Response, error) {
		return fsrvp.NewResponse(req.Opnum()), nil // a server that answers everything with success
	})
	var written bytes.Buffer
	recorder := transcript.NewRecorder(server, &written, nil)
	if err := recorder.SetContext(context.Background(), fsrvp.ContextBackup); err != nil {
		log.Fatal(err)
	}
	if err := recorder.Err(); err != nil {
		log.Fatal(err)
	}
	for call, err := range transcript.Read(&written) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(call.Request.Opnum(), call.Response.Status().Name())
	}
	// Output: SetContext ZERO
}
