package fsrvp

import (
	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// The endpoint of the interface (MS-FSRVP 1.9, 2.1), and the version of the protocol.
const (
	// Endpoint is the well-known endpoint, a named pipe.
	Endpoint = `\PIPE\FssagentRpc`
	// PipeName is the pipe's bare name.
	PipeName = "FssagentRpc"
	// Version1 is FSRVP_RPC_VERSION_1, the only version of the protocol (MS-FSRVP 2.2.2.4).
	Version1 = 1
)

// Interface returns the interface FileServerVssAgent, a8e0653c-2744-4389-a61d-7373df8b2292 version
// 1.0. This is the version in the IDL (MS-FSRVP 6) and on the wire; the 3.0 of section 2.1 is not
// used anywhere.
func Interface() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{
		UUID: uuid.UUID{
			0xa8, 0xe0, 0x65, 0x3c, 0x27, 0x44, 0x43, 0x89,
			0xa6, 0x1d, 0x73, 0x73, 0xdf, 0x8b, 0x22, 0x92,
		},
		Major: 1,
	}
}
