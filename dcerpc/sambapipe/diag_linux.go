package sambapipe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// A tcpSocket is the kernel's description of a TCP socket.
type tcpSocket struct {
	channel
	state  uint8
	cookie [8]byte // unique, even among later sockets with the same addresses
	inode  uint32
}

// anyCookie stands for any socket (INET_DIAG_NOCOOKIE).
var anyCookie = [8]byte{255, 255, 255, 255, 255, 255, 255, 255}

// stateEstablished is TCP_ESTABLISHED. In every other state one of the ends has gone, or the
// connection is ending; smbd ends a connection whose client has stopped sending.
const stateEstablished = 1

// From linux/sock_diag.h and linux/inet_diag.h.
const (
	sockDiagByFamily = 20
	diagRequestSize  = 56
	diagAnswerSize   = 72
)

var errNoSocket = errors.New("no such socket")

// A diag asks the kernel for the TCP sockets of a network namespace (sock_diag(7)). Looking up one
// socket by its addresses and cookie is exact, unlike /proc/net/tcp, in which lines can be missed
// while other sockets come and go. A diag is safe for concurrent use.
type diag struct {
	mu  sync.Mutex
	fd  int // -1 if closed
	seq uint32
	buf []byte
}

// openDiag opens a diag in a network namespace. It fails if this process may not enter that
// namespace.
func openDiag(namespace string) (*diag, error) {
	there, err := os.Stat(namespace)
	if err != nil {
		return nil, err
	}
	here, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	open := openNetlink
	if !os.SameFile(here, there) {
		open = func() (int, error) { return within(namespace, openNetlink) }
	}
	fd, err := open()
	if err != nil {
		return nil, err
	}
	return &diag{fd: fd, buf: make([]byte, 32<<10)}, nil
}

func openNetlink() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	// The kernel answers during the request; the time-out is only a safeguard.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("setsockopt", err)
	}
	return fd, nil
}

// within calls f in another network namespace; a socket made by f stays in that namespace.
func within(namespace string, f func() (int, error)) (fd int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Unlock the thread only when it is back in its namespace; otherwise it must end with the
		// goroutine.
		runtime.LockOSThread()
		back, errBack := os.Open("/proc/thread-self/ns/net")
		there, errThere := os.Open(namespace)
		if err = errors.Join(errBack, errThere); err == nil {
			if err = unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err == nil {
				fd, err = f()
			}
			if unix.Setns(int(back.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
		}
		back.Close()
		there.Close()
	}()
	<-done
	return fd, err
}

func (d *diag) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd >= 0 {
		unix.Close(d.fd)
		d.fd = -1
	}
}

// find returns the socket of a channel, in any state. If there is none, or it has another cookie,
// the error is errNoSocket.
func (d *diag) find(c channel, cookie [8]byte) (tcpSocket, error) {
	var found tcpSocket
	err := d.ask(appendRequest(nil, c, cookie, 0), false, func(s tcpSocket) { found = s })
	if err == nil && found.channel != c {
		err = errNoSocket // without a connection, the kernel returns the listening socket
	}
	return found, err
}

// established returns the connected sockets with a local port.
func (d *diag) established(port uint16) ([]tcpSocket, error) {
	var all []tcpSocket
	for _, a := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		c := channel{local: netip.AddrPortFrom(a, port), remote: netip.AddrPortFrom(a, 0)}
		err := d.ask(appendRequest(nil, c, anyCookie, 1<<stateEstablished), true,
			func(s tcpSocket) { all = append(all, s) })
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// appendRequest appends an inet_diag_req_v2:
//
//	| family | protocol | extensions | pad | states, 4 |
//	| local port, 2 | remote port, 2 | local address, 16 | remote address, 16 | interface, 4 | cookie, 8 |
//
// Ports and addresses are in network order, the rest is the machine's.
func appendRequest(b []byte, c channel, cookie [8]byte, states uint32) []byte {
	family := byte(unix.AF_INET6)
	if c.remote.Addr().Is4() {
		family = unix.AF_INET
	}
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, states)
	b = binary.BigEndian.AppendUint16(b, c.local.Port())
	b = binary.BigEndian.AppendUint16(b, c.remote.Port())
	for _, a := range []netip.Addr{c.local.Addr(), c.remote.Addr()} {
		var field [16]byte
		copy(field[:], a.AsSlice())
		b = append(b, field[:]...)
	}
	b = append(b, 0, 0, 0, 0)
	return append(b, cookie[:]...)
}

// parseAnswer parses an inet_diag_msg:
//
//	| family | state | timer | retransmissions | local port to cookie, 48, as above | 16 | inode, 4 |
func parseAnswer(b []byte) (tcpSocket, error) {
	if len(b) < diagAnswerSize {
		return tcpSocket{}, fmt.Errorf("sock_diag: an answer of %d bytes", len(b))
	}
	addr := func(b []byte) netip.Addr { return netip.AddrFrom16([16]byte(b)) }
	if b[0] == unix.AF_INET {
		addr = func(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b)) }
	}
	return tcpSocket{
		channel: channel{
			local:  netip.AddrPortFrom(addr(b[8:24]), binary.BigEndian.Uint16(b[4:])),
			remote: netip.AddrPortFrom(addr(b[24:40]), binary.BigEndian.Uint16(b[6:])),
		},
		state:  b[1],
		cookie: [8]byte(b[44:52]),
		inode:  binary.NativeEndian.Uint32(b[68:]),
	}, nil
}

// ask sends a request and takes its answers; only a dump has several.
func (d *diag) ask(request []byte, dump bool, take func(tcpSocket)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd < 0 {
		return os.ErrClosed
	}
	d.seq++
	flags := uint16(unix.NLM_F_REQUEST)
	if dump {
		flags |= unix.NLM_F_DUMP
	}
	// struct nlmsghdr: | length, 4 | type, 2 | flags, 2 | sequence, 4 | port, 4 |
	b := binary.NativeEndian.AppendUint32(nil, unix.SizeofNlMsghdr+diagRequestSize)
	b = binary.NativeEndian.AppendUint16(b, sockDiagByFamily)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, d.seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	if err := unix.Sendto(d.fd, append(b, request...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	for {
		n, _, flags, _, err := unix.Recvmsg(d.fd, d.buf, nil, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvmsg", err)
		}
		if flags&unix.MSG_TRUNC != 0 {
			return errors.New("sock_diag: an answer is cut off")
		}
		if done, err := d.takeAll(d.buf[:n], dump, take); done || err != nil {
			return err
		}
	}
}

// takeAll takes the answers in one datagram. It reports whether no more follow.
func (d *diag) takeAll(b []byte, dump bool, take func(tcpSocket)) (done bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return false, errors.New("sock_diag: a malformed answer")
		}
		typ, seq, body := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[8:]), b[unix.SizeofNlMsghdr:size]
		b = b[min(len(b), (size+3)&^3):]
		if seq != d.seq {
			continue // an answer to an abandoned request
		}
		switch typ {
		case sockDiagByFamily:
			s, err := parseAnswer(body)
			if err != nil {
				return false, err
			}
			take(s)
			if !dump {
				return true, nil
			}
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return false, errors.New("sock_diag: a malformed error")
			}
			errno := unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
			if errno == unix.ENOENT || errno == unix.ESTALE {
				return true, errNoSocket
			}
			return true, os.NewSyscallError("sock_diag", errno)
		}
	}
	return false, nil
}
