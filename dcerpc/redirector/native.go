package redirector

import "github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"

// A native is an open file of the system: functions of ntdll.dll, one method each. Tests use a
// fake. It is safe for concurrent use; close is called once, when no other call is in progress.
type native interface {
	// queryInformation fills out with information of a class (MS-FSCC 2.4), and returns their
	// number.
	queryInformation(class uint32, out []byte) (int, smb2.Status)
	// queryDirectory fills out with entries of FileIdBothDirectoryInformation.
	queryDirectory(restart bool, out []byte) (int, smb2.Status)
	// querySecurity fills out with parts of the descriptor, and returns the number of bytes that
	// they need.
	querySecurity(parts uint32, out []byte) (int, smb2.Status)
	// control is a control code of the file system (MS-FSCC 2.3).
	control(code uint32, in, out []byte) (int, smb2.Status)
	read(off int64, out []byte) (int, smb2.Status)
	// cancel ends the calls in progress with StatusCancelled.
	cancel()
	close()
}

// Information classes (MS-FSCC 2.4).
const (
	classBasic        = 4  // FileBasicInformation
	classStandard     = 5  // FileStandardInformation
	classStream       = 22 // FileStreamInformation
	classNetworkOpen  = 34 // FileNetworkOpenInformation
	classAttributeTag = 35 // FileAttributeTagInformation
)

// A system opens files of servers.
type system interface {
	// open opens a file or directory by its server, its share, and its name, with backslashes.
	open(server, share, name string, o *smb2.OpenOptions) (native, smb2.Status)
}
