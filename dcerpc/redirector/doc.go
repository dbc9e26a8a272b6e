// Package redirector opens files and pipes of SMB servers by the SMB client of Windows itself, its
// redirector: with the log-on of the process, or of the thread where it impersonates somebody. What
// it returns are package smb2's names for things, errors and statuses among them, so that
// [github.com/go-fsrvp/go-fsrvp/fsrvp/sharefs] and [github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe]
// work alike with either.
//
// Names go to the system as they are, up to 32767 UTF-16 units, without the interpretations of
// Win32: no limit of 260, no devices such as NUL, no dots and spaces cut off.
//
// The system's calls are documented ones of ntdll.dll. They block a thread each, and are cancelled
// when their context ends. Handles are closed with what they belong to, or when that is garbage.
//
// The package can be imported on every system. On others than Windows its functions return errors
// that match [errors.ErrUnsupported].
package redirector
