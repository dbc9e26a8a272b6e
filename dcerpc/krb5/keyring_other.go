//go:build !linux

package krb5

import "errors"

func readKeyring(name string) (*ccache, error) {
	return nil, ccacheError("KEYRING:"+name, errors.New("keyrings are Linux's; run kinit with KRB5CCNAME=FILE:/path"))
}
