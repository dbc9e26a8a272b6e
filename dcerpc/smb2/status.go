package smb2

import "fmt"

// A Status is an NTSTATUS (MS-ERREF 2.3). As an error it gives its name and, if the name does not
// make it clear, what can be done.
type Status uint32

// The statuses that something depends on.
const (
	StatusSuccess               Status = 0x00000000
	StatusPending               Status = 0x00000103 // another response will follow
	StatusNotifyEnumDir         Status = 0x0000010C
	StatusBufferOverflow        Status = 0x80000005 // there is more than what was asked for
	StatusNoMoreFiles           Status = 0x80000006
	StatusStoppedOnSymlink      Status = 0x8000002D
	StatusNotImplemented        Status = 0xC0000002
	StatusInvalidInfoClass      Status = 0xC0000003
	StatusInfoLengthMismatch    Status = 0xC0000004
	StatusInvalidParameter      Status = 0xC000000D
	StatusNoSuchDevice          Status = 0xC000000E
	StatusNoSuchFile            Status = 0xC000000F
	StatusInvalidDeviceRequest  Status = 0xC0000010
	StatusEndOfFile             Status = 0xC0000011
	StatusMoreProcessing        Status = 0xC0000016
	StatusAccessDenied          Status = 0xC0000022
	StatusBufferTooSmall        Status = 0xC0000023
	StatusObjectNameInvalid     Status = 0xC0000033
	StatusObjectNameNotFound    Status = 0xC0000034
	StatusObjectPathNotFound    Status = 0xC000003A
	StatusSharingViolation      Status = 0xC0000043
	StatusDeletePending         Status = 0xC0000056
	StatusPrivilegeNotHeld      Status = 0xC0000061
	StatusNoSuchUser            Status = 0xC0000064
	StatusWrongPassword         Status = 0xC000006A
	StatusLogonFailure          Status = 0xC000006D
	StatusAccountRestriction    Status = 0xC000006E
	StatusInvalidLogonHours     Status = 0xC000006F
	StatusInvalidWorkstation    Status = 0xC0000070
	StatusPasswordExpired       Status = 0xC0000071
	StatusAccountDisabled       Status = 0xC0000072
	StatusDiskFull              Status = 0xC000007F
	StatusNoLogonServers        Status = 0xC000005E
	StatusInsufficientResources Status = 0xC000009A
	StatusDeviceDataError       Status = 0xC000009C
	StatusPipeNotAvailable      Status = 0xC00000AC
	StatusPipeBusy              Status = 0xC00000AE
	StatusPipeDisconnected      Status = 0xC00000B0
	StatusPipeClosing           Status = 0xC00000B1
	StatusIOTimeout             Status = 0xC00000B5
	StatusFileIsADirectory      Status = 0xC00000BA
	StatusNotSupported          Status = 0xC00000BB
	StatusNetworkBusy           Status = 0xC00000BF
	StatusNetworkNameDeleted    Status = 0xC00000C9
	StatusNetworkAccessDenied   Status = 0xC00000CA
	StatusBadNetworkName        Status = 0xC00000CC
	StatusRequestNotAccepted    Status = 0xC00000D0
	StatusNotADirectory         Status = 0xC0000103
	StatusCancelled             Status = 0xC0000120
	StatusFileClosed            Status = 0xC0000128
	StatusTimeDifference        Status = 0xC0000133
	StatusPipeBroken            Status = 0xC000014B
	StatusFSDriverRequired      Status = 0xC000019C
	StatusAccountExpired        Status = 0xC0000193
	StatusLogonTypeNotGranted   Status = 0xC000015B
	StatusUserSessionDeleted    Status = 0xC0000203
	StatusConnDisconnected      Status = 0xC000020C
	StatusConnReset             Status = 0xC000020D
	StatusPasswordMustChange    Status = 0xC0000224
	StatusAccountLockedOut      Status = 0xC0000234
	StatusConnRefused           Status = 0xC0000236
	StatusPathNotCovered        Status = 0xC0000257
	StatusNotAReparsePoint      Status = 0xC0000275
	StatusNetworkSessionExpired Status = 0xC000035C
	StatusDowngradeDetected     Status = 0xC0000388
	StatusFileNotAvailable      Status = 0xC0000467
	StatusNoPreauthHashOverlap  Status = 0xC05D0000
)

type statusText struct{ name, hint string }

var statusTexts = map[Status]statusText{
	StatusSuccess:        {"STATUS_SUCCESS", ""},
	StatusPending:        {"STATUS_PENDING", ""},
	StatusNotifyEnumDir:  {"STATUS_NOTIFY_ENUM_DIR", ""},
	StatusBufferOverflow: {"STATUS_BUFFER_OVERFLOW", ""},
	StatusNoMoreFiles:    {"STATUS_NO_MORE_FILES", ""},
	StatusStoppedOnSymlink: {"STATUS_STOPPED_ON_SYMLINK",
		"the path leads over a symbolic link; read the link's target and open that"},
	StatusNotImplemented:     {"STATUS_NOT_IMPLEMENTED", ""},
	StatusInvalidInfoClass:   {"STATUS_INVALID_INFO_CLASS", ""},
	StatusInfoLengthMismatch: {"STATUS_INFO_LENGTH_MISMATCH", ""},
	StatusInvalidParameter:   {"STATUS_INVALID_PARAMETER", "the server refuses the request as malformed"},
	StatusNoSuchDevice: {"STATUS_NO_SUCH_DEVICE",
		"the disk behind the share is gone; look at the server's log"},
	StatusNoSuchFile:           {"STATUS_NO_SUCH_FILE", ""},
	StatusInvalidDeviceRequest: {"STATUS_INVALID_DEVICE_REQUEST", ""},
	StatusEndOfFile:            {"STATUS_END_OF_FILE", ""},
	StatusMoreProcessing:       {"STATUS_MORE_PROCESSING_REQUIRED", ""},
	StatusAccessDenied:         {"STATUS_ACCESS_DENIED", ""},
	StatusBufferTooSmall:       {"STATUS_BUFFER_TOO_SMALL", ""},
	StatusObjectNameInvalid:    {"STATUS_OBJECT_NAME_INVALID", "the server does not allow this name"},
	StatusObjectNameNotFound:   {"STATUS_OBJECT_NAME_NOT_FOUND", ""},
	StatusObjectPathNotFound:   {"STATUS_OBJECT_PATH_NOT_FOUND", ""},
	StatusSharingViolation: {"STATUS_SHARING_VIOLATION",
		"another program has the file open and does not share it; read it from an exposed shadow copy"},
	StatusDeletePending: {"STATUS_DELETE_PENDING", "the file is about to be deleted"},
	StatusPrivilegeNotHeld: {"STATUS_PRIVILEGE_NOT_HELD",
		"the account needs the privilege to back up files, as Backup Operators have it, or to manage auditing for a SACL"},
	StatusNoSuchUser:    {"STATUS_NO_SUCH_USER", ""},
	StatusWrongPassword: {"STATUS_WRONG_PASSWORD", ""},
	StatusLogonFailure:  {"STATUS_LOGON_FAILURE", ""},
	StatusAccountRestriction: {"STATUS_ACCOUNT_RESTRICTION",
		"a policy forbids this log-on: an empty password, NTLM, or the account's restrictions"},
	StatusInvalidLogonHours:  {"STATUS_INVALID_LOGON_HOURS", "the account may not log on at this time of day"},
	StatusInvalidWorkstation: {"STATUS_INVALID_WORKSTATION", "the account may not log on from this machine"},
	StatusPasswordExpired:    {"STATUS_PASSWORD_EXPIRED", "change the account's password"},
	StatusPasswordMustChange: {"STATUS_PASSWORD_MUST_CHANGE", "change the account's password"},
	StatusAccountDisabled:    {"STATUS_ACCOUNT_DISABLED", "have the account enabled"},
	StatusAccountExpired:     {"STATUS_ACCOUNT_EXPIRED", "have the account enabled"},
	StatusAccountLockedOut:   {"STATUS_ACCOUNT_LOCKED_OUT", "have the account unlocked"},
	StatusLogonTypeNotGranted: {"STATUS_LOGON_TYPE_NOT_GRANTED",
		"give the account the right to access this computer from the network"},
	StatusNoLogonServers: {"STATUS_NO_LOGON_SERVERS", "the server reaches no domain controller; check it there"},
	StatusTimeDifference: {"STATUS_TIME_DIFFERENCE_AT_DC", "check the clocks"},
	StatusDiskFull:       {"STATUS_DISK_FULL", "the server's disk is full"},
	StatusInsufficientResources: {"STATUS_INSUFFICIENT_RESOURCES",
		"the server is short of memory or of handles; try again later or with fewer files at once"},
	StatusDeviceDataError: {"STATUS_DEVICE_DATA_ERROR",
		"the server cannot read its disk; look at the server's log"},
	StatusIOTimeout: {"STATUS_IO_TIMEOUT", "the server's disk does not answer; look at the server's log"},
	StatusPipeNotAvailable: {"STATUS_PIPE_NOT_AVAILABLE",
		"the service takes no more connections at the moment, or is starting"},
	StatusPipeBusy:         {"STATUS_PIPE_BUSY", ""},
	StatusPipeDisconnected: {"STATUS_PIPE_DISCONNECTED", ""},
	StatusPipeClosing:      {"STATUS_PIPE_CLOSING", ""},
	StatusPipeBroken:       {"STATUS_PIPE_BROKEN", ""},
	StatusFileIsADirectory: {"STATUS_FILE_IS_A_DIRECTORY", "it is a directory"},
	StatusNotADirectory:    {"STATUS_NOT_A_DIRECTORY", "it is no directory"},
	StatusNotSupported: {"STATUS_NOT_SUPPORTED",
		"the server cannot do it; no dialect, or no algorithm, may be common to both"},
	StatusNetworkBusy: {"STATUS_NETWORK_BUSY", "try again later"},
	StatusNetworkNameDeleted: {"STATUS_NETWORK_NAME_DELETED",
		"the server has removed the share, or disconnected all that used it"},
	StatusNetworkAccessDenied: {"STATUS_NETWORK_ACCESS_DENIED",
		"the server requires encryption or more than this session has"},
	StatusBadNetworkName: {"STATUS_BAD_NETWORK_NAME", "the server has no such share"},
	StatusRequestNotAccepted: {"STATUS_REQUEST_NOT_ACCEPTED",
		"the server or the share has as many connections as it takes; try again later"},
	StatusCancelled:          {"STATUS_CANCELLED", ""},
	StatusFileClosed:         {"STATUS_FILE_CLOSED", ""},
	StatusFSDriverRequired:   {"STATUS_FS_DRIVER_REQUIRED", ""},
	StatusUserSessionDeleted: {"STATUS_USER_SESSION_DELETED", "the server has ended the session; dial again"},
	StatusConnDisconnected:   {"STATUS_CONNECTION_DISCONNECTED", ""},
	StatusConnReset:          {"STATUS_CONNECTION_RESET", ""},
	StatusConnRefused:        {"STATUS_CONNECTION_REFUSED", ""},
	StatusPathNotCovered:     {"STATUS_PATH_NOT_COVERED", "it is in DFS on another server; dial that one's share"},
	StatusNotAReparsePoint:   {"STATUS_NOT_A_REPARSE_POINT", "it is no reparse point"},
	StatusNetworkSessionExpired: {"STATUS_NETWORK_SESSION_EXPIRED",
		"the session has outlived its ticket; log in again"},
	StatusDowngradeDetected: {"STATUS_DOWNGRADE_DETECTED", "somebody has changed the negotiation on its way"},
	StatusFileNotAvailable: {"STATUS_FILE_NOT_AVAILABLE",
		"the file's data is in a cloud or on a tape that the server cannot reach"},
	StatusNoPreauthHashOverlap: {"STATUS_SMB_NO_PREAUTH_INTEGRITY_HASH_OVERLAP", "the server has none of the hashes"},
}

// String returns the name in MS-ERREF with the number, or the number alone.
func (s Status) String() string {
	if t, ok := statusTexts[s]; ok {
		return fmt.Sprintf("%s (0x%08X)", t.name, uint32(s))
	}
	return fmt.Sprintf("NTSTATUS 0x%08X", uint32(s))
}

// Error returns the same as String.
func (s Status) Error() string { return s.String() }

// IsError reports whether the severity is error, rather than success, information or warning.
func (s Status) IsError() bool { return s>>30 == 3 }
