//go:build !unix

package recordfile

const noFollow = 0

func explain(_ string, err error) error { return err }
