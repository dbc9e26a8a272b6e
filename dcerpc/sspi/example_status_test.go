package sspi_test

import (
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/sspi"
)

// An error of the system says what failed and what to do, and matches its status.
func ExampleError() {
	var err error = &sspi.Error{
		Function: "InitializeSecurityContext",
		Package:  sspi.Kerberos,
		Target:   "host/fs1.example.com",
		Status:   sspi.StatusTimeSkew,
	}
	err = fmt.Errorf("backup: %w", err)
	fmt.Println(errors.Is(err, sspi.StatusTimeSkew))
	fmt.Println(sspi.StatusTimeSkew.String())
	// Output:
	// true
	// SEC_E_TIME_SKEW (0x80090324)
}

// Credentials never show their password.
func ExampleCredentials() {
	c := &sspi.Credentials{Domain: "EXAMPLE", User: "backup", Password: "secret"}
	fmt.Printf("%v %+v\n", c, *c)
	// Output:
	// EXAMPLE\backup EXAMPLE\backup
}
