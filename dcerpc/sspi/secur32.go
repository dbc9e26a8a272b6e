package sspi

import "github.com/go-fsrvp/go-fsrvp/dcerpc"

// A secur32 is the part of the system that this package calls: functions of secur32.dll, one method
// each, with slices and strings in place of pointers. See Microsoft's documentation of sspi.h.
// Tests use a fake that follows that documentation. It is safe for concurrent use.
//
// A method that fills a buffer cuts its data to what was written.
type secur32 interface {
	// querySecurityPackageInfo returns the longest token of a package, in bytes.
	querySecurityPackageInfo(name string) (maxToken uint32, s Status)
	// acquireCredentialsHandle uses the log-on of the process if id is nil.
	acquireCredentialsHandle(name string, use uint32, id *Credentials) (secHandle, Status)
	freeCredentialsHandle(cred secHandle) Status

	// initializeSecurityContext is called first without a context and without a token. It writes
	// the next token to out.
	initializeSecurityContext(cred secHandle, ctx *secHandle, target string, flags uint32, in []byte, out *secBuffer) (
		next secHandle, granted uint32, s Status)
	// acceptSecurityContext is called first without a context.
	acceptSecurityContext(cred secHandle, ctx *secHandle, flags uint32, in []byte, out *secBuffer) (
		next secHandle, granted uint32, s Status)
	completeAuthToken(ctx secHandle, token *secBuffer) Status
	deleteSecurityContext(ctx secHandle) Status

	// sizes are SECPKG_ATTR_SIZES.
	sizes(ctx secHandle) (contextSizes, Status)
	// negotiated is the name of the package in use, SECPKG_ATTR_NEGOTIATION_INFO.
	negotiated(ctx secHandle) (string, Status)
	// names is SECPKG_ATTR_NAMES, the client's `DOMAIN\user`.
	names(ctx secHandle) (string, Status)
	// nativeNames are SECPKG_ATTR_NATIVE_NAMES: with Kerberos, the principals.
	nativeNames(ctx secHandle) (client, server string, s Status)
	// token calls QuerySecurityContextToken and returns the contents of the client's token.
	token(ctx secHandle) (clientToken, Status)

	encryptMessage(ctx secHandle, message []secBuffer) Status
	decryptMessage(ctx secHandle, message []secBuffer) Status
	makeSignature(ctx secHandle, message []secBuffer) Status
	verifySignature(ctx secHandle, message []secBuffer) Status
}

// A secHandle is a CredHandle or a CtxtHandle: two words whose meaning only the system knows.
type secHandle struct{ lower, upper uintptr }

// A secBuffer is a SecBuffer.
type secBuffer struct {
	kind uint32
	data []byte
}

// Types of buffers, and the attributes that go with them.
const (
	bufferData                 = 1          // SECBUFFER_DATA
	bufferToken                = 2          // SECBUFFER_TOKEN
	bufferReadOnlyWithChecksum = 0x10000000 // SECBUFFER_READONLY_WITH_CHECKSUM: signed, not encrypted
)

// contextSizes are a SecPkgContext_Sizes.
type contextSizes struct {
	maxToken, maxSignature, blockSize, securityTrailer uint32
}

// A clientToken is the content of an access token. Its groups are the enabled ones.
type clientToken struct {
	user       dcerpc.SID
	groups     []dcerpc.SID
	privileges dcerpc.Privileges
}

// Uses of credentials.
const (
	credInbound  = 1 // SECPKG_CRED_INBOUND
	credOutbound = 2 // SECPKG_CRED_OUTBOUND
)

// Requirements of a context (ISC_REQ_*), and the granted ones (ISC_RET_*). Up to USE_DCE_STYLE, the
// values for acceptors (ASC_REQ_*, ASC_RET_*) are the same.
const (
	flagMutualAuth      = 0x00000002
	flagReplayDetect    = 0x00000004
	flagSequenceDetect  = 0x00000008
	flagConfidentiality = 0x00000010
	flagUseDCEStyle     = 0x00000200
	flagInitIntegrity   = 0x00010000 // of initiators
	flagInitIdentify    = 0x00020000
	flagAcceptIntegrity = 0x00020000 // of acceptors
)
