package dcerpc

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/logs"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A refusal says why the server does not accept a PDU or a call, what it answers, and whether the
// connection goes on. Every receive step returns one, or nil; only [serverConn.refuse] writes and
// logs it.
type refusal struct {
	answer    pdu.Type // TypeFault, TypeBindNak, or TypeShutdown for no answer at all
	reason    pdu.NakReason
	status    pdu.FaultStatus
	flags     pdu.Flags // DidNotExecute or none
	contextID uint16
	callID    uint32        // of another call than the PDU's, where not zero
	lives     bool          // the connection goes on
	notable   bool          // an administrator may want to know: logged at level info
	kind      RefusalReason // for Server.Refused; if empty, the other fields decide
	mechanism AuthType      // of an exchange that has failed
	why       error
	extended  []pdu.ExtendedError // of a bind_nak
	ends      *serverCall         // the call that it answers; nil if no handler had it
}

// reason is a constant error text.
type reason string

func (r reason) Error() string { return string(r) }

func (r *refusal) Error() string {
	switch r.answer {
	case pdu.TypeFault:
		return fmt.Sprintf("fault %v: %v", r.status, r.why)
	case pdu.TypeBindNak:
		return fmt.Sprintf("bind_nak, %v: %v", r.reason, r.why)
	}
	return r.why.Error()
}

func (r *refusal) Unwrap() error { return r.why }

// silence ends the connection without an answer.
func silence(why error) *refusal { return &refusal{answer: pdu.TypeShutdown, why: why} }

// nak refuses a bind and ends the connection (MS-RPCE 2.2.2.9).
func nak(r pdu.NakReason, why error) *refusal {
	return &refusal{answer: pdu.TypeBindNak, reason: r, why: why}
}

// fatal answers with a fault of presentation context 0 and ends the connection.
func fatal(status pdu.FaultStatus, why error) *refusal {
	return &refusal{answer: pdu.TypeFault, status: status, why: why}
}

// fault answers with a fault and lets the connection live.
func fault(status pdu.FaultStatus, flags pdu.Flags, why error) *refusal {
	return &refusal{answer: pdu.TypeFault, status: status, flags: flags, lives: true, why: why}
}

// notExecuted sets DidNotExecute.
func (r *refusal) notExecuted() *refusal {
	r.flags |= pdu.DidNotExecute
	return r
}

// on names a presentation context in the fault.
func (r *refusal) on(contextID uint16) *refusal {
	r.contextID = contextID
	return r
}

// explained adds to the answer what the peer may know of the reason.
func (r *refusal) explained() *refusal {
	var e *SecurityError
	if errors.As(r.why, &e) {
		r.extended = []pdu.ExtendedError{{Time: time.Now(), Component: pdu.ComponentSecurity, Status: e.Status, Params: []any{logs.Cut(e.Text)}}}
	}
	return r
}

// of makes the refusal answer another call than the PDU's.
func (r *refusal) of(callID uint32) *refusal {
	r.callID = callID
	return r
}

// noted makes refuse log the refusal at level info and report it as of that kind.
func (r *refusal) noted(kind RefusalReason) *refusal {
	r.notable, r.kind = true, kind
	return r
}

// unauthenticated is noted for a failed exchange of tokens.
func (r *refusal) unauthenticated(mechanism AuthType) *refusal {
	r.mechanism = mechanism
	return r.noted(RefusedAuthentication)
}

// refuse writes and logs a refusal of a PDU of the given call, and reports whether the connection
// goes on. It is the only place that does.
func (c *serverConn) refuse(callID uint32, r *refusal) bool {
	if r.callID != 0 {
		callID = r.callID
	}
	c.observe(r)
	switch log := c.server.logger(); {
	case r.notable:
		c.server.refusals.Note(c.logger(), c.block, r)
	case log.Enabled(c.ctx, slog.LevelDebug):
		c.logger().Debug("dcerpc: PDU refused", "call", callID, "err", logs.Error(r))
	}
	switch r.answer {
	case pdu.TypeBindNak:
		p := pdu.NewBindNak(callID, r.reason)
		if err := p.SetExtended(r.extended); err != nil {
			c.logger().Error("dcerpc: extended error information", "err", err)
		}
		c.send(&p)
	case pdu.TypeFault:
		// Never signed, whatever the level. The alloc_hint is that of Windows, which counts
		// extended error information from 32.
		c.sendEnd(&pdu.Fault{
			Header:    pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag | r.flags, CallID: callID},
			AllocHint: 32,
			ContextID: r.contextID,
			Status:    r.status,
		}, r.ends)
	}
	if !r.lives {
		c.ends = r
	}
	return r.lives
}
