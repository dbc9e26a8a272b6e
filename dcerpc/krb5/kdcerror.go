package krb5

import (
	"errors"
	"fmt"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/messages"
)

// explainKDC explains a KDC's error to the user who wanted a ticket. It returns other errors
// unchanged. Service is empty for a login.
func explainKDC(err error, client Principal, service string) error {
	var e messages.KRBError
	if !errors.As(err, &e) {
		return err
	}
	who := client.String()
	switch e.ErrorCode {
	case errorcode.KDC_ERR_PREAUTH_FAILED:
		return fmt.Errorf("krb5: %w for %s; give the account's present password, or a keytab exported since it was set: %w",
			ErrPassword, who, err)
	case errorcode.KDC_ERR_KEY_EXPIRED:
		return fmt.Errorf("krb5: %w for %s; set a new one: %w", ErrPasswordAge, who, err)
	case errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN:
		return fmt.Errorf("krb5: %w %s; see how the account is written, and its realm: %w", ErrClientUnknown, who, err)
	case errorcode.KDC_ERR_WRONG_REALM:
		return fmt.Errorf("krb5: %w %s; its account is in another realm: %w", ErrClientUnknown, who, err)
	case errorcode.KDC_ERR_CLIENT_REVOKED, errorcode.KDC_ERR_NAME_EXP:
		return fmt.Errorf("krb5: %w: %s; ask the realm's administrator: %w", ErrClientRevoked, who, err)
	case errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN, errorcode.KDC_ERR_SERVER_NOMATCH:
		return fmt.Errorf("krb5: %w %s, asked for by %s; register it with the server's account, or use the name that it has: %w",
			ErrServiceUnknown, service, who, err)
	case errorcode.KDC_ERR_ETYPE_NOSUPP, errorcode.KDC_ERR_NULL_KEY:
		return fmt.Errorf("krb5: %w: the KDC has no key of those that %s asked for (%s); set the account's encryption types: %w",
			ErrEtype, who, orLogin(service), err)
	case errorcode.KRB_AP_ERR_SKEW:
		return fmt.Errorf("krb5: %w: the KDC of %s refused the time of this host, %s; set the clock: %w",
			ErrSkew, who, time.Now().UTC().Format(time.RFC3339), err)
	case errorcode.KRB_AP_ERR_TKT_EXPIRED, errorcode.KDC_ERR_NEVER_VALID:
		return fmt.Errorf("krb5: %w: that of %s; log in again (kinit): %w", ErrExpired, who, err)
	case errorcode.KRB_AP_ERR_TKT_NYV:
		return fmt.Errorf("krb5: %w: that of %s; set the clock: %w", ErrNotYetValid, who, err)
	}
	return fmt.Errorf("krb5: the KDC refused %s a ticket (%s): %w", who, orLogin(service), err)
}

func orLogin(service string) string {
	if service == "" {
		return "its login"
	}
	return "for " + service
}
