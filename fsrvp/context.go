package fsrvp

import (
	"fmt"
	"strings"
)

// A ContextValue is the kind of shadow copies in a set: one of the four contexts (MS-FSRVP
// 2.2.2.2), optionally with one of the two recovery attributes. It is a mask of attributes.
type ContextValue uint32

// The attributes of shadow copies (MS-FSRVP 2.2.2.1).
const (
	AttrPersistent     ContextValue = 0x00000001 // survives restarts of the server
	AttrNoAutoRecovery ContextValue = 0x00000002 // read-only
	AttrNoAutoRelease  ContextValue = 0x00000008 // is kept when nobody uses it any more
	AttrNoWriters      ContextValue = 0x00000010 // no application took part
	AttrAutoRecovery   ContextValue = 0x00400000 // the client may write from Expose to RecoveryComplete
)

// The contexts (MS-FSRVP 2.2.2.2).
const (
	ContextBackup          ContextValue = 0
	ContextFileShareBackup              = AttrNoWriters
	ContextNASRollback                  = AttrPersistent | AttrNoAutoRelease | AttrNoWriters
	ContextAppRollback                  = AttrPersistent | AttrNoAutoRelease
)

// Base returns the context without the recovery attributes.
func (c ContextValue) Base() ContextValue { return c &^ (AttrAutoRecovery | AttrNoAutoRecovery) }

// Valid reports whether c is one of the four contexts with at most one of the recovery attributes.
// SetContext with another value fails with [ErrUnsupportedContext].
func (c ContextValue) Valid() bool {
	if c.AutoRecovery() && c.NoAutoRecovery() {
		return false
	}
	switch c.Base() {
	case ContextBackup, ContextFileShareBackup, ContextNASRollback, ContextAppRollback:
		return true
	}
	return false
}

// Persistent reports whether the copies survive restarts of the server.
func (c ContextValue) Persistent() bool { return c&AttrPersistent != 0 }

// NoAutoRecovery reports whether the copies are to be read-only.
func (c ContextValue) NoAutoRecovery() bool { return c&AttrNoAutoRecovery != 0 }

// NoAutoRelease reports whether the copies are kept when nobody uses them any more.
func (c ContextValue) NoAutoRelease() bool { return c&AttrNoAutoRelease != 0 }

// NoWriters reports whether the copies are made without the participation of applications.
func (c ContextValue) NoWriters() bool { return c&AttrNoWriters != 0 }

// AutoRecovery reports whether the client may write to the copies until RecoveryComplete.
func (c ContextValue) AutoRecovery() bool { return c&AttrAutoRecovery != 0 }

// String returns the context and its recovery attribute, "NAS_ROLLBACK|AUTO_RECOVERY"; for an
// invalid value, its attributes and the remaining bits, "PERSISTENT|0x100".
func (c ContextValue) String() string {
	var parts []string
	if c.Valid() {
		switch c.Base() {
		case ContextBackup:
			parts = append(parts, "BACKUP")
		case ContextFileShareBackup:
			parts = append(parts, "FILE_SHARE_BACKUP")
		case ContextNASRollback:
			parts = append(parts, "NAS_ROLLBACK")
		case ContextAppRollback:
			parts = append(parts, "APP_ROLLBACK")
		}
		c &= AttrAutoRecovery | AttrNoAutoRecovery
	}
	for _, a := range [...]struct {
		bit  ContextValue
		name string
	}{
		{AttrPersistent, "PERSISTENT"},
		{AttrNoAutoRelease, "NO_AUTO_RELEASE"},
		{AttrNoWriters, "NO_WRITERS"},
		{AttrNoAutoRecovery, "NO_AUTO_RECOVERY"},
		{AttrAutoRecovery, "AUTO_RECOVERY"},
	} {
		if c&a.bit != 0 {
			parts = append(parts, a.name)
			c &^= a.bit
		}
	}
	if c != 0 {
		parts = append(parts, fmt.Sprintf("0x%X", uint32(c)))
	}
	return strings.Join(parts, "|")
}

// Compatibility says which operations are disabled on a volume that has shadow copies (MS-FSRVP
// 2.2.2.3).
type Compatibility uint32

// The compatibility flags.
const (
	DisableDefrag       Compatibility = 0x1 // no defragmentation
	DisableContentIndex Compatibility = 0x2 // no indexing
)

// String returns the flags, "DISABLE_DEFRAG|DISABLE_CONTENTINDEX", or "0".
func (c Compatibility) String() string {
	var parts []string
	if c&DisableDefrag != 0 {
		parts = append(parts, "DISABLE_DEFRAG")
	}
	if c&DisableContentIndex != 0 {
		parts = append(parts, "DISABLE_CONTENTINDEX")
	}
	if rest := c &^ (DisableDefrag | DisableContentIndex); rest != 0 {
		parts = append(parts, fmt.Sprintf("0x%X", uint32(rest)))
	}
	if len(parts) == 0 {
		return "0"
	}
	return strings.Join(parts, "|")
}
