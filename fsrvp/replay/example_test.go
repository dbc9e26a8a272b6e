package replay_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/replay"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// What a customer's server answered.
const customers = `{"format":"fsrvp-transcript","version":1}
{"time":"2026-03-01T10:00:00Z","opnum":0,"request":{},"response":{"MinVersion":1,"MaxVersion":1,"Return":0}}
{"time":"2026-03-01T10:00:01Z","opnum":8,"request":{"ShareName":"\\\\fs1\\data"},"response":{"SupportedByThisProvider":1,"OwnerMachineName":"NODE2","Return":0}}
{"time":"2026-03-01T10:00:02Z","opnum":9,"request":{"ShareName":"\\\\fs1\\data"},"response":{"Return":2147754764}}
`

// A server is anything that can be called: here one that knows its version and no shares.
type server struct{ fsrvp.Service }

func (server) GetSupportedVersion(context.Context) (fsrvp.Versions, error) {
	return fsrvp.Versions{Min: 1, Max: 1}, nil
}

func (server) IsPathSupported(_ context.Context, share string) (fsrvp.PathSupport, error) {
	return fsrvp.PathSupport{Supported: share == `\\lab\data`, Owner: "LAB"}, nil
}

func (server) IsPathShadowCopied(context.Context, string) (fsrvp.PathShadowCopied, error) {
	return fsrvp.PathShadowCopied{}, nil
}

// A recording is played against another server, which calls the share by another name.
func ExampleRun() {
	recording, err := transcript.ReadAll(strings.NewReader(customers))
	if err != nil {
		log.Fatal(err)
	}
	names, err := replay.NewShareMap(map[string]string{`\\fs1`: `\\lab`})
	if err != nil {
		log.Fatal(err)
	}
	report, err := replay.Run(context.Background(), recording, &replay.Config{
		Service: server{}, // usually Dial, with an *fsrvp.Client
		Shares:  names.Rewrite,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Calls, "calls,", report.Same, "as recorded")
	for i := range report.Differences {
		fmt.Println(&report.Differences[i])
	}
	// Output:
	// 3 calls, 1 as recorded
	// call 2 IsPathSupported \\fs1\data: OwnerMachineName: recorded "NODE2", now "LAB"
	// call 3 IsPathShadowCopied \\fs1\data: Return: recorded 0x8004230C FSRVP_E_NOT_SUPPORTED, now 0x00000000 ZERO
}

// A client is tested with the answers of a server that nobody has here.
func ExampleNewService() {
	recording, err := transcript.ReadAll(strings.NewReader(customers))
	if err != nil {
		log.Fatal(err)
	}
	service, err := replay.NewService(recording, nil)
	if err != nil {
		log.Fatal(err)
	}
	// Behind a dcerpc.Server, by fsrvp.Register, the client would be any.
	ctx := context.Background()
	support, err := service.IsPathSupported(ctx, `\\FS1\data\`)
	fmt.Println(support.Owner, err)
	_, err = service.IsPathSupported(ctx, `\\fs1\other`)
	fmt.Println(err)
	for _, e := range service.Unasked() {
		fmt.Println("never called:", e.Opnum())
	}
	// Output:
	// NODE2 <nil>
	// replay: IsPathSupported departs from the recording: the recording has no such call: the call does not fit the server's state (FSRVP_E_BAD_STATE, 0x80042301)
	// never called: GetSupportedVersion
	// never called: IsPathShadowCopied
}

// All that goes through a Service is written down.
func ExampleRecorder() {
	var file bytes.Buffer
	recorder := transcript.NewRecorder(server{}, &file, nil)
	if _, err := recorder.GetSupportedVersion(context.Background()); err != nil {
		log.Fatal(err)
	}
	if err := recorder.Close(); err != nil {
		log.Fatal(err)
	}
	for e, err := range transcript.Read(&file) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%v %+v\n", e.Opnum(), e.Response)
	}
	// Output:
	// GetSupportedVersion &{MinVersion:1 MaxVersion:1 Return:success (ZERO, 0x00000000)}
}
