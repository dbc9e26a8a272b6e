package krb5

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/messages"
)

// maxKDCReply bounds what a KDC may send: a ticket with a PAC of a thousand groups has some 12 KB.
const maxKDCReply = 1 << 20

// A kdcDialer finds and asks KDCs. It uses only TCP, which every KDC must support (RFC 4120 section
// 7.2.2), because tickets with a PAC fit into no datagram. It does not use gokrb5's transport,
// which knows no context and believes any length.
type kdcDialer struct {
	cfg      *config.Config
	resolver *net.Resolver
	timeout  time.Duration // for one KDC
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
}

// ask sends a request to the KDCs of a realm, one after the other, until one answers. A KRB-ERROR
// is an answer, and is returned as an error of type messages.KRBError.
func (d *kdcDialer) ask(ctx context.Context, realm string, req []byte) ([]byte, error) {
	kdcs, err := d.locate(ctx, realm)
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, address := range kdcs {
		reply, err := d.askOne(ctx, address, req)
		if err == nil {
			var e messages.KRBError
			if len(reply) > 0 && reply[0] == tagKRBError && e.Unmarshal(reply) == nil {
				return nil, e
			}
			return reply, nil
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("krb5: %w: realm %s: %w", ErrUnreachable, realm,
				errors.Join(append(failures, ctx.Err())...))
		}
	}
	return nil, fmt.Errorf("krb5: %w: realm %s; see [realms] in krb5.conf, and whether TCP port 88 is open: %w",
		ErrUnreachable, realm, errors.Join(failures...))
}

// locate lists the KDCs of a realm: from the configuration or, if the configuration allows it, from
// the DNS.
func (d *kdcDialer) locate(ctx context.Context, realm string) ([]string, error) {
	for _, r := range d.cfg.Realms {
		if r.Realm == realm && len(r.KDC) > 0 {
			return r.KDC, nil
		}
	}
	if !d.cfg.LibDefaults.DNSLookupKDC {
		return nil, fmt.Errorf("krb5: %w: no KDC of realm %s is configured; add it to [realms] in krb5.conf, or set dns_lookup_kdc",
			ErrConfig, realm)
	}
	// The final dot keeps resolvers from using their search lists. Every KDC accepts TCP, whatever
	// the DNS lists.
	name := strings.TrimSuffix(realm, ".") + "."
	_, records, err := d.resolver.LookupSRV(ctx, "kerberos", "tcp", name)
	if len(records) == 0 {
		if _, other, otherErr := d.resolver.LookupSRV(ctx, "kerberos", "udp", name); otherErr == nil {
			records, err = other, nil
		}
	}
	if err == nil && len(records) == 0 {
		err = errors.New("no SRV record")
	}
	if err != nil {
		return nil, fmt.Errorf("krb5: %w: no KDC of realm %s is configured, and the DNS has none; add it to [realms] in krb5.conf: %w",
			ErrUnreachable, realm, err)
	}
	var out []string
	for _, r := range records {
		out = append(out, net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port))))
	}
	return out, nil
}

// askOne exchanges one request and its reply, each after its length in 4 bytes.
func (d *kdcDialer) askOne(ctx context.Context, address string, req []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	conn, err := d.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	msg := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(req)), uint32(len(req)))
	if _, err := conn.Write(append(msg, req...)); err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxKDCReply {
		return nil, fmt.Errorf("%s: a reply of %d bytes", address, n)
	}
	reply, err := io.ReadAll(io.LimitReader(conn, int64(n)))
	if err == nil && len(reply) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	return reply, nil
}
