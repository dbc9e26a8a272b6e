//go:build !linux

package writer

import "errors"

func enterNamespace() {}

func agentMain() error { return errors.ErrUnsupported }
