package dcerpctest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A Peer is one end of a conversation in PDUs, legal or not, for a test of a server or client at
// the other end. It is not safe for concurrent use.
type Peer struct {
	Conn net.Conn
	// Timeout bounds each Send and Receive; zero means 10 s.
	Timeout time.Duration

	framer *pdu.Framer
}

// NewPeer returns a Peer on conn.
func NewPeer(conn net.Conn) *Peer {
	return &Peer{Conn: conn, framer: pdu.NewFramer(conn, 0)}
}

func (p *Peer) setDeadline() error {
	limit := p.Timeout
	if limit == 0 {
		limit = 10 * time.Second
	}
	return p.Conn.SetDeadline(time.Now().Add(limit))
}

// Send writes PDUs, each with one Write. A [*pdu.Raw] is written as it stands.
func (p *Peer) Send(pdus ...pdu.PDU) error {
	for _, one := range pdus {
		b, err := one.AppendBinary(nil)
		if err != nil {
			return err
		}
		if err := p.SendBytes(b); err != nil {
			return err
		}
	}
	return nil
}

// SendBytes writes b with one Write.
func (p *Peer) SendBytes(b []byte) error {
	if err := p.setDeadline(); err != nil {
		return err
	}
	_, err := p.Conn.Write(b)
	return err
}

// ReceiveBytes returns the next PDU's bytes, which are the caller's.
func (p *Peer) ReceiveBytes() ([]byte, error) {
	if err := p.setDeadline(); err != nil {
		return nil, err
	}
	_, b, err := p.framer.Next()
	return bytes.Clone(b), err
}

// Receive returns the next PDU.
func (p *Peer) Receive() (pdu.PDU, error) {
	b, err := p.ReceiveBytes()
	if err != nil {
		return nil, err
	}
	return pdu.Parse(b)
}

// ReceiveEnd returns nil if the other side has ended the connection properly: the next read returns
// [io.EOF], and neither a PDU nor a reset.
func (p *Peer) ReceiveEnd() error {
	got, err := p.Receive()
	switch {
	case err == nil:
		return fmt.Errorf("dcerpctest: %v in place of the end of the connection", got.Head().Type)
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("dcerpctest: the connection did not end properly: %w", err)
	}
	return nil
}

// ReceiveNothing returns nil if nothing arrives during d.
func (p *Peer) ReceiveNothing(d time.Duration) error {
	if p.framer.Buffered() > 0 {
		return errors.New("dcerpctest: an unexpected PDU")
	}
	if err := p.Conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	n, err := p.Conn.Read(make([]byte, 1))
	var timeout net.Error
	if n > 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
		return fmt.Errorf("dcerpctest: read %d unexpected bytes (%v)", n, err)
	}
	return nil
}

// Close closes the connection.
func (p *Peer) Close() error { return p.Conn.Close() }

// A Script is a conversation as one side sees it: the Peer sends and receives in the order of its
// steps until one fails.
type Script []Step

// A Step is one step of a Script.
type Step func(*Peer) error

// Play runs a script. Its error names the step that failed, counted from 1.
func (p *Peer) Play(s Script) error {
	for i, step := range s {
		if err := step(p); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}

// Send returns the step that sends PDUs.
func Send(pdus ...pdu.PDU) Step {
	return func(p *Peer) error { return p.Send(pdus...) }
}

// SendBytes returns the step that sends bytes with one Write.
func SendBytes(b []byte) Step {
	return func(p *Peer) error { return p.SendBytes(b) }
}

// Expect returns the step that receives a PDU of type P and passes it to check, which may be nil.
func Expect[P pdu.PDU](check func(P) error) Step {
	return func(p *Peer) error {
		got, err := p.Receive()
		if err != nil {
			return err
		}
		want, ok := got.(P)
		if !ok {
			return fmt.Errorf("dcerpctest: %T, want %T", got, want)
		}
		if check == nil {
			return nil
		}
		return check(want)
	}
}

// ExpectEnd returns the step that expects the proper end of the connection.
func ExpectEnd() Step {
	return func(p *Peer) error { return p.ReceiveEnd() }
}

// ExpectNothing returns the step in which nothing must arrive during d.
func ExpectNothing(d time.Duration) Step {
	return func(p *Peer) error { return p.ReceiveNothing(d) }
}

// Hangup returns the step that closes the connection.
func Hangup() Step {
	return func(p *Peer) error { return p.Close() }
}
