package fsrvp

import "strconv"

// An Opnum is the number of a method in the interface (MS-FSRVP 3.1.4).
type Opnum uint16

// The methods.
const (
	OpGetSupportedVersion Opnum = iota
	OpSetContext
	OpStartShadowCopySet
	OpAddToShadowCopySet
	OpCommitShadowCopySet
	OpExposeShadowCopySet
	OpRecoveryCompleteShadowCopySet
	OpAbortShadowCopySet
	OpIsPathSupported
	OpIsPathShadowCopied
	OpGetShareMapping
	OpDeleteShareMapping
	OpPrepareShadowCopySet

	opnums // the number of methods
)

// String returns the method's name in the standard, or "opnum 13".
func (op Opnum) String() string {
	switch op {
	case OpGetSupportedVersion:
		return "GetSupportedVersion"
	case OpSetContext:
		return "SetContext"
	case OpStartShadowCopySet:
		return "StartShadowCopySet"
	case OpAddToShadowCopySet:
		return "AddToShadowCopySet"
	case OpCommitShadowCopySet:
		return "CommitShadowCopySet"
	case OpExposeShadowCopySet:
		return "ExposeShadowCopySet"
	case OpRecoveryCompleteShadowCopySet:
		return "RecoveryCompleteShadowCopySet"
	case OpAbortShadowCopySet:
		return "AbortShadowCopySet"
	case OpIsPathSupported:
		return "IsPathSupported"
	case OpIsPathShadowCopied:
		return "IsPathShadowCopied"
	case OpGetShareMapping:
		return "GetShareMapping"
	case OpDeleteShareMapping:
		return "DeleteShareMapping"
	case OpPrepareShadowCopySet:
		return "PrepareShadowCopySet"
	}
	return "opnum " + strconv.Itoa(int(op))
}

// Valid reports whether the interface has a method with this number.
func (op Opnum) Valid() bool { return op < opnums }
