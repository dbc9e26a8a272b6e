package smb2

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// An Exchange transfers messages of a pipe, one operation at a time. Transceive or Read begins an
// operation, in the caller's goroutine if it need not wait, and Wait returns the result. The next
// operation may begin after Wait has returned the result of the last one; apart from that, the
// methods are safe for concurrent use.
type Exchange struct {
	f      *File
	ctx    context.Context // of the operations; ends with Close
	cancel context.CancelFunc
	done   chan answer    // the request's
	failed chan error     // of capacity 1: why an operation did not begin
	later  sync.WaitGroup // goroutines that begin an operation

	mu      sync.Mutex // held while an operation is begun
	closed  bool
	r       request // of the operation
	command Command
	message []byte
	tries   int // sent again, as the session had expired
	gen     int
}

// NewExchange returns an Exchange of a pipe.
func (f *File) NewExchange() *Exchange {
	x := &Exchange{f: f, done: make(chan answer, 1), failed: make(chan error, 1)}
	x.r = request{done: x.done, own: true}
	x.ctx, x.cancel = context.WithCancel(context.Background())
	return x
}

// A PipeMessage is the result of an operation: a message of the pipe, or a part of one.
type PipeMessage struct {
	Data []byte // valid until Release
	a    answer
}

// Release frees the memory of Data. It may be called more than once.
func (m *PipeMessage) Release() {
	m.a.release()
	m.Data = nil
}

// Transceive begins to write a message and to read one in a single round trip. The message must not
// be changed until the operation is over. Sent is called once, when the message was written or will
// not be.
func (x *Exchange) Transceive(message []byte, sent func()) {
	x.begin(CommandIOCTL, message, sent)
}

// Read begins to read a message, or the next part of one.
func (x *Exchange) Read() { x.begin(CommandRead, nil, nil) }

// Message returns the message of the last Transceive.
func (x *Exchange) Message() []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.message
}

func (x *Exchange) begin(command Command, message []byte, sent func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.command, x.message, x.tries = command, message, 0
	begun, err := x.tryLocked()
	if err == nil && !begun && !x.closed {
		x.later.Go(func() { x.beginLater(sent) })
		return
	}
	if err != nil {
		x.fail(err)
	}
	if sent != nil {
		sent()
	}
}

// tryLocked begins the operation unless that would have to wait, for a credit or a log-in.
func (x *Exchange) tryLocked() (begun bool, err error) {
	s := x.f.t.s
	if x.closed || x.f.t.isClosed() {
		return false, net.ErrClosed
	}
	s.mu.Lock()
	gen, renewing := s.gen, s.renewal != nil
	s.mu.Unlock()
	if renewing {
		return false, nil
	}
	res, _, err := s.c.tryReserve(1, 1)
	if err != nil || res.n == 0 {
		return false, err
	}
	return true, x.sendLocked(res, gen)
}

func (x *Exchange) sendLocked(res reservation, gen int) error {
	t := x.f.t
	x.gen = gen
	x.r.reset()
	x.r.patient = true
	var f frame
	f.begin(t.s.c, 128+len(x.message))
	f.append(&x.r, x.command, 1)
	if x.command == CommandRead {
		req := ReadRequest{ID: x.f.id, Length: outputSize}
		f.b, _ = req.AppendBinary(f.b) // has no errors
	} else {
		req := IOCTLRequest{Code: FSCTLPipeTransceive, ID: x.f.id, Input: x.message, MaxOutput: outputSize}
		f.b, _ = req.AppendBinary(f.b) // has no errors
	}
	return t.s.transmit(&f, t.id, res, t.protect)
}

// beginLater begins the operation, and waits for what it needs.
func (x *Exchange) beginLater(sent func()) {
	if sent != nil {
		defer sent()
	}
	s := x.f.t.s
	gen, err := s.ready(x.ctx)
	var res reservation
	if err == nil {
		res, err = s.c.reserve(x.ctx, 1, 1)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if err == nil {
		if x.closed {
			s.spend(res) // its message id must be used
			err = net.ErrClosed
		} else {
			err = x.sendLocked(res, gen)
		}
	}
	if err != nil {
		x.fail(err)
	}
}

// fail has Wait return an error.
func (x *Exchange) fail(err error) {
	select {
	case x.failed <- err:
	default: // there is one, which nobody has waited for
	}
}

// Wait waits for the result of the operation. It may be called before the operation begins. Ok is
// false if one of the channels was closed first; the operation then continues.
func (x *Exchange) Wait(stop, also <-chan struct{}) (m PipeMessage, err error, ok bool) {
	c := x.f.t.s.c
	for {
		select {
		case a := <-x.done:
			if m, err, ok = x.take(a); ok {
				return m, err, true
			}
		case err := <-x.failed:
			return m, err, true
		case buf := <-c.sealed:
			if err := c.open(buf); err != nil {
				c.fail(err)
			}
		case <-stop:
			return m, nil, false
		case <-also:
			return m, nil, false
		case <-c.failed:
			select {
			case a := <-x.done:
				if m, err, ok = x.take(a); ok {
					return m, err, true
				}
			default:
			}
			return m, c.broken(), true
		}
	}
}

// take makes a message of an answer; ok is false where the operation begins again, as the session
// had expired.
func (x *Exchange) take(a answer) (m PipeMessage, err error, ok bool) {
	s := x.f.t.s
	x.mu.Lock()
	defer x.mu.Unlock()
	if a, err = s.c.judge(s.c.authentic(x.r.protect, &a), a); err != nil {
		return m, err, true
	}
	if a.Status == StatusNetworkSessionExpired && x.tries < maxRenewals && !x.closed {
		a.release()
		x.tries++
		gen := x.gen
		x.later.Go(func() {
			if err := s.renew(x.ctx, gen); err != nil {
				x.fail(err)
				return
			}
			x.beginLater(nil)
		})
		return m, nil, false
	}
	if m.Data, err = x.data(&a); err != nil {
		a.release()
		return PipeMessage{}, err, true
	}
	m.a = a
	return m, nil, true
}

func (x *Exchange) data(a *answer) (data []byte, err error) {
	if err := expect(a, StatusBufferOverflow); err != nil { // the rest of the message is to be read
		return nil, err
	}
	missing := 0
	if a.Command == CommandRead {
		var r ReadResponse
		r, err = ParseReadResponse(a.msg)
		data, missing = r.Data, r.Missing
	} else {
		var r IOCTLResponse
		r, err = ParseIOCTLResponse(a.msg)
		data, missing = r.Output, r.Missing
	}
	if err != nil || missing != 0 || len(data) > outputSize {
		return nil, x.f.t.s.malformed(fmt.Errorf("an answer of %d bytes, %d are missing (%w)", len(data), missing, err))
	}
	return data, nil
}

// Close asks the server to cancel the operation. It does not close the pipe.
func (x *Exchange) Close() {
	x.cancel()
	x.mu.Lock()
	if !x.closed {
		x.closed = true
		if a, ok := x.f.t.s.c.abandon(&x.r); ok {
			a.release()
		}
	}
	x.mu.Unlock()
	x.later.Wait()
}
