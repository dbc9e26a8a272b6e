//go:build !linux

package main

import (
	"context"
	"errors"
	"net"
)

func listenUnix(string) (net.Listener, error) { return nil, errors.ErrUnsupported }

func dialUnix(context.Context, string) (net.Conn, error) { return nil, errNotRunning }

func isNotRunning(err error) bool { return errors.Is(err, errNotRunning) }

func checkPeer(net.Conn) error { return errors.ErrUnsupported }
