//go:build linux

package peers

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Dial connects from the host, from within this process. The address's host is that of a host of
// the network, by its name (short or long) or its address.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	address, err := h.net.resolve(address)
	if err != nil {
		return nil, err
	}
	var c net.Conn
	err = h.inNetwork(func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Listen listens on the host, from within this process: ":0" is any free port of its addresses.
func (h *Host) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var l net.Listener
	err := h.inNetwork(func() (err error) {
		l, err = new(net.ListenConfig).Listen(ctx, network, address)
		return err
	})
	return l, err
}

// ListenPacket is Listen for datagrams.
func (h *Host) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	var c net.PacketConn
	err := h.inNetwork(func() (err error) {
		c, err = new(net.ListenConfig).ListenPacket(ctx, network, address)
		return err
	})
	return c, err
}

// inNetwork calls f in the host's network namespace. A socket belongs to the namespace in which it
// was made, whoever uses it later; f must make it in its own goroutine, as package net does for a
// literal address.
func (h *Host) inNetwork(f func() error) error {
	done := make(chan error)
	go func() {
		// Unlocked only once the thread is back where it was; otherwise it ends with the goroutine.
		runtime.LockOSThread()
		back, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer back.Close()
		there, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", h.pid))
		if err != nil {
			done <- err
			return
		}
		defer there.Close()
		if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("network namespace of %s: %w", h.Name, err)
			return
		}
		err = f()
		if unix.Setns(int(back.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// resolve replaces the name of a host by its address.
func (n *Network) resolve(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	for _, h := range n.hosts {
		if host == h.Name || host == h.FQDN {
			return net.JoinHostPort(h.Addr.String(), port), nil
		}
	}
	if net.ParseIP(host) == nil {
		return "", &net.DNSError{Err: "no such host in testdata/peers/etc/hosts", Name: host, IsNotFound: true}
	}
	return address, nil
}
