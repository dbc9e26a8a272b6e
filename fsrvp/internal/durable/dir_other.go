//go:build !unix

package durable

const canSyncDir = false

func ignoreUnsupported(err error) error { return err }
