package smbpipe

import "fmt"

// A Status is an NTSTATUS of an SMB server (MS-ERREF 2.3).
type Status uint32

// Statuses that something depends on here.
const (
	statusEndOfFile          Status = 0xC0000011
	statusInvalidDevice      Status = 0xC0000010
	statusNoSuchFile         Status = 0xC000000F
	statusMoreProcessing     Status = 0xC0000016
	statusAccessDenied       Status = 0xC0000022
	statusObjectNameNotFound Status = 0xC0000034
	statusObjectPathNotFound Status = 0xC000003A
	statusNoSuchUser         Status = 0xC0000064
	statusWrongPassword      Status = 0xC000006A
	statusLogonFailure       Status = 0xC000006D
	statusPasswordExpired    Status = 0xC0000071
	statusAccountDisabled    Status = 0xC0000072
	statusPipeNotAvailable   Status = 0xC00000AC
	statusPipeDisconnected   Status = 0xC00000B0
	statusPipeClosing        Status = 0xC00000B1
	statusNotSupported       Status = 0xC00000BB
	statusNetNameDeleted     Status = 0xC00000C9
	statusBadNetworkName     Status = 0xC00000CC
	statusTimeDifference     Status = 0xC0000133
	statusPipeBroken         Status = 0xC000014B
	statusAccountExpired     Status = 0xC0000193
	statusConnDisconnected   Status = 0xC000020C
	statusConnReset          Status = 0xC000020D
	statusPasswordMustChange Status = 0xC0000224
	statusAccountLocked      Status = 0xC0000234
	statusConnRefused        Status = 0xC0000236
	statusSessionExpired     Status = 0xC000035C
)

var statusNames = map[Status]string{
	statusEndOfFile:          "STATUS_END_OF_FILE",
	statusInvalidDevice:      "STATUS_INVALID_DEVICE_REQUEST",
	statusNoSuchFile:         "STATUS_NO_SUCH_FILE",
	statusMoreProcessing:     "STATUS_MORE_PROCESSING_REQUIRED",
	statusAccessDenied:       "STATUS_ACCESS_DENIED",
	statusObjectNameNotFound: "STATUS_OBJECT_NAME_NOT_FOUND",
	statusObjectPathNotFound: "STATUS_OBJECT_PATH_NOT_FOUND",
	statusNoSuchUser:         "STATUS_NO_SUCH_USER",
	statusWrongPassword:      "STATUS_WRONG_PASSWORD",
	statusLogonFailure:       "STATUS_LOGON_FAILURE",
	statusPasswordExpired:    "STATUS_PASSWORD_EXPIRED",
	statusAccountDisabled:    "STATUS_ACCOUNT_DISABLED",
	statusPipeNotAvailable:   "STATUS_PIPE_NOT_AVAILABLE",
	statusPipeDisconnected:   "STATUS_PIPE_DISCONNECTED",
	statusPipeClosing:        "STATUS_PIPE_CLOSING",
	statusNotSupported:       "STATUS_NOT_SUPPORTED",
	statusNetNameDeleted:     "STATUS_NETWORK_NAME_DELETED",
	statusBadNetworkName:     "STATUS_BAD_NETWORK_NAME",
	statusTimeDifference:     "STATUS_TIME_DIFFERENCE_AT_DC",
	statusPipeBroken:         "STATUS_PIPE_BROKEN",
	statusAccountExpired:     "STATUS_ACCOUNT_EXPIRED",
	statusConnDisconnected:   "STATUS_CONNECTION_DISCONNECTED",
	statusConnReset:          "STATUS_CONNECTION_RESET",
	statusPasswordMustChange: "STATUS_PASSWORD_MUST_CHANGE",
	statusAccountLocked:      "STATUS_ACCOUNT_LOCKED_OUT",
	statusConnRefused:        "STATUS_CONNECTION_REFUSED",
	statusSessionExpired:     "STATUS_NETWORK_SESSION_EXPIRED",
}

// String returns the name in MS-ERREF with the number, or the number alone.
func (s Status) String() string {
	if n, ok := statusNames[s]; ok {
		return fmt.Sprintf("%s (0x%08X)", n, uint32(s))
	}
	return fmt.Sprintf("NTSTATUS 0x%08X", uint32(s))
}

// isEnd tells whether a pipe's other end is closed.
func (s Status) isEnd() bool {
	switch s {
	case statusEndOfFile, statusPipeDisconnected, statusPipeClosing, statusPipeBroken, statusConnDisconnected, statusConnReset:
		return true
	}
	return false
}
