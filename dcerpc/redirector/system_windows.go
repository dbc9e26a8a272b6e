package redirector

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
)

// Functions that golang.org/x/sys/windows lacks.
var (
	ntdll    = windows.NewLazySystemDLL("ntdll.dll")
	kernel32 = windows.NewLazySystemDLL("kernel32.dll")

	procNtQueryDirectoryFile  = ntdll.NewProc("NtQueryDirectoryFile")
	procNtQuerySecurityObject = ntdll.NewProc("NtQuerySecurityObject")
	procNtFsControlFile       = ntdll.NewProc("NtFsControlFile")
	procNtReadFile            = ntdll.NewProc("NtReadFile")
	procCancelSynchronousIo   = kernel32.NewProc("CancelSynchronousIo")
)

type windowsSystem struct{}

func newSystem() (system, error) {
	for _, p := range []*windows.LazyProc{
		procNtQueryDirectoryFile, procNtQuerySecurityObject, procNtFsControlFile, procNtReadFile, procCancelSynchronousIo,
	} {
		if err := p.Find(); err != nil {
			return nil, fmt.Errorf("redirector: this system is incomplete: %w", err)
		}
	}
	return windowsSystem{}, nil
}

// status returns the status of an error of ntdll.dll.
func status(err error) smb2.Status {
	if err == nil {
		return smb2.StatusSuccess
	}
	if s, ok := err.(windows.NTStatus); ok {
		return smb2.Status(s)
	}
	return smb2.StatusInvalidParameter
}

// maxName is the longest name in bytes: its length is a uint16.
const maxName = 65534

// createFile calls NtCreateFile for an existing file.
func createFile(name string, access, options uint32, quality *windows.SECURITY_QUALITY_OF_SERVICE) (windows.Handle,
	smb2.Status) {
	units, err := smb2.AppendName(nil, name)
	if err != nil || len(units) == 0 || len(units) > maxName {
		return 0, smb2.StatusObjectNameInvalid
	}
	buffer := make([]uint16, len(units)/2)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&buffer[0])), len(units)), units)
	object := windows.OBJECT_ATTRIBUTES{
		ObjectName: &windows.NTUnicodeString{Length: uint16(len(units)), MaximumLength: uint16(len(units)),
			Buffer: &buffer[0]},
		Attributes: windows.OBJ_CASE_INSENSITIVE, SecurityQoS: quality,
	}
	object.Length = uint32(unsafe.Sizeof(object))
	var h windows.Handle
	var block windows.IO_STATUS_BLOCK
	const shareAll = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	err = windows.NtCreateFile(&h, access, &object, &block, nil, 0, shareAll, windows.FILE_OPEN, options, 0, 0)
	return h, status(err)
}

func (windowsSystem) open(server, share, name string, o *smb2.OpenOptions) (native, smb2.Status) {
	access := o.Access
	if access == 0 {
		access = smb2.AccessReadData | smb2.AccessReadEA | smb2.AccessReadAttributes | smb2.AccessReadControl
	}
	options := o.Options | windows.FILE_SYNCHRONOUS_IO_NONALERT
	if !o.NoBackupIntent {
		options |= windows.FILE_OPEN_FOR_BACKUP_INTENT
	}
	h, s := createFile(`\??\UNC\`+server+`\`+share+`\`+name, access|windows.SYNCHRONIZE, options, nil)
	if s != smb2.StatusSuccess {
		return nil, s
	}
	return windowsFile(h), s
}

// windowsFile is a handle for synchronous operations.
type windowsFile windows.Handle

func (f windowsFile) handle() windows.Handle { return windows.Handle(f) }

func (f windowsFile) queryInformation(class uint32, out []byte) (int, smb2.Status) {
	var block windows.IO_STATUS_BLOCK
	err := windows.NtQueryInformationFile(f.handle(), &block, unsafe.SliceData(out), uint32(len(out)), class)
	return int(block.Information), status(err)
}

// call calls a function that returns an NTSTATUS.
//
//go:uintptrescapes
func call(p *windows.LazyProc, args ...uintptr) smb2.Status {
	r, _, _ := p.Call(args...)
	return smb2.Status(r)
}

const classIDBothDirectory = 37 // FileIdBothDirectoryInformation

func (f windowsFile) queryDirectory(restart bool, out []byte) (int, smb2.Status) {
	var block windows.IO_STATUS_BLOCK
	again := uintptr(0)
	if restart {
		again = 1
	}
	s := call(procNtQueryDirectoryFile, uintptr(f), 0, 0, 0, uintptr(unsafe.Pointer(&block)),
		uintptr(unsafe.Pointer(unsafe.SliceData(out))), uintptr(len(out)), classIDBothDirectory, 0, 0, again)
	return int(block.Information), s
}

func (f windowsFile) querySecurity(parts uint32, out []byte) (int, smb2.Status) {
	var needed uint32
	s := call(procNtQuerySecurityObject, uintptr(f), uintptr(parts),
		uintptr(unsafe.Pointer(unsafe.SliceData(out))), uintptr(len(out)), uintptr(unsafe.Pointer(&needed)))
	return int(needed), s
}

func (f windowsFile) control(code uint32, in, out []byte) (int, smb2.Status) {
	var block windows.IO_STATUS_BLOCK
	s := call(procNtFsControlFile, uintptr(f), 0, 0, 0, uintptr(unsafe.Pointer(&block)), uintptr(code),
		uintptr(unsafe.Pointer(unsafe.SliceData(in))), uintptr(len(in)),
		uintptr(unsafe.Pointer(unsafe.SliceData(out))), uintptr(len(out)))
	return int(block.Information), s
}

func (f windowsFile) read(off int64, out []byte) (int, smb2.Status) {
	var block windows.IO_STATUS_BLOCK
	s := call(procNtReadFile, uintptr(f), 0, 0, 0, uintptr(unsafe.Pointer(&block)),
		uintptr(unsafe.Pointer(unsafe.SliceData(out))), uintptr(len(out)), uintptr(unsafe.Pointer(&off)), 0)
	return int(block.Information), s
}

func (f windowsFile) cancel() { _ = windows.CancelIoEx(f.handle(), nil) } // fails if there is nothing to cancel
func (f windowsFile) close()  { _ = windows.CloseHandle(f.handle()) }

// statusInstanceNotAvailable means that all instances of a pipe are in use.
const statusInstanceNotAvailable smb2.Status = 0xC00000AB

// OpenPipe opens a pipe of a server, or of this machine if server is ".", for overlapped operations
// in message mode. With identify the server may identify the client but not act for it. Errors are
// of type [*smb2.Error]; StatusPipeNotAvailable means that another try may succeed.
func OpenPipe(ctx context.Context, server, name string, identify bool) (*os.File, error) {
	path := `\\` + server + `\pipe\` + name
	nt := `\??\UNC\` + server + `\pipe\` + name
	if server == "." {
		nt = `\??\pipe\` + name
	}
	quality := &windows.SECURITY_QUALITY_OF_SERVICE{
		ImpersonationLevel: windows.SecurityImpersonation, ContextTrackingMode: windows.SECURITY_STATIC_TRACKING,
	}
	quality.Length = uint32(unsafe.Sizeof(*quality))
	if identify {
		quality.ImpersonationLevel = windows.SecurityIdentification
	}
	h, s, err := cancellable(ctx, func() (windows.Handle, smb2.Status) {
		return createFile(nt, windows.FILE_GENERIC_READ|windows.FILE_GENERIC_WRITE, 0, quality)
	})
	if s == statusInstanceNotAvailable || s == smb2.StatusPipeBusy {
		s = smb2.StatusPipeNotAvailable
	}
	if err != nil || s != smb2.StatusSuccess {
		return nil, &smb2.Error{Op: smb2.OpOpenPipe, Path: path, Status: s, Err: err}
	}
	if err := messageMode(h); err != nil {
		_ = windows.CloseHandle(h)
		return nil, &smb2.Error{Op: smb2.OpOpenPipe, Path: path, Err: err}
	}
	// An *os.File on a handle for overlapped operations has deadlines, and cancels pending
	// operations with CancelIoEx.
	return os.NewFile(uintptr(h), path), nil
}

// messageMode switches a pipe to message mode. It fails for a handle that the system takes for a
// file, since an *os.File would not read and write that concurrently.
func messageMode(h windows.Handle) error {
	kind, err := windows.GetFileType(h)
	if err != nil || kind != windows.FILE_TYPE_PIPE {
		return fmt.Errorf("the system does not recognize it as a pipe (type %d, %v)", kind, err)
	}
	mode := uint32(windows.PIPE_READMODE_MESSAGE)
	if err := windows.SetNamedPipeHandleState(h, &mode, nil, nil); err != nil {
		return fmt.Errorf("message mode: %w", err)
	}
	return nil
}

// cancellable runs a call that opens something, and cancels it when the context ends.
func cancellable[T any](ctx context.Context, f func() (T, smb2.Status)) (T, smb2.Status, error) {
	var none T
	if ctx.Err() != nil {
		return none, 0, context.Cause(ctx)
	}
	if ctx.Done() == nil {
		v, s := f()
		return v, s, nil
	}
	// The thread is the caller's own, for its impersonation.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var thread windows.Handle
	self := windows.CurrentProcess()
	err := windows.DuplicateHandle(self, windows.CurrentThread(), self, &thread, 0, false,
		windows.DUPLICATE_SAME_ACCESS)
	if err != nil {
		return none, 0, fmt.Errorf("handle of the thread: %w", err)
	}
	ended, watched := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(watched)
		for {
			procCancelSynchronousIo.Call(uintptr(thread))
			select {
			case <-ended:
				return
			case <-time.After(cancelInterval): // the call may not have begun
			}
		}
	})
	v, s := f()
	close(ended)
	if !stop() {
		<-watched
	}
	_ = windows.CloseHandle(thread)
	if s == smb2.StatusCancelled {
		return none, 0, context.Cause(ctx)
	}
	return v, s, nil
}
