package ntlm

// negotiateFlags are the NEGOTIATE flags of all three messages (MS-NLMP 2.2.2.5).
type negotiateFlags uint32

// The flags that this package uses. It never agrees on others.
const (
	negotiateUnicode                 negotiateFlags = 0x00000001
	requestTarget                    negotiateFlags = 0x00000004
	negotiateSign                    negotiateFlags = 0x00000010
	negotiateSeal                    negotiateFlags = 0x00000020
	negotiateNTLM                    negotiateFlags = 0x00000200
	anonymous                        negotiateFlags = 0x00000800
	negotiateAlwaysSign              negotiateFlags = 0x00008000
	targetTypeDomain                 negotiateFlags = 0x00010000
	targetTypeServer                 negotiateFlags = 0x00020000
	negotiateExtendedSessionSecurity negotiateFlags = 0x00080000
	negotiateTargetInfo              negotiateFlags = 0x00800000
	negotiateVersion                 negotiateFlags = 0x02000000
	negotiate128                     negotiateFlags = 0x20000000
	negotiateKeyExchange             negotiateFlags = 0x40000000
	negotiate56                      negotiateFlags = 0x80000000
)

// IsSet reports whether all bits of f are set.
func (n negotiateFlags) IsSet(f negotiateFlags) bool { return n&f == f }

// sealingKeySize returns the number of bytes of the session key that go into a sealing key (MS-NLMP
// 3.4.5.3).
func (n negotiateFlags) sealingKeySize() int {
	switch {
	case n.IsSet(negotiate128):
		return 16
	case n.IsSet(negotiate56):
		return 7
	}
	return 5
}

// An avID says what an AV_PAIR is (MS-NLMP 2.2.2.1).
type avID uint16

// The AV_PAIRs.
const (
	msvAvEOL                 avID = 0
	msvAvNetBIOSComputerName avID = 1
	msvAvNetBIOSDomainName   avID = 2
	msvAvDNSComputerName     avID = 3
	msvAvDNSDomainName       avID = 4
	msvAvDNSTreeName         avID = 5
	msvAvFlags               avID = 6
	msvAvTimestamp           avID = 7
	msvAvTargetName          avID = 9
	msvAvChannelBindings     avID = 10
)

// avFlag is the value of MsvAvFlags.
type avFlag uint32

// micProvided says that the AUTHENTICATE_MESSAGE has a MIC.
const micProvided avFlag = 2

// IsSet reports whether all bits of f are set.
func (a avFlag) IsSet(f avFlag) bool { return a&f == f }
