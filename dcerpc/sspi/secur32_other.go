//go:build !windows

package sspi

import (
	"errors"
	"fmt"
	"runtime"
)

func newSecur32() (secur32, error) {
	return nil, fmt.Errorf("sspi: %s has no SSPI; use packages krb5, ntlm and spnego: %w", runtime.GOOS,
		errors.ErrUnsupported)
}
