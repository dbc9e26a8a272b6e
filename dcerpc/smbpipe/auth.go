package smbpipe

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/oiweiwei/go-smb2.fork"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
)

// sessionKeyer is a security context with a key for protocols that derive theirs from it (MS-SMB2 3.2.5.3): those of
// dcerpc/krb5 and dcerpc/ntlm.
type sessionKeyer interface{ SessionKey() []byte }

// A login is one SPNEGO exchange as go-smb2 wants it.
type login struct {
	ctx     context.Context
	context dcerpc.Context // SPNEGO's
	mech    dcerpc.Context // that of the mechanism inside
	err     error          // of the mechanism: go-smb2 keeps its text alone
}

var _ smb2.Initiator = (*login)(nil)

// newLogin starts the exchange with a server, around one mechanism or those of a spnego.Initiator.
func newLogin(ctx context.Context, auth dcerpc.Initiator, target string) (*login, error) {
	l := &login{ctx: ctx}
	var mechs []spnego.InitiatorMechanism
	switch a := auth.(type) {
	case nil:
		return nil, errors.New("Dialer.Auth is not set")
	case *spnego.Initiator:
		mechs = a.Mechanisms()
	case spnego.InitiatorMechanism:
		mechs = append(mechs, a)
	default:
		return nil, fmt.Errorf("%T is not a mechanism for SPNEGO, which SMB logs in by", auth)
	}
	for i, m := range mechs {
		mechs[i] = &observed{m, l}
	}
	negotiate, err := spnego.NewInitiator(mechs...)
	if err != nil {
		return nil, err
	}
	// Privacy: the session may have to be encrypted.
	l.context, err = negotiate.NewContext(target, dcerpc.LevelPrivacy)
	return l, err
}

// An observed mechanism tells the login of its context, whose key is there before SPNEGO has said its last word. It has SPNEGO send the
// mechListMIC with the mechanism's last token: Samba asks for it in any case, and go-smb2 has no leg to spare.
type observed struct {
	spnego.InitiatorMechanism
	login *login
}

func (o *observed) NewContext(target string, level dcerpc.AuthLevel) (dcerpc.Context, error) {
	c, err := o.InitiatorMechanism.NewContext(target, level)
	if err != nil {
		return nil, err
	}
	o.login.mech = c
	if m, ok := c.(spnego.MICContext); ok {
		if _, has := c.(interface{ PrefersMIC() bool }); !has {
			return eagerContext{m}, nil
		}
	}
	return c, nil
}

// An eagerContext wants the mechListMIC.
type eagerContext struct{ spnego.MICContext }

func (eagerContext) PrefersMIC() bool { return true }

// OID is SPNEGO's own: go-smb2 leaves the negotiation alone.
func (l *login) OID() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 2} }

// InitSecContext gives the first token.
func (l *login) InitSecContext() ([]byte, error) { return l.step(nil) }

// AcceptSecContext takes the server's token and gives the next one.
func (l *login) AcceptSecContext(in []byte) ([]byte, error) {
	out, err := l.step(in)
	if err == nil && len(l.SessionKey()) == 0 {
		err = errors.New("the mechanism has no session key after two legs")
		l.err = err
	}
	return out, err
}

func (l *login) step(in []byte) ([]byte, error) {
	out, _, err := l.context.Step(l.ctx, in)
	if err != nil {
		l.err = err
	}
	return out, err
}

// SessionKey is what the session's keys are derived from.
func (l *login) SessionKey() []byte {
	if k, ok := l.mech.(sessionKeyer); ok {
		return k.SessionKey()
	}
	return nil
}

// Sum is for go-smb2's own SPNEGO, which has no part in this.
func (l *login) Sum([]byte) []byte { return nil }
