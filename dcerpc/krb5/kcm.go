package krb5

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"
	"time"
)

// defaultKCMSocket is where Heimdal's kcm and sssd-kcm listen.
const defaultKCMSocket = "/var/run/.heim_org.h5l.kcm-socket"

// The limits of a cache manager.
const (
	kcmTimeout  = 10 * time.Second // for a whole cache
	maxKCMReply = 1 << 20
	maxKCMCreds = 4096
)

// A kcmOp is an operation of the cache manager's protocol, which is Heimdal's.
type kcmOp uint16

const (
	kcmPrincipal    kcmOp = 8
	kcmCredUUIDs    kcmOp = 9
	kcmCredByUUID   kcmOp = 10
	kcmDefaultCache kcmOp = 20
)

const kcmUUIDSize = 16

// The error codes of MIT's library that mean that something does not exist.
const (
	codeCCEnd      = -1765328242 // KRB5_CC_END
	codeCCNotFound = -1765328243 // KRB5_CC_NOTFOUND
	codeFCCNoFile  = -1765328189 // KRB5_FCC_NOFILE
)

// A kcmError is an error code of the cache manager.
type kcmError int32

func (e kcmError) Error() string {
	return fmt.Sprintf("the cache manager refused the request with the code %d", int32(e))
}

// absent reports whether the manager has no such thing.
func (e kcmError) absent() bool { return e == codeCCEnd || e == codeCCNotFound || e == codeFCCNoFile }

// readKCM reads a cache from the cache manager. An empty name means the user's default one.
func readKCM(ctx context.Context, socket, name string) (*ccache, error) {
	c, err := readKCMCache(ctx, socket, name)
	if err != nil {
		return nil, ccacheError("KCM:"+name, err)
	}
	return c, nil
}

func readKCMCache(ctx context.Context, socket, name string) (*ccache, error) {
	ctx, cancel := context.WithTimeout(ctx, kcmTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			err = fmt.Errorf("no cache manager listens at %s; start sssd-kcm, or run kinit with KRB5CCNAME=FILE:/path: %w", socket, err)
		}
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	k := &kcm{conn}
	c, err := k.cache(name)
	if ctx.Err() != nil {
		err = fmt.Errorf("the cache manager at %s: %w", socket, context.Cause(ctx))
	}
	return c, err
}

// A kcm is a connection to the cache manager.
type kcm struct{ conn net.Conn }

func (k *kcm) cache(name string) (*ccache, error) {
	if name == "" {
		b, err := k.call(kcmDefaultCache, nil)
		if err != nil {
			return nil, absentCCache(err)
		}
		end := bytes.IndexByte(b, 0)
		if end < 0 {
			return nil, errKCMReply
		}
		name = string(b[:end])
	}
	id := append([]byte(name), 0)
	b, err := k.call(kcmPrincipal, id)
	if err != nil {
		return nil, absentCCache(err)
	}
	if len(b) == 0 { // Heimdal's, of a cache that is not there
		return nil, errEmptyCCache
	}
	r := &ccacheReader{b: b}
	c := &ccache{client: r.principal()}
	if r.bad || len(c.client.Name) == 0 {
		return nil, errKCMReply
	}
	uuids, err := k.call(kcmCredUUIDs, id)
	if err != nil {
		return nil, absentCCache(err)
	}
	if len(uuids)%kcmUUIDSize != 0 || len(uuids)/kcmUUIDSize > maxKCMCreds {
		return nil, errKCMReply
	}
	for ; len(uuids) > 0; uuids = uuids[kcmUUIDSize:] {
		b, err := k.call(kcmCredByUUID, append(id, uuids[:kcmUUIDSize]...))
		if e := kcmError(0); errors.As(err, &e) && e.absent() {
			continue // it was removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		t, err := parseCredential(b)
		if err != nil {
			return nil, err
		}
		if t != nil {
			c.tickets = append(c.tickets, t)
		}
	}
	return c, nil
}

// absentCCache returns errEmptyCCache for a code of the manager that means that there is no such
// cache.
func absentCCache(err error) error {
	if e := kcmError(0); errors.As(err, &e) && e.absent() {
		return errEmptyCCache
	}
	return err
}

var errKCMReply = errors.New("the cache manager's reply is malformed")

// call makes one request, and returns what follows the code in the reply:
//
//	+--------+-------+-------+-----------+-----------+     +--------+----------+------+-----------
//	| length | major | minor | operation | arguments |     | length | failure  | code | results
//	| 4      | 1     | 1     | 2         |           |     | 4      | 4 (*)    | 4    |
//	+--------+-------+-------+-----------+-----------+     +--------+----------+------+-----------
//	(*) of the transport; the length does not count it
func (k *kcm) call(op kcmOp, args []byte) ([]byte, error) {
	req := binary.BigEndian.AppendUint32(nil, uint32(4+len(args)))
	req = append(req, 2, 0)
	req = binary.BigEndian.AppendUint16(req, uint16(op))
	if _, err := k.conn.Write(append(req, args...)); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(k.conn, head[:]); err != nil {
		return nil, fmt.Errorf("the cache manager's reply: %w", err)
	}
	n, failure := binary.BigEndian.Uint32(head[:]), int32(binary.BigEndian.Uint32(head[4:]))
	if failure != 0 {
		return nil, kcmError(failure)
	}
	if n < 4 || n > maxKCMReply {
		return nil, errKCMReply
	}
	reply, err := io.ReadAll(io.LimitReader(k.conn, int64(n)))
	if err == nil && len(reply) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("the cache manager's reply: %w", err)
	}
	if code := int32(binary.BigEndian.Uint32(reply)); code != 0 {
		return nil, kcmError(code)
	}
	return reply[4:], nil
}
