// Package redirector opens files and pipes of SMB servers with Windows' own SMB client, the
// redirector. It uses the log-on of the process, or of the thread if that impersonates a user. It
// uses the types of package smb2, including errors and statuses, so that
// [github.com/go-fsrvp/go-fsrvp/fsrvp/sharefs] and [github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe]
// work alike with either.
//
// Names go to the system unchanged, up to 32,767 UTF-16 units, without Win32's interpretation: no
// limit of 260 units, no devices such as NUL, no removal of trailing dots and spaces.
//
// The package calls documented functions of ntdll.dll. Each call blocks a thread, and is cancelled
// when its context ends. A handle is closed with its owner, or when that is garbage collected.
//
// The package can be imported on every system. On systems other than Windows its functions return
// errors that match [errors.ErrUnsupported].
package redirector
