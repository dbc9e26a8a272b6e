//go:build !windows && (!unix || solaris || aix)

package provider

import (
	"errors"
	"os"
)

func defaultTurnDir() (string, error) { return "", errors.ErrUnsupported }

func tryLock(string) (*os.File, error) { return nil, errors.ErrUnsupported }
