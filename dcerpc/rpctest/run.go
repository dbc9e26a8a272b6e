package rpctest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A Verdict is how a script ended.
type Verdict uint8

// The verdicts.
const (
	Passed Verdict = iota + 1
	Failed
	NotApplicable // the target lacks something, or the script is not for the profile
	KnownFailure  // from Known.Judge: the script fails as expected
)

// String returns "pass", "fail", "n/a" or "known".
func (v Verdict) String() string {
	switch v {
	case Passed:
		return "pass"
	case Failed:
		return "fail"
	case NotApplicable:
		return "n/a"
	case KnownFailure:
		return "known"
	}
	return fmt.Sprintf("verdict %d", uint8(v))
}

// A Result is the result of running a script.
type Result struct {
	Verdict Verdict
	// Err is why the script failed: of type [*Mismatch] if an answer was wrong.
	Err error
	// Reason is the reason in one line; empty if the script passed.
	Reason string
	Took   time.Duration
	// Transcript has the PDUs, one a line, in the order in which they were sent and received.
	Transcript []string
}

// A Mismatch is an answer that differs from the expected one.
type Mismatch struct {
	Script string
	File   string
	Line   int
	Text   string // of the line
	PDU    []byte // what arrived; nil if nothing did
	What   string // the field, or "the answer"
	Want   string
	Got    string
}

func (m *Mismatch) Error() string {
	s := fmt.Sprintf("%s:%d: script %s, %q: %s is %s, want %s", m.File, m.Line, m.Script, m.Text, m.What, m.Got, m.Want)
	if m.PDU != nil {
		s += "; the PDU is " + hexText(m.PDU)
	}
	return s
}

// hexText returns a PDU in short form.
func hexText(b []byte) string {
	const most = 96
	if len(b) > most {
		return fmt.Sprintf("%x... (%d bytes)", b[:most], len(b))
	}
	return fmt.Sprintf("%x", b)
}

// Run plays the script against a target. The context bounds all of it. It closes the connections
// that it makes, and touches nothing else of the target.
func (s *Script) Run(ctx context.Context, t *Target) Result {
	switch {
	case s.side != servers:
		return notApplicable("the script is for a client")
	case s.Profiles != nil && !slices.Contains(s.Profiles, t.profile()):
		return notApplicable("the script is not for the profile " + string(t.profile()))
	}
	if why := t.lacks(s); why != "" {
		return notApplicable(why)
	}
	r := &runner{
		ctx: ctx, script: s, profile: t.profile(), timeout: t.Timeout, target: t,
		interfaces: t.interfaces(), vars: t.vars(), answers: t.Operations.Answer,
	}
	return r.play()
}

func notApplicable(why string) Result { return Result{Verdict: NotApplicable, Reason: why} }

// A runner plays one script.
type runner struct {
	ctx        context.Context
	script     *Script
	profile    Profile
	timeout    time.Duration
	target     *Target       // nil on the side of a server
	client     *clientRunner // nil on the side of a client
	interfaces map[string]pdu.SyntaxID
	answers    func([]byte) []byte
	vars       map[string]value
	seen       map[string]bool // values of variables that must be fresh
	conns      map[string]*conn
	cur        *conn
	security   map[uint32]*security
	log        []string
	step       *step
	received   []byte // the PDU that is looked at
}

// A conn is one connection of a script.
type conn struct {
	*dcerpctest.Peer
	nextCall uint32
	sent     pdu.Header // the last PDU that was sent
	got      pdu.Header // the last one that was received
	exchange uint32     // the call id of the last bind or alter_context
	request  uint32     // the call id of the last request
	contexts map[uint32]uint16
	offered  []pdu.ContextElement // by the last bind or alter_context that was received
	mpx      bool                 // of the last bind that was received
	sign     bool                 // header signing is negotiated
	last     []byte               // what again sends
	later    []byte               // what is sent with the next PDU
}

// play runs all steps.
func (r *runner) play() Result {
	start := time.Now()
	r.seen, r.conns, r.security = map[string]bool{}, map[string]*conn{}, map[uint32]*security{}
	err := r.begin()
	if err == nil {
		err = r.run(r.script.steps)
	}
	for _, c := range r.conns {
		_ = c.Close()
	}
	if r.client != nil {
		err = errors.Join(err, r.client.end())
	}
	res := Result{Verdict: Passed, Took: time.Since(start), Transcript: r.log}
	switch {
	case errors.Is(err, errLostFault):
		res.Verdict, res.Reason = NotApplicable, err.Error()
	case err != nil:
		res.Verdict, res.Err, res.Reason = Failed, err, err.Error()
	}
	return res
}

// begin makes the first connection.
func (r *runner) begin() error {
	if r.client != nil {
		return nil // start connect makes it
	}
	c, err := r.target.Dial(r.ctx)
	if err != nil {
		return fmt.Errorf("script %s: cannot connect: %w", r.script.Name, err)
	}
	r.attach("1", c)
	return nil
}

func (r *runner) attach(name string, c net.Conn) {
	if old := r.conns[name]; old != nil {
		_ = old.Close()
	}
	p := dcerpctest.NewPeer(c)
	p.Timeout = r.timeout
	r.cur = &conn{Peer: p, nextCall: 1, contexts: map[uint32]uint16{}}
	r.conns[name] = r.cur
}

// run runs some steps.
func (r *runner) run(steps []*step) error {
	for _, st := range steps {
		if st.profile != "" && st.profile != r.profile {
			continue
		}
		r.step, r.received = st, nil
		if err := r.ctx.Err(); err != nil {
			return r.errorf("interrupted: %w", err)
		}
		if err := r.do(st); err != nil {
			return err
		}
	}
	return nil
}

// errorf returns an error other than a wrong answer.
func (r *runner) errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d: script %s, %q: %w", r.script.File, r.step.line, r.script.Name, r.step.text,
		fmt.Errorf(format, args...))
}

func (r *runner) mismatch(what, got, want string) error {
	return &Mismatch{
		Script: r.script.Name, File: r.script.File, Line: r.step.line, Text: r.step.text, PDU: r.received,
		What: what, Got: got, Want: want,
	}
}

// do runs one step.
func (r *runner) do(st *step) error {
	switch st.op {
	case opFor:
		return r.loop(st)
	case opEventually:
		return r.eventually(st)
	case opSecurity:
		return r.newSecurity(st)
	case opConnect:
		return r.connect(st)
	case opStart:
		return r.client.start(st)
	case opResult:
		return r.client.result(st)
	}
	if r.cur == nil {
		return r.errorf("there is no connection yet: start connect makes it")
	}
	switch st.op {
	case opUse:
		r.cur = r.conns[st.name]
		if r.cur == nil {
			return r.errorf("there is no connection %s", st.name)
		}
	case opClose:
		if err := r.cur.Close(); err != nil {
			return r.errorf("%w", err)
		}
	case opReset:
		return r.reset()
	case opSend:
		return r.send(st)
	case opSendBytes:
		var b []byte
		for _, p := range st.pattern {
			b = append(b, p.b)
		}
		return r.write(b)
	case opSendAgain:
		if r.cur.last == nil {
			return r.errorf("nothing was sent before that could be sent again")
		}
		return r.write(r.cur.last)
	case opBound:
		return errors.Join(r.send(st), r.expectAck("bind_ack", nil))
	case opSecured:
		return r.secured(st)
	case opExchange:
		s, err := r.securityOf(fmt.Sprint(st.id))
		if err != nil {
			return err
		}
		return r.exchange(st, s)
	case opAlive:
		return r.alive(st)
	default:
		return r.expect(st)
	}
	return nil
}

func (r *runner) loop(st *step) error {
	from, err := r.number(st.from)
	if err != nil {
		return err
	}
	to, err := r.number(st.to)
	if err != nil {
		return err
	}
	if to >= from && to-from >= maxLoop {
		return r.errorf("more than %d times", maxLoop)
	}
	for n := from; n <= to; n++ {
		r.vars[st.name] = numberOf(n)
		if err := r.run(st.body); err != nil {
			return err
		}
	}
	return nil
}

// eventually repeats its lines until they succeed, or the time is over.
func (r *runner) eventually(st *step) error {
	deadline := time.Now().Add(st.wait)
	wait := time.Millisecond
	for {
		err := r.run(st.body)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.ctx.Done():
			timer.Stop()
			return err
		}
		wait = min(2*wait, 100*time.Millisecond)
	}
}

func (r *runner) connect(st *step) error {
	dial := r.target.Dial
	if st.via != "" {
		dial = r.target.Dialers[st.via]
	}
	c, err := dial(r.ctx)
	if err != nil {
		return r.errorf("cannot connect: %w", err)
	}
	r.attach(st.name, c)
	return nil
}

// reset resets the connection if its kind can be reset.
func (r *runner) reset() error {
	switch c := r.cur.Conn.(type) {
	case interface{ Reset() }:
		c.Reset()
	case *net.TCPConn:
		_ = c.SetLinger(0)
		_ = c.Close()
	default:
		_ = c.Close()
	}
	return nil
}

// answer returns the target's answer to a call with a stub.
func (r *runner) answer(stub []byte) value {
	if r.answers == nil {
		return value{kind: data, any: true}
	}
	return dataOf(r.answers(stub))
}

func (r *runner) eval(e *expr) (value, error) {
	v, err := e.eval(r.vars, r.answer)
	if err != nil {
		return v, r.errorf("%w", err)
	}
	return v, nil
}

func (r *runner) number(e *expr) (uint64, error) {
	v, err := r.eval(e)
	return v.num, err
}

// logged adds a PDU to the transcript.
func (r *runner) logged(sign string, b []byte) {
	const most = 4000
	if len(r.log) >= most {
		return
	}
	line := fmt.Sprintf("line %d %s %s", r.step.line, sign, hexText(b))
	if h, err := pdu.ParseHeader(b); err == nil {
		line = fmt.Sprintf("line %d %s %v call_id=%d %s", r.step.line, sign, h.Type, h.CallID, hexText(b))
	}
	r.log = append(r.log, line)
}

// alive makes a call and expects its answer.
func (r *runner) alive(st *step) error {
	call := r.vars["call"]
	if err := r.sendRequest(st, call.num, []byte("alive")); err != nil {
		return err
	}
	b, err := r.receive()
	if err != nil {
		return err
	}
	var auth string
	if f := st.field("auth"); f != nil {
		auth = f.word
	}
	p, err := r.opened(b, auth)
	if err != nil {
		return err
	}
	resp, ok := p.(*pdu.Response)
	if !ok {
		return r.mismatch("the answer", describe(p), "a response")
	}
	if resp.CallID != r.cur.sent.CallID {
		return r.mismatch("call_id", fmt.Sprint(resp.CallID), fmt.Sprint(r.cur.sent.CallID))
	}
	if want := r.answer([]byte("alive")); !want.any && string(want.data) != string(resp.Stub) {
		return r.mismatch("stub", dataText(resp.Stub), dataText(want.data))
	}
	return nil
}

// field returns a field of the line, or nil.
func (st *step) field(name string) *field {
	for i := range st.fields {
		if st.fields[i].name == name {
			return &st.fields[i]
		}
	}
	return nil
}

// protects reports whether PDUs are signed at a level.
func protects(level dcerpc.AuthLevel) bool { return level >= dcerpc.LevelPacket }

// describe returns a PDU in a few words.
func describe(p pdu.PDU) string {
	switch p := p.(type) {
	case *pdu.Fault:
		return fmt.Sprintf("a fault %v (call_id %d, p_cont_id %d, %s)", p.Status, p.CallID, p.ContextID,
			flagText(uint64(p.Flags)))
	case *pdu.BindNak:
		return fmt.Sprintf("a bind_nak %v", p.Reason)
	case *pdu.BindAck:
		var results []string
		for _, res := range p.Results {
			results = append(results, resultText(res))
		}
		return "a bind_ack " + strings.Join(results, " ")
	}
	return fmt.Sprintf("a PDU %v (call_id %d)", p.Head().Type, p.Head().CallID)
}
