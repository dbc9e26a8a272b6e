package capture_test

import (
	"fmt"
	"log"
	"os"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture"
)

// The calls of a capture, unsealed with the keys of the file server.
func ExampleCalls() {
	keytab, err := krb5.LoadKeytab("../../testdata/captures/all.keytab")
	if err != nil {
		log.Fatal(err)
	}
	f, err := os.Open("../../testdata/captures/03_rpcclient_np_krb5_seal.pcapng")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	n := 0
	for call, err := range capture.Calls(f, &capture.Config{Keytab: keytab}) {
		if err != nil {
			log.Fatal(err)
		}
		if n++; n <= 3 {
			fmt.Println(call.Opnum, "by", call.User())
		}
	}
	fmt.Println(n, "calls")
	// Output:
	// GetSupportedVersion by backup@FSRVP.TEST
	// IsPathSupported by backup@FSRVP.TEST
	// IsPathSupported by backup@FSRVP.TEST
	// 15 calls
}
