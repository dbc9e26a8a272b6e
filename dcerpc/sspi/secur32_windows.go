package sspi

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// dll is secur32.dll. It is loaded at the first use.
var (
	dll = windows.NewLazySystemDLL("secur32.dll")

	procQuerySecurityPackageInfo  = dll.NewProc("QuerySecurityPackageInfoW")
	procAcquireCredentialsHandle  = dll.NewProc("AcquireCredentialsHandleW")
	procFreeCredentialsHandle     = dll.NewProc("FreeCredentialsHandle")
	procInitializeSecurityContext = dll.NewProc("InitializeSecurityContextW")
	procAcceptSecurityContext     = dll.NewProc("AcceptSecurityContext")
	procCompleteAuthToken         = dll.NewProc("CompleteAuthToken")
	procDeleteSecurityContext     = dll.NewProc("DeleteSecurityContext")
	procQueryContextAttributes    = dll.NewProc("QueryContextAttributesW")
	procQuerySecurityContextToken = dll.NewProc("QuerySecurityContextToken")
	procFreeContextBuffer         = dll.NewProc("FreeContextBuffer")
	procEncryptMessage            = dll.NewProc("EncryptMessage")
	procDecryptMessage            = dll.NewProc("DecryptMessage")
	procMakeSignature             = dll.NewProc("MakeSignature")
	procVerifySignature           = dll.NewProc("VerifySignature")
)

// system is the secur32 of Windows.
type system struct{}

func newSecur32() (secur32, error) {
	for _, p := range []*windows.LazyProc{
		procQuerySecurityPackageInfo, procAcquireCredentialsHandle, procFreeCredentialsHandle, procInitializeSecurityContext,
		procAcceptSecurityContext, procCompleteAuthToken, procDeleteSecurityContext, procQueryContextAttributes,
		procQuerySecurityContextToken, procFreeContextBuffer, procEncryptMessage, procDecryptMessage, procMakeSignature,
		procVerifySignature,
	} {
		if err := p.Find(); err != nil {
			return nil, fmt.Errorf("sspi: this system's secur32.dll is incomplete: %w", err)
		}
	}
	return system{}, nil
}

// The structures of sspi.h, with its names in lower case.
type (
	rawBuffer struct { // SecBuffer
		cbBuffer, bufferType uint32
		pvBuffer             *byte
	}
	rawBufferDesc struct { // SecBufferDesc
		ulVersion, cBuffers uint32
		pBuffers            *rawBuffer
	}
	rawPackageInfo struct { // SecPkgInfoW
		fCapabilities    uint32
		wVersion, wRPCID uint16
		cbMaxToken       uint32
		name, comment    *uint16
	}
	rawNegotiationInfo struct { // SecPkgContext_NegotiationInfoW
		packageInfo      *rawPackageInfo
		negotiationState uint32
	}
	rawNativeNames struct { // SecPkgContext_NativeNamesW
		clientName, serverName *uint16
	}
	rawAuthIdentity struct { // SEC_WINNT_AUTH_IDENTITY_W
		user           *uint16
		userLength     uint32
		domain         *uint16
		domainLength   uint32
		password       *uint16
		passwordLength uint32
		flags          uint32
	}
)

// Attributes of QueryContextAttributes, and other constants of sspi.h.
const (
	attrSizes           = 0
	attrNames           = 1
	attrNegotiationInfo = 12
	attrNativeNames     = 13

	identityUnicode = 2    // SEC_WINNT_AUTH_IDENTITY_UNICODE
	nativeDataRep   = 0x10 // SECURITY_NATIVE_DREP
)

// call calls a function that returns a SECURITY_STATUS.
//
//go:uintptrescapes
func call(p *windows.LazyProc, args ...uintptr) Status {
	r, _, _ := p.Call(args...)
	return Status(r)
}

// free frees memory that the system has allocated.
func free[T any](p *T) {
	if p != nil {
		call(procFreeContextBuffer, uintptr(unsafe.Pointer(p)))
	}
}

// text returns a copy of a string of the system, and frees the string.
func text(p *uint16) string {
	if p == nil {
		return ""
	}
	defer free(p)
	return windows.UTF16PtrToString(p)
}

func (system) querySecurityPackageInfo(name string) (uint32, Status) {
	n, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return 0, StatusInvalidParameter
	}
	var info *rawPackageInfo
	s := call(procQuerySecurityPackageInfo, uintptr(unsafe.Pointer(n)), uintptr(unsafe.Pointer(&info)))
	if s != StatusOK || info == nil {
		return 0, s
	}
	defer free(info)
	return info.cbMaxToken, s
}

// utf16 returns a string and its length without the NUL, for an identity.
func utf16(s string) (p *uint16, n uint32, err error) {
	u, err := windows.UTF16FromString(s)
	if err != nil {
		return nil, 0, err
	}
	return &u[0], uint32(len(u) - 1), nil
}

// wipe overwrites a string of n units.
func wipe(p *uint16, n uint32) { clear(unsafe.Slice(p, n)) }

func (system) acquireCredentialsHandle(name string, use uint32, id *Credentials) (cred secHandle, s Status) {
	n, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return cred, StatusInvalidParameter
	}
	var raw *rawAuthIdentity
	if id != nil {
		raw = &rawAuthIdentity{flags: identityUnicode}
		var errs [3]error
		raw.user, raw.userLength, errs[0] = utf16(id.User)
		raw.domain, raw.domainLength, errs[1] = utf16(id.Domain)
		raw.password, raw.passwordLength, errs[2] = utf16(id.Password)
		for _, err := range errs {
			if err != nil {
				return cred, StatusInvalidParameter
			}
		}
		if raw.domainLength == 0 {
			raw.domain = nil // an empty one means this machine
		}
		defer wipe(raw.password, raw.passwordLength)
	}
	var expiry int64
	s = call(procAcquireCredentialsHandle, 0, uintptr(unsafe.Pointer(n)), uintptr(use), 0, uintptr(unsafe.Pointer(raw)),
		0, 0,
		uintptr(unsafe.Pointer(&cred)), uintptr(unsafe.Pointer(&expiry)))
	runtime.KeepAlive(raw)
	return cred, s
}

func (system) freeCredentialsHandle(cred secHandle) Status {
	return call(procFreeCredentialsHandle, uintptr(unsafe.Pointer(&cred)))
}

// describe makes the SecBufferDesc of buffers.
func describe(list []secBuffer) (*rawBufferDesc, []rawBuffer) {
	raw := make([]rawBuffer, len(list))
	for i, b := range list {
		raw[i] = rawBuffer{uint32(len(b.data)), b.kind, unsafe.SliceData(b.data)}
	}
	return &rawBufferDesc{cBuffers: uint32(len(raw)), pBuffers: unsafe.SliceData(raw)}, raw
}

// cut sets the length of a buffer to the system's, which must not be larger than the buffer.
func cut(b *secBuffer, raw *rawBuffer) Status {
	if int64(raw.cbBuffer) > int64(len(b.data)) || raw.pvBuffer != unsafe.SliceData(b.data) {
		return StatusBufferTooSmall
	}
	b.data = b.data[:raw.cbBuffer]
	return StatusOK
}

// An exchange holds the arguments that both sides' functions need for one token.
type exchange struct {
	old         *secHandle
	next        secHandle
	given, room *rawBufferDesc
	raw         []rawBuffer // of room
	granted     uint32
	expiry      int64
}

func newExchange(ctx *secHandle, in []byte, out *secBuffer) *exchange {
	x := &exchange{old: ctx}
	if ctx != nil {
		x.next = *ctx
	}
	if len(in) > 0 || ctx != nil {
		x.given, _ = describe([]secBuffer{{bufferToken, in}})
	}
	x.room, x.raw = describe([]secBuffer{*out})
	return x
}

// finish cuts the token to its length.
func (x *exchange) finish(out *secBuffer, s Status) (secHandle, uint32, Status) {
	if s.succeeded() {
		if s := cut(out, &x.raw[0]); s != StatusOK {
			return x.next, x.granted, s
		}
	}
	return x.next, x.granted, s
}

func (system) initializeSecurityContext(cred secHandle, ctx *secHandle, target string, flags uint32, in []byte,
	out *secBuffer,
) (secHandle, uint32, Status) {
	name, err := windows.UTF16PtrFromString(target)
	if err != nil {
		return secHandle{}, 0, StatusInvalidParameter
	}
	x := newExchange(ctx, in, out)
	s := call(procInitializeSecurityContext, uintptr(unsafe.Pointer(&cred)), uintptr(unsafe.Pointer(x.old)),
		uintptr(unsafe.Pointer(name)), uintptr(flags), 0, nativeDataRep, uintptr(unsafe.Pointer(x.given)), 0, uintptr(unsafe.Pointer(&x.next)),
		uintptr(unsafe.Pointer(x.room)), uintptr(unsafe.Pointer(&x.granted)), uintptr(unsafe.Pointer(&x.expiry)))
	return x.finish(out, s)
}

func (system) acceptSecurityContext(cred secHandle, ctx *secHandle, flags uint32, in []byte, out *secBuffer,
) (secHandle, uint32, Status) {
	x := newExchange(ctx, in, out)
	if x.given == nil {
		return secHandle{}, 0, StatusInvalidToken // the client began with an empty token
	}
	s := call(procAcceptSecurityContext, uintptr(unsafe.Pointer(&cred)), uintptr(unsafe.Pointer(x.old)),
		uintptr(unsafe.Pointer(x.given)), uintptr(flags), nativeDataRep, uintptr(unsafe.Pointer(&x.next)), uintptr(unsafe.Pointer(x.room)),
		uintptr(unsafe.Pointer(&x.granted)), uintptr(unsafe.Pointer(&x.expiry)))
	return x.finish(out, s)
}

func (system) completeAuthToken(ctx secHandle, token *secBuffer) Status {
	desc, _ := describe([]secBuffer{*token})
	return call(procCompleteAuthToken, uintptr(unsafe.Pointer(&ctx)), uintptr(unsafe.Pointer(desc)))
}

func (system) deleteSecurityContext(ctx secHandle) Status {
	return call(procDeleteSecurityContext, uintptr(unsafe.Pointer(&ctx)))
}

// attribute calls QueryContextAttributes.
func attribute[T any](ctx secHandle, which uintptr, out *T) Status {
	return call(procQueryContextAttributes, uintptr(unsafe.Pointer(&ctx)), which, uintptr(unsafe.Pointer(out)))
}

func (system) sizes(ctx secHandle) (sizes contextSizes, s Status) {
	s = attribute(ctx, attrSizes, &sizes) // SecPkgContext_Sizes has the same four numbers
	return sizes, s
}

func (system) negotiated(ctx secHandle) (string, Status) {
	var info rawNegotiationInfo
	s := attribute(ctx, attrNegotiationInfo, &info)
	if s != StatusOK || info.packageInfo == nil {
		return "", s
	}
	defer free(info.packageInfo) // with the name
	return windows.UTF16PtrToString(info.packageInfo.name), s
}

func (system) names(ctx secHandle) (string, Status) {
	var name *uint16 // SecPkgContext_NamesW
	s := attribute(ctx, attrNames, &name)
	if s != StatusOK {
		return "", s
	}
	return text(name), s
}

func (system) nativeNames(ctx secHandle) (client, server string, s Status) {
	var names rawNativeNames
	if s = attribute(ctx, attrNativeNames, &names); s != StatusOK {
		return "", "", s
	}
	return text(names.clientName), text(names.serverName), s
}

func (system) token(ctx secHandle) (clientToken, Status) {
	var t windows.Token
	if s := call(procQuerySecurityContextToken, uintptr(unsafe.Pointer(&ctx)),
		uintptr(unsafe.Pointer(&t))); s != StatusOK {
		return clientToken{}, s
	}
	defer t.Close()
	out, err := readToken(t)
	if err != nil {
		return clientToken{}, StatusNoImpersonation
	}
	return out, StatusOK
}

// readToken reads the user, the enabled groups, and the privileges that matter for backups.
func readToken(t windows.Token) (out clientToken, err error) {
	user, err := t.GetTokenUser()
	if err != nil {
		return out, err
	}
	if out.user, err = dcerpc.ParseSID(user.User.Sid.String()); err != nil {
		return out, err
	}
	groups, err := t.GetTokenGroups()
	if err != nil {
		return out, err
	}
	for _, g := range groups.AllGroups() {
		if g.Attributes&windows.SE_GROUP_ENABLED == 0 || g.Attributes&windows.SE_GROUP_USE_FOR_DENY_ONLY != 0 {
			continue
		}
		sid, err := dcerpc.ParseSID(g.Sid.String())
		if err != nil {
			return out, err
		}
		out.groups = append(out.groups, sid)
	}
	out.privileges, err = readPrivileges(t)
	return out, err
}

// The LUIDs of the privileges for backups (ntddk.h).
const (
	luidBackup  = 17 // SE_BACKUP_PRIVILEGE
	luidRestore = 18 // SE_RESTORE_PRIVILEGE
)

// readPrivileges reads a TOKEN_PRIVILEGES. In a network log-on, all privileges of the account are
// enabled.
func readPrivileges(t windows.Token) (out dcerpc.Privileges, err error) {
	size := uint32(1024)
	for {
		b := make([]uint32, (size+3)/4) // LUID_AND_ATTRIBUTES are three of them
		err := windows.GetTokenInformation(t, windows.TokenPrivileges, (*byte)(unsafe.Pointer(&b[0])), uint32(4*len(b)),
			&size)
		if err == windows.ERROR_INSUFFICIENT_BUFFER && size > uint32(4*len(b)) && size <= 1<<16 {
			continue
		}
		if err != nil {
			return 0, err
		}
		for list := b[1:min(len(b), 1+3*int(b[0]))]; len(list) >= 3; list = list[3:] {
			switch {
			case list[1] != 0 || list[2]&windows.SE_PRIVILEGE_ENABLED == 0:
			case list[0] == luidBackup:
				out |= dcerpc.PrivilegeBackup
			case list[0] == luidRestore:
				out |= dcerpc.PrivilegeRestore
			}
		}
		return out, nil
	}
}

// protection calls one of the four functions for messages, and cuts the buffers to the lengths that
// it returns.
func protection(message []secBuffer, f func(desc *rawBufferDesc) Status) Status {
	desc, raw := describe(message)
	if s := f(desc); s != StatusOK {
		return s
	}
	for i := range message {
		if s := cut(&message[i], &raw[i]); s != StatusOK {
			return s
		}
	}
	return StatusOK
}

// The quality of protection is the default one everywhere, and sequence numbers are the package's
// own, as the context detects messages out of sequence.

func (system) encryptMessage(ctx secHandle, message []secBuffer) Status {
	return protection(message, func(desc *rawBufferDesc) Status {
		return call(procEncryptMessage, uintptr(unsafe.Pointer(&ctx)), 0, uintptr(unsafe.Pointer(desc)), 0)
	})
}

func (system) decryptMessage(ctx secHandle, message []secBuffer) Status {
	return protection(message, func(desc *rawBufferDesc) Status {
		var quality uint32
		return call(procDecryptMessage, uintptr(unsafe.Pointer(&ctx)), uintptr(unsafe.Pointer(desc)), 0,
			uintptr(unsafe.Pointer(&quality)))
	})
}

func (system) makeSignature(ctx secHandle, message []secBuffer) Status {
	return protection(message, func(desc *rawBufferDesc) Status {
		return call(procMakeSignature, uintptr(unsafe.Pointer(&ctx)), 0, uintptr(unsafe.Pointer(desc)), 0)
	})
}

func (system) verifySignature(ctx secHandle, message []secBuffer) Status {
	return protection(message, func(desc *rawBufferDesc) Status {
		var quality uint32
		return call(procVerifySignature, uintptr(unsafe.Pointer(&ctx)), uintptr(unsafe.Pointer(desc)), 0,
			uintptr(unsafe.Pointer(&quality)))
	})
}
