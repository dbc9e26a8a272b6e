package rpctest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A ClientTarget is a client to test. Scripts play its server.
type ClientTarget struct {
	// Connect binds to Interface on a connection. An error that matches [ErrNotApplicable] means
	// that the client does not support the options. The client must close the connection.
	Connect func(ctx context.Context, conn net.Conn, o ClientOptions) (ClientConn, error)
	// Outcome says what an error of Connect or of a call means.
	Outcome func(error) Outcome
	// Interface is the interface that the client binds to.
	Interface dcerpc.SyntaxID
	// Acceptor is the server's side of the mechanism with which the client logs in; nil means that
	// it cannot log in.
	Acceptor dcerpc.Acceptor
	// Pipe makes both ends of a connection; nil means a connection in memory.
	Pipe func() (client, server net.Conn, err error)
	// Profile is the profile that the scripts' server follows; empty means Windows2022.
	Profile Profile
	// Timeout bounds the wait for one PDU or result; zero means 10 s.
	Timeout time.Duration
}

// ErrNotApplicable is matched by the error of Connect for options that a client does not support.
var ErrNotApplicable = errors.New("rpctest: the client does not support this")

// ClientOptions are what a script asks of a client.
type ClientOptions struct {
	// Level is the protection level; [dcerpc.LevelInsecureNone] means no security.
	Level dcerpc.AuthLevel
	// Syntaxes are the transfer syntaxes to offer: "ndr20", "ndr64", "ndr20be", the last one for
	// NDR 2.0 in big-endian. Nil means the client's default.
	Syntaxes         []string
	NoMultiplexing   bool   // do not ask for concurrent multiplexing
	NoFeatures       bool   // do not negotiate features
	AssociationGroup uint32 // to be joined
	MaxFragment      int    // to be offered, in bytes; zero means the client's default
	MaxResponse      int    // the most bytes of a response that the client accepts; zero means its default
}

// A ClientConn is a connection of the tested client.
type ClientConn interface {
	// Call makes a call and returns the stub of the response. It must be safe for concurrent use.
	Call(ctx context.Context, opnum uint16, stub []byte) (ClientResponse, error)
	// Property returns something about the connection, or "" if the client does not know: "syntax"
	// is ndr20, ndr64 or ndr20be; "multiplexed" yes or no; "assoc_group_id" a decimal number;
	// "level" none, connect, packet, integrity or privacy.
	Property(name string) string
	Close() error
}

// A ClientResponse is a response as the client understood it.
type ClientResponse struct {
	Stub   []byte
	Syntax string // as for ClientOptions; empty means that the client does not know
}

// An Outcome is the meaning of an error of a client.
type Outcome struct {
	Kind OutcomeKind
	// Status and DidNotExecute are those of a fault.
	Status        pdu.FaultStatus
	DidNotExecute bool
	// Reason is that of a bind_nak.
	Reason pdu.NakReason
	// Result and ResultReason are those of a rejected presentation context.
	Result       pdu.Result
	ResultReason pdu.Reason
}

// OutcomeKind is a kind of error.
type OutcomeKind string

// The kinds. Broken is for clients that do not distinguish Protocol from Closed.
const (
	OutcomeFault     OutcomeKind = "fault"
	OutcomeNak       OutcomeKind = "bind_nak"
	OutcomeRejected  OutcomeKind = "rejected"
	OutcomeProtocol  OutcomeKind = "protocol" // the server broke the protocol; the connection is over
	OutcomeClosed    OutcomeKind = "closed"   // the connection has ended
	OutcomeBroken    OutcomeKind = "broken"
	OutcomeCancelled OutcomeKind = "cancelled" // by the context
)

func outcomeKinds() []string {
	return []string{"ok", string(OutcomeFault), string(OutcomeNak), string(OutcomeRejected), string(OutcomeProtocol),
		string(OutcomeClosed), string(OutcomeCancelled)}
}

// Fields of the lines start and result.
var (
	connectFields = map[string]fieldSpec{
		"level":          {kind: number, names: levelNames, use: inSent},
		"syntaxes":       {kind: word, use: inSent},
		"multiplexing":   {kind: number, names: yesNames, use: inSent},
		"features":       {kind: number, names: yesNames, use: inSent},
		"assoc_group_id": {kind: number, use: inSent},
		"max_frag":       {kind: number, use: inSent},
		"max_response":   {kind: number, use: inSent},
	}
	callFields = map[string]fieldSpec{
		"opnum":   {kind: number, use: inSent},
		"stub":    {kind: data, use: inSent},
		"timeout": {kind: word, use: inSent},
	}
	resultFields = map[string]map[string]fieldSpec{
		"ok": {
			"stub": {kind: data, use: inExpected}, "syntax": {kind: word, use: inExpected},
			"level":       {kind: word, use: inExpected},
			"multiplexed": {kind: word, use: inExpected}, "assoc_group_id": {kind: number, use: inExpected},
		},
		"fault": {
			"status":    {kind: number, names: statusNames, use: inExpected},
			"pfc_flags": {kind: number, names: flagNames, use: inExpected},
		},
		"bind_nak": {"provider_reject_reason": {kind: number, names: nakNames, use: inExpected}},
		"rejected": {"p_result": {kind: list, use: inExpected}},
		"protocol": {}, "closed": {}, "cancelled": {},
	}
)

// start reads "start connect ..." or "start NAME call ...", "start NAME close".
func (p *scriptParser) start(st *step, words []string) error {
	st.op = opStart
	if len(words) > 0 && words[0] == "connect" {
		st.name, st.via = "connect", "connect"
		if err := p.fields(st, words[1:], inSent, connectFields); err != nil {
			return err
		}
		if f := st.field("syntaxes"); f != nil {
			for _, s := range strings.Split(f.word, ",") {
				if !slices.Contains([]string{"ndr20", "ndr64", "ndr20be"}, s) {
					return p.fail("%q is none of ndr20, ndr64, ndr20be", s)
				}
			}
		}
		if f := st.field("level"); f != nil && f.e.text != "none" {
			p.need("a security mechanism")
		}
	} else {
		if len(words) < 2 || !isWord(words[0]) || words[1] != "call" && words[1] != "close" {
			return p.fail("start is followed by connect, NAME call or NAME close")
		}
		st.name, st.via = words[0], words[1]
		fields := callFields
		if st.via == "close" {
			fields = nil
		}
		if err := p.fields(st, words[2:], inSent, fields); err != nil {
			return err
		}
		st.wait = maxWait
		if f := st.field("timeout"); f != nil {
			if err := p.duration(st, []string{f.word}); err != nil {
				return err
			}
		}
	}
	if p.started == nil {
		p.started = map[string]bool{}
	}
	if p.started[st.name] {
		return p.fail("%s was started before", st.name)
	}
	p.started[st.name] = true
	return nil
}

func isWord(s string) bool {
	for i := range len(s) {
		if !isNameByte(s[i]) {
			return false
		}
	}
	return s != ""
}

// result reads "result NAME ok|fault|...".
func (p *scriptParser) result(st *step, words []string) error {
	st.op = opResult
	if len(words) < 2 || !p.started[words[0]] {
		return p.fail("result is followed by a name that was started, and by one of %s",
			strings.Join(outcomeKinds(), ", "))
	}
	st.name, st.via = words[0], words[1]
	fields, ok := resultFields[st.via]
	if !ok {
		return p.fail("%q is none of %s", st.via, strings.Join(outcomeKinds(), ", "))
	}
	return p.fields(st, words[2:], inExpected, fields)
}

// RunClient plays the script with a client. The context bounds all of it.
func (s *Script) RunClient(ctx context.Context, t *ClientTarget) Result {
	profile := t.Profile
	if profile == "" {
		profile = Windows2022
	}
	switch {
	case s.side != clients:
		return notApplicable("the script is for a server")
	case s.Profiles != nil && !slices.Contains(s.Profiles, profile):
		return notApplicable("the script is not for the profile " + string(profile))
	case t.Acceptor == nil && slices.Contains(s.needs, "a security mechanism"):
		return notApplicable("the client has no security mechanism")
	}
	c := &clientRunner{target: t, results: map[string]chan clientResult{}}
	c.ctx, c.cancel = context.WithCancel(ctx)
	r := &runner{
		ctx: ctx, script: s, profile: profile, timeout: t.Timeout, client: c,
		interfaces: map[string]pdu.SyntaxID{"main": t.Interface, "unknown": unknownInterface()},
		vars:       map[string]value{"max_frag": numberOf(5840)},
	}
	c.runner = r
	res := r.play()
	if errors.Is(res.Err, ErrNotApplicable) {
		return notApplicable(res.Reason)
	}
	return res
}

// A clientRunner drives the client of a script.
type clientRunner struct {
	target  *ClientTarget
	runner  *runner
	ctx     context.Context
	cancel  context.CancelFunc
	conn    ClientConn
	wg      sync.WaitGroup
	results map[string]chan clientResult
}

// A clientResult is the result of an action of the client.
type clientResult struct {
	conn     ClientConn
	response ClientResponse
	err      error
}

// start lets the client do something while the script goes on.
func (c *clientRunner) start(st *step) error {
	r := c.runner
	v := r.values(st)
	if v.err != nil {
		return v.err
	}
	var do func() clientResult
	switch st.via {
	case "connect":
		conn, err := c.connection()
		if err != nil {
			return r.errorf("cannot connect: %w", err)
		}
		o := c.options(st, v)
		do = func() clientResult {
			cc, err := c.target.Connect(c.ctx, conn, o)
			return clientResult{conn: cc, err: err}
		}
	case "call":
		if c.conn == nil {
			return r.errorf("the client has not connected")
		}
		conn, opnum, stub := c.conn, uint16(v.num("opnum", 0, 16)), v.bytes("stub", nil)
		do = func() clientResult {
			ctx, cancel := context.WithTimeout(c.ctx, st.wait)
			defer cancel()
			resp, err := conn.Call(ctx, opnum, stub)
			return clientResult{response: resp, err: err}
		}
	default:
		if c.conn == nil {
			return r.errorf("the client has not connected")
		}
		conn := c.conn
		do = func() clientResult { return clientResult{err: conn.Close()} }
	}
	done := make(chan clientResult, 1)
	c.results[st.name] = done
	c.wg.Go(func() { done <- do() })
	return nil
}

// connection makes the connection that the client binds on, and keeps the server's end.
func (c *clientRunner) connection() (net.Conn, error) {
	if c.target.Pipe == nil {
		client, server := dcerpctest.Pipe()
		c.runner.attach("1", server)
		return client, nil
	}
	client, server, err := c.target.Pipe()
	if err == nil {
		c.runner.attach("1", server)
	}
	return client, err
}

func (c *clientRunner) options(st *step, v *values) ClientOptions {
	o := ClientOptions{
		Level:            dcerpc.AuthLevel(v.num("level", uint64(dcerpc.LevelInsecureNone), 8)),
		NoMultiplexing:   v.num("multiplexing", 1, 1) == 0,
		NoFeatures:       v.num("features", 1, 1) == 0,
		AssociationGroup: uint32(v.num("assoc_group_id", 0, 32)),
		MaxFragment:      int(v.num("max_frag", 0, 16)),
		MaxResponse:      int(v.num("max_response", 0, 31)),
	}
	if f := st.field("syntaxes"); f != nil {
		o.Syntaxes = strings.Split(f.word, ",")
	}
	return o
}

// result waits for the end of a started action, and compares its result.
func (c *clientRunner) result(st *step) error {
	r := c.runner
	limit := c.target.Timeout
	if limit == 0 {
		limit = 10 * time.Second
	}
	done := c.results[st.name]
	if done == nil {
		return r.errorf("%s was not started", st.name)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var res clientResult
	select {
	case res = <-done:
	case <-timer.C:
		return r.mismatch("the result", fmt.Sprintf("none after %v", limit), st.via)
	case <-r.ctx.Done():
		return r.errorf("interrupted: %w", r.ctx.Err())
	}
	done <- res // keep it for another look
	if errors.Is(res.err, ErrNotApplicable) {
		return res.err
	}
	if res.err == nil {
		return c.succeeded(st, res)
	}
	return c.failed(st, res.err)
}

// succeeded compares a success with the line.
func (c *clientRunner) succeeded(st *step, res clientResult) error {
	r := c.runner
	if res.conn != nil {
		c.conn = res.conn
	}
	if st.via != "ok" {
		return r.mismatch("the result", "success", st.via)
	}
	for i := range st.fields {
		f := &st.fields[i]
		if f.name == "stub" {
			want, err := r.eval(f.e)
			if err != nil {
				return err
			}
			if !want.any && string(want.data) != string(res.response.Stub) {
				return r.mismatch("stub", dataText(res.response.Stub), dataText(want.data))
			}
			continue
		}
		want := f.word
		if f.e != nil {
			n, err := r.number(f.e)
			if err != nil {
				return err
			}
			want = fmt.Sprint(n)
		}
		got := res.response.Syntax
		if res.conn != nil {
			got = res.conn.Property(f.name)
		}
		if got != "" && got != want {
			return r.mismatch(f.name, got, want)
		}
	}
	return nil
}

// failed compares an error with the line.
func (c *clientRunner) failed(st *step, err error) error {
	r := c.runner
	got := c.target.Outcome(err)
	want := OutcomeKind(st.via)
	if got.Kind != want && (got.Kind != OutcomeBroken || want != OutcomeProtocol && want != OutcomeClosed) {
		return r.mismatch("the result", fmt.Sprintf("%s (%v)", got.Kind, err), st.via)
	}
	for i := range st.fields {
		f := &st.fields[i]
		var have string
		switch f.name {
		case "status":
			have = valueText(uint64(got.Status), statusNames)
		case "provider_reject_reason":
			have = valueText(uint64(got.Reason), nakNames)
		case "pfc_flags":
			flags := both
			if got.DidNotExecute {
				flags |= pdu.DidNotExecute
			}
			have = flagText(uint64(flags))
		case "p_result":
			have = resultText(pdu.ContextResult{Result: got.Result, Reason: got.ResultReason})
			if want := resultText(f.res); have != want {
				return r.mismatch(f.name, have, want)
			}
			continue
		}
		n, err := r.number(f.e)
		if err != nil {
			return err
		}
		if f.e.relative {
			n |= uint64(both)
		}
		if want := valueText(n, f.spec.names); have != want {
			return r.mismatch(f.name, have, want)
		}
	}
	return nil
}

// end ends the client's actions. The server's end of the connection must be closed.
func (c *clientRunner) end() error {
	c.cancel()
	c.wg.Wait()
	for _, done := range c.results {
		if res := <-done; res.conn != nil {
			_ = res.conn.Close() // it may be closed already
		}
	}
	return nil
}
