package fsrvp_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A stub from a capture, as tshark shows it, becomes a typed message.
func ExampleParseRequest() {
	stub, _ := hex.DecodeString("a3a2a1a0b1b0c1c0d0d1d2d3d4d5d6d7" + "60ea0000")
	m, err := fsrvp.ParseRequest(fsrvp.OpCommitShadowCopySet, ndr.NDR20, stub)
	if err != nil {
		fmt.Println(err)
		return
	}
	commit := m.(*fsrvp.CommitShadowCopySetRequest)
	fmt.Println(commit.Opnum(), commit.ShadowCopySetID, commit.TimeOutInMilliseconds)
	text, _ := json.Marshal(m)
	fmt.Println(string(text))
	// Output:
	// CommitShadowCopySet a0a1a2a3-b0b1-c0c1-d0d1-d2d3d4d5d6d7 60000
	// {"ShadowCopySetId":"a0a1a2a3-b0b1-c0c1-d0d1-d2d3d4d5d6d7","TimeOutInMilliseconds":60000}
}

// What a server answered is in the response's status; a stub that is cut off says where.
func ExampleParseResponse() {
	m, _ := fsrvp.ParseResponse(fsrvp.OpIsPathSupported, ndr.NDR20,
		[]byte{0, 0, 0, 0, 0, 0, 0, 0, 0x0c, 0x23, 0x04, 0x80})
	fmt.Println(m.Status())
	fmt.Println(errors.Is(m.Status(), fsrvp.ErrNotSupported))

	_, err := fsrvp.ParseResponse(fsrvp.OpIsPathSupported, ndr.NDR20, []byte{0, 0, 0, 0, 0, 0})
	fmt.Println(err)
	// Output:
	// shadow copies of the share's file store are not supported (FSRVP_E_NOT_SUPPORTED, 0x8004230C)
	// true
	// fsrvp: IsPathSupported response: ndr: bad stub data: uint32 at offset 4: 2 bytes remain
}

func ExampleParseShareName() {
	name, _ := fsrvp.ParseShareName(`\\FS01\data$\`)
	other, _ := fsrvp.ParseShareName(`\\fs01\DATA$\below`)
	fmt.Println(name.UNC(), name.Equal(other))

	_, err := fsrvp.ParseShareName(`\\?\C:\data`)
	fmt.Println(err)
	// Output:
	// \\FS01\data$ true
	// fsrvp: "\\\\?\\C:\\data" is not a share's UNC path: it is a device path
}
