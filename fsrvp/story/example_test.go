package story_test

import (
	"log"
	"os"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/story"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// A backup fails at night with E_INVALIDARG. The recording shows why: between the commit and the
// next call the application was thawed, which took longer than the server waits.
func ExampleTell() {
	f, err := os.Open("testdata/slow-thaw.jsonl")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	calls, err := transcript.ReadAll(f)
	if err != nil {
		log.Fatal(err)
	}
	for _, set := range story.Tell(calls, nil) {
		os.Stdout.Write(set.AppendText(nil))
	}
	// Output:
	// Shadow copy set 5c1a0d7e-93b4-4f0e-8a55-0d2f6c1b7e42 on 10.20.0.5
	//   client    10.20.0.31
	//   user      backup@EXAMPLE.COM
	//   context   FILE_SHARE_BACKUP
	//   shares    \\FS1\vms
	//   from      2026-11-27 02:00:00.000 UTC, for 3m41.5s
	//   outcome   timed out: no call came for 3m0s after CommitShadowCopySet: the Message Sequence Timer ran out, and the agent deletes the set with its snapshots and shares; the set was only Committed (MS-FSRVP 3.1.2)
	//
	//       +0.000     IsPathSupported \\FS1\vms                                  2ms        ok
	//       +0.004     GetSupportedVersion                                        1ms        ok
	//       +0.006     SetContext FILE_SHARE_BACKUP                               3ms        ok
	//       +0.010     StartShadowCopySet                                         4ms        ok                                   Started
	//       +0.015     AddToShadowCopySet \\FS1\vms                               6ms        ok                                   Added
	//       +0.022     PrepareShadowCopySet, waits 30m0s                          310ms      ok                                   Added
	//       +0.340     CommitShadowCopySet, waits 1m0s                            1.87s      ok                                   Committed
	//    +3:02.210  *  no call came for 3m0s after CommitShadowCopySet: the Message Sequence Timer ran out, and the agent deletes the set with its snapshots and shares; the set was only Committed (MS-FSRVP 3.1.2)
	//    +3:41.450  !  ExposeShadowCopySet, waits 30m0s                           1ms        E_INVALIDARG                         Gone
	//                  the set was gone: the Message Sequence Timer had run out 39.2s before (MS-FSRVP 3.1.2)
	//    +3:41.455  !  AbortShadowCopySet                                         1ms        E_INVALIDARG                         Gone
	//                  the set was gone: the Message Sequence Timer had run out 39.2s before (MS-FSRVP 3.1.2)
}
