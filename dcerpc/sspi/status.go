package sspi

import "fmt"

// A Status is a SECURITY_STATUS. As an error it gives its name, what it means and what to do about
// it.
type Status uint32

// Statuses that programs may want to match.
const (
	StatusOK                Status = 0x00000000 // SEC_E_OK
	StatusContinueNeeded    Status = 0x00090312 // SEC_I_CONTINUE_NEEDED
	StatusCompleteNeeded    Status = 0x00090313 // SEC_I_COMPLETE_NEEDED
	StatusCompleteContinue  Status = 0x00090314 // SEC_I_COMPLETE_AND_CONTINUE
	StatusLocalLogon        Status = 0x00090315 // SEC_I_LOCAL_LOGON
	StatusInvalidHandle     Status = 0x80090301 // SEC_E_INVALID_HANDLE
	StatusUnsupported       Status = 0x80090302 // SEC_E_UNSUPPORTED_FUNCTION
	StatusTargetUnknown     Status = 0x80090303 // SEC_E_TARGET_UNKNOWN
	StatusPackageNotFound   Status = 0x80090305 // SEC_E_SECPKG_NOT_FOUND
	StatusInvalidToken      Status = 0x80090308 // SEC_E_INVALID_TOKEN
	StatusNoImpersonation   Status = 0x8009030B // SEC_E_NO_IMPERSONATION
	StatusLogonDenied       Status = 0x8009030C // SEC_E_LOGON_DENIED
	StatusNoCredentials     Status = 0x8009030E // SEC_E_NO_CREDENTIALS
	StatusMessageAltered    Status = 0x8009030F // SEC_E_MESSAGE_ALTERED
	StatusOutOfSequence     Status = 0x80090310 // SEC_E_OUT_OF_SEQUENCE
	StatusNoAuthority       Status = 0x80090311 // SEC_E_NO_AUTHENTICATING_AUTHORITY
	StatusContextExpired    Status = 0x80090317 // SEC_E_CONTEXT_EXPIRED
	StatusBufferTooSmall    Status = 0x80090321 // SEC_E_BUFFER_TOO_SMALL
	StatusWrongPrincipal    Status = 0x80090322 // SEC_E_WRONG_PRINCIPAL
	StatusTimeSkew          Status = 0x80090324 // SEC_E_TIME_SKEW
	StatusDowngradeDetected Status = 0x80090350 // SEC_E_DOWNGRADE_DETECTED
	StatusInvalidParameter  Status = 0x8009035D // SEC_E_INVALID_PARAMETER
	statusMutualAuthFailed  Status = 0x80090363 // SEC_E_MUTUAL_AUTH_FAILED
)

// The advice that several statuses share.
const (
	adviseReport   = "this is a fault of the program or of the package; report it"
	adviseCert     = "have the administrator of the domain look at its certificates"
	adviseCard     = "log on again, by password or with a smart card that works"
	adviseDC       = "check that this machine reaches a domain controller and has joined the domain; look at the System event log for Kerberos and Netlogon"
	advisePassword = "check user, domain and password; the account may be disabled, locked, expired or not allowed to log on from here"
	adviseTokens   = "the peer's token was damaged on its way, or is of another mechanism; check that both sides use the same one"
	adviseSPN      = "check the server's name, its full DNS name is best, and that the service principal name is registered for one account alone (setspn -Q, setspn -X)"
	adviseEtypes   = "allow a common encryption type, AES, for the account (msDS-SupportedEncryptionTypes) and by the policy for Kerberos"
)

type statusText struct{ name, meaning, advice string }

// statusTexts has all statuses of winerror.h between 0x80090300 and 0x8009036B.
var statusTexts = map[Status]statusText{
	0x00000000: {"SEC_E_OK", "success", ""},
	0x00090312: {"SEC_I_CONTINUE_NEEDED", "a token of the peer is needed", ""},
	0x00090313: {"SEC_I_COMPLETE_NEEDED", "the token must be completed", ""},
	0x00090314: {"SEC_I_COMPLETE_AND_CONTINUE", "the token must be completed, and a token of the peer is needed", ""},
	0x00090315: {"SEC_I_LOCAL_LOGON", "this machine checked the log-on itself, without a domain controller",
		""},
	0x00090316: {"SEC_I_GENERIC_EXTENSION_RECEIVED", "the peer's token had an extension", adviseReport},
	0x00090317: {"SEC_I_CONTEXT_EXPIRED", "the peer has ended the context", "connect again"},
	0x00090320: {"SEC_I_INCOMPLETE_CREDENTIALS", "the server wants other credentials", advisePassword},
	0x00090321: {"SEC_I_RENEGOTIATE", "the peer wants to negotiate again", "connect again"},
	0x00090323: {"SEC_I_NO_LSA_CONTEXT", "the context is not known to the system", "connect again"},
	0x0009035C: {"SEC_I_SIGNATURE_NEEDED", "a signature must be made and exchanged", adviseReport},
	0x00090360: {"SEC_I_NO_RENEGOTIATION", "the peer does not negotiate again", "connect again"},
	0x00090364: {"SEC_I_MESSAGE_FRAGMENT", "the message is a fragment", adviseReport},
	0x00090366: {"SEC_I_CONTINUE_NEEDED_MESSAGE_OK", "a token of the peer is needed", adviseReport},
	0x00090368: {"SEC_I_ASYNC_CALL_PENDING", "the call goes on by itself", adviseReport},
	0x80090300: {"SEC_E_INSUFFICIENT_MEMORY", "the system is short of memory",
		"end other programs, or try again later"},
	0x80090301: {"SEC_E_INVALID_HANDLE", "the handle does not belong to an existing context or credentials", adviseReport},
	0x80090302: {"SEC_E_UNSUPPORTED_FUNCTION", "the package does not have this function",
		"use another package, or Windows in place of Wine"},
	0x80090303: {"SEC_E_TARGET_UNKNOWN", "the domain knows no such service", adviseSPN},
	0x80090304: {"SEC_E_INTERNAL_ERROR", "the Local Security Authority failed", adviseDC},
	0x80090305: {"SEC_E_SECPKG_NOT_FOUND", "the system has no such security package",
		"use Negotiate, Kerberos or NTLM, and see whether a policy has disabled it"},
	0x80090306: {"SEC_E_NOT_OWNER", "the credentials belong to somebody else",
		"run the program as the account that they belong to"},
	0x80090307: {"SEC_E_CANNOT_INSTALL", "the package cannot be initialized", adviseDC},
	0x80090308: {"SEC_E_INVALID_TOKEN", "the peer's token is malformed", adviseTokens},
	0x80090309: {"SEC_E_CANNOT_PACK", "the package cannot hand its state over", adviseReport},
	0x8009030A: {"SEC_E_QOP_NOT_SUPPORTED", "the context does not encrypt or sign",
		"demand encryption on both sides, or see whether a policy forbids it"},
	0x8009030B: {"SEC_E_NO_IMPERSONATION", "the client does not allow impersonation",
		"let the client allow at least identification"},
	0x8009030C: {"SEC_E_LOGON_DENIED", "the log-on was refused", advisePassword},
	0x8009030D: {"SEC_E_UNKNOWN_CREDENTIALS", "the package does not know such credentials",
		"give the user, domain and password of an account of your domain, or none of the three"},
	0x8009030E: {"SEC_E_NO_CREDENTIALS", "there are no credentials",
		"log on to the domain, run the service as an account of it or as NetworkService, or give user and password; under Wine, run kinit"},
	0x8009030F: {"SEC_E_MESSAGE_ALTERED", "the message was changed on its way",
		"if it happens with every message, switch header signing off: the other side may not support it"},
	0x80090310: {"SEC_E_OUT_OF_SEQUENCE", "the message is not the next one: repeated, lost or out of order",
		"if it happens again, look for a machine in between that changes the traffic"},
	0x80090311: {"SEC_E_NO_AUTHENTICATING_AUTHORITY", "no domain controller answers for the account", adviseDC},
	0x80090316: {"SEC_E_BAD_PKGID", "the system has no such security package", adviseReport},
	0x80090317: {"SEC_E_CONTEXT_EXPIRED", "the context has expired",
		"connect again; if that does not help, log on again, as the ticket may have expired"},
	0x80090318: {"SEC_E_INCOMPLETE_MESSAGE", "the message or the token is incomplete", adviseTokens},
	0x80090320: {"SEC_E_INCOMPLETE_CREDENTIALS", "the credentials are incomplete", advisePassword},
	0x80090321: {"SEC_E_BUFFER_TOO_SMALL", "a buffer is too small",
		"with tickets that hold many groups, raise MaxTokenSize (48000) or put the account into fewer groups"},
	0x80090322: {"SEC_E_WRONG_PRINCIPAL", "the ticket is for another server", adviseSPN},
	0x80090324: {"SEC_E_TIME_SKEW", "the clocks of client and server or domain controller differ by too much",
		"set both clocks (w32tm /resync)"},
	0x80090325: {"SEC_E_UNTRUSTED_ROOT", "a certificate is from an authority that is not trusted", adviseCert},
	0x80090326: {"SEC_E_ILLEGAL_MESSAGE", "the message was unexpected or malformed", adviseTokens},
	0x80090327: {"SEC_E_CERT_UNKNOWN", "a certificate could not be read", adviseCert},
	0x80090328: {"SEC_E_CERT_EXPIRED", "a certificate has expired", adviseCert},
	0x80090329: {"SEC_E_ENCRYPT_FAILURE", "the message could not be encrypted", "connect again"},
	0x80090330: {"SEC_E_DECRYPT_FAILURE", "the message could not be decrypted",
		"connect again; the peer may have another key"},
	0x80090331: {"SEC_E_ALGORITHM_MISMATCH", "client and server have no algorithm in common", adviseEtypes},
	0x80090332: {"SEC_E_SECURITY_QOS_FAILED", "the requested security is not possible",
		"see whether a policy forbids it, or ask for less"},
	0x80090333: {"SEC_E_UNFINISHED_CONTEXT_DELETED", "the context was deleted before it was established",
		"connect again"},
	0x80090334: {"SEC_E_NO_TGT_REPLY", "the server did not send its ticket-granting ticket",
		"log on again on the server"},
	0x80090335: {"SEC_E_NO_IP_ADDRESSES", "this machine has no IP address", "connect it to the network"},
	0x80090336: {"SEC_E_WRONG_CREDENTIAL_HANDLE", "the credentials are not those of the context", adviseReport},
	0x80090337: {"SEC_E_CRYPTO_SYSTEM_INVALID", "the system's cryptography does not work",
		"have the administrator look at the Cryptographic Services"},
	0x80090338: {"SEC_E_MAX_REFERRALS_EXCEEDED", "domain controllers referred to each other in a circle",
		"have the trusts between the domains looked at"},
	0x80090339: {"SEC_E_MUST_BE_KDC", "only a domain controller may do this", adviseDC},
	0x8009033A: {"SEC_E_STRONG_CRYPTO_NOT_SUPPORTED", "the other side has no strong cryptography", adviseEtypes},
	0x8009033B: {"SEC_E_TOO_MANY_PRINCIPALS", "a reply was for more than one principal", adviseSPN},
	0x8009033C: {"SEC_E_NO_PA_DATA", "the domain controller did not say how to prove the log-on", adviseDC},
	0x8009033D: {"SEC_E_PKINIT_NAME_MISMATCH", "the certificate is another user's", adviseCard},
	0x8009033E: {"SEC_E_SMARTCARD_LOGON_REQUIRED", "the account may log on only with a smart card",
		"use an account that has a password"},
	0x8009033F: {"SEC_E_SHUTDOWN_IN_PROGRESS", "the system is shutting down", "try again when it is up"},
	0x80090340: {"SEC_E_KDC_INVALID_REQUEST", "the domain controller found the request invalid", adviseDC},
	0x80090341: {"SEC_E_KDC_UNABLE_TO_REFER", "the domain controller does not know which domain the service is in",
		adviseSPN},
	0x80090342: {"SEC_E_KDC_UNKNOWN_ETYPE", "the domain controller has no encryption type in common with the account",
		adviseEtypes},
	0x80090343: {"SEC_E_UNSUPPORTED_PREAUTH",
		"the domain controller wants a proof of the log-on that this machine does not have", adviseDC},
	0x80090345: {"SEC_E_DELEGATION_REQUIRED", "the server asked to act for the client on other servers, and may not",
		"do not use delegation, or have the account trusted for it"},
	0x80090346: {"SEC_E_BAD_BINDINGS", "the channel bindings do not match the channel",
		"look for a machine in between, or for a policy on extended protection"},
	0x80090347: {"SEC_E_MULTIPLE_ACCOUNTS", "the name belongs to more than one account", adviseSPN},
	0x80090348: {"SEC_E_NO_KERB_KEY", "the account has no key for Kerberos",
		"change the account's password once, which creates the keys"},
	0x80090349: {"SEC_E_CERT_WRONG_USAGE", "the certificate is for another use", adviseCert},
	0x80090350: {"SEC_E_DOWNGRADE_DETECTED", "somebody may have made the machines use weaker security", adviseDC},
	0x80090351: {"SEC_E_SMARTCARD_CERT_REVOKED", "the smart card's certificate was revoked", adviseCard},
	0x80090352: {"SEC_E_ISSUING_CA_UNTRUSTED", "the smart card's authority is not trusted", adviseCert},
	0x80090353: {"SEC_E_REVOCATION_OFFLINE_C", "it cannot be determined whether the smart card's certificate was revoked",
		adviseCert},
	0x80090354: {"SEC_E_PKINIT_CLIENT_FAILURE", "the smart card could not be used", adviseCard},
	0x80090355: {"SEC_E_SMARTCARD_CERT_EXPIRED", "the smart card's certificate has expired", adviseCard},
	0x80090356: {"SEC_E_NO_S4U_PROT_SUPPORT", "the domain controller cannot log on for others", adviseDC},
	0x80090357: {"SEC_E_CROSSREALM_DELEGATION_FAILURE", "delegation to another domain is not allowed",
		"do not use delegation, or use a service of the same domain"},
	0x80090358: {"SEC_E_REVOCATION_OFFLINE_KDC",
		"it cannot be determined whether the domain controller's certificate was revoked", adviseCert},
	0x80090359: {"SEC_E_ISSUING_CA_UNTRUSTED_KDC", "the domain controller's authority is not trusted", adviseCert},
	0x8009035A: {"SEC_E_KDC_CERT_EXPIRED", "the domain controller's certificate has expired", adviseCert},
	0x8009035B: {"SEC_E_KDC_CERT_REVOKED", "the domain controller's certificate was revoked", adviseCert},
	0x8009035D: {"SEC_E_INVALID_PARAMETER", "a parameter was invalid", adviseReport},
	0x8009035E: {"SEC_E_DELEGATION_POLICY", "a policy forbids delegation", "do without delegation"},
	0x8009035F: {"SEC_E_POLICY_NLTM_ONLY", "a policy allows only NTLM", "use NTLM, or have the policy changed"},
	0x80090361: {"SEC_E_NO_CONTEXT", "the package has no such context", "connect again"},
	0x80090362: {"SEC_E_PKU2U_CERT_FAILURE", "a certificate of PKU2U could not be used", adviseCert},
	0x80090363: {"SEC_E_MUTUAL_AUTH_FAILED", "the server could not prove who it is", adviseSPN},
	0x80090365: {"SEC_E_ONLY_HTTPS_ALLOWED", "only HTTPS is allowed", adviseReport},
	0x80090367: {"SEC_E_APPLICATION_PROTOCOL_MISMATCH", "client and server have no protocol in common", adviseReport},
	0x80090369: {"SEC_E_INVALID_UPN_NAME", "the user's principal name is malformed", "write it as user@domain"},
	0x8009036A: {"SEC_E_EXT_BUFFER_TOO_SMALL", "a buffer is too small", adviseReport},
	0x8009036B: {"SEC_E_INSUFFICIENT_BUFFERS", "there are too few buffers", adviseReport},
}

// String returns the name in winerror.h with the number, or only the number.
func (s Status) String() string {
	if t, ok := statusTexts[s]; ok {
		return fmt.Sprintf("%s (0x%08X)", t.name, uint32(s))
	}
	return fmt.Sprintf("SECURITY_STATUS 0x%08X", uint32(s))
}

// Error returns a sentence: what the status means, what to do, and its name.
func (s Status) Error() string {
	t, ok := statusTexts[s]
	switch {
	case !ok && s>>28 == 0xC: // Wine's
		return fmt.Sprintf("NTSTATUS 0x%08X; check user, password and whether a domain controller can be reached",
			uint32(s))
	case !ok:
		return fmt.Sprintf("%s; run \"certutil -error 0x%08X\" to see what it means", s.String(), uint32(s))
	case t.advice == "":
		return t.meaning + ": " + s.String()
	}
	return t.meaning + ": " + s.String() + "; " + t.advice
}

// succeeded reports whether the status is a success.
func (s Status) succeeded() bool { return s>>31 == 0 }

// An Error says which system function failed, and why. [errors.Is] matches its Status.
type Error struct {
	Function string  // of secur32.dll, "InitializeSecurityContext"
	Package  Package // in use
	Target   string  // the service principal name, of an initiator
	Status   Status
}

// Error returns all of it in one line.
func (e *Error) Error() string {
	at := string(e.Package)
	if e.Target != "" {
		at += " to " + e.Target
	}
	return fmt.Sprintf("sspi: %s: %s: %v", at, e.Function, e.Status)
}

// Unwrap returns Status.
func (e *Error) Unwrap() error { return e.Status }
