package fsrvp

// The interface FileServerVssAgent and where it is found (MS-FSRVP 1.9, 2.1, appendix A).
const (
	// InterfaceUUID names the interface.
	InterfaceUUID = "a8e0653c-2744-4389-a61d-7373df8b2292"
	// InterfaceMajor and InterfaceMinor are its version on the wire, the IDL's. The "3.0" that section 2.1 has
	// is nowhere used.
	InterfaceMajor, InterfaceMinor = 1, 0
	// Endpoint is the well-known endpoint, a named pipe.
	Endpoint = `\PIPE\FssagentRpc`
	// PipeName is the pipe's bare name.
	PipeName = "FssagentRpc"
	// Version1 is FSRVP_RPC_VERSION_1, the one version of the protocol (MS-FSRVP 2.2.2.4).
	Version1 = 1
)
