package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/sambapipe"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/replay"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// A departure is a call that the recording does not answer.
type departure struct {
	*replay.Departure
	client string
}

func (d departure) String() string {
	s := fmt.Sprintf("%s: %v: %s", d.client, d.Request.Opnum(), d.Reason)
	if e := d.Expected; e != nil {
		s += fmt.Sprintf("; expected is %v", e.Opnum())
	}
	return s
}

func (d departure) MarshalJSON() ([]byte, error) {
	expected := ""
	if e := d.Expected; e != nil {
		expected = e.Opnum().String()
	}
	return json.Marshal(struct {
		Client   string        `json:"client"`
		Opnum    fsrvp.Opnum   `json:"opnum"`
		Method   string        `json:"method"`
		Request  fsrvp.Message `json:"request"`
		Reason   string        `json:"reason"`
		Expected string        `json:"expected,omitempty"`
	}{d.client, d.Request.Opnum(), d.Request.Opnum().String(), d.Request, d.Reason, expected})
}

// A serveSummary says which recorded calls clients have made.
type serveSummary struct {
	Recorded   int      `json:"recorded"`
	Asked      int      `json:"asked"`
	Departures int      `json:"departures"`
	Unasked    []string `json:"unasked"`
}

func (s *serveSummary) String() string {
	text := fmt.Sprintf("%d of %d recorded calls were made, and %d others", s.Asked, s.Recorded, s.Departures)
	for _, name := range s.Unasked {
		text += "\nnot made: " + name
	}
	return text
}

// answer serves clients until ctx ends. It reports whether they made calls that the recording does
// not answer.
func (o *options) answer(ctx context.Context, recording []*transcript.Exchange, out io.Writer,
	p *printer) (differs bool, err error) {
	service, err := replay.NewService(recording, &replay.ServiceConfig{
		Shares: o.shares.Rewrite,
		Speed:  o.speed,
		OnDeparture: func(ctx context.Context, d *replay.Departure) error {
			client := "?"
			if peer, ok := dcerpc.PeerFromContext(ctx); ok && peer.Addr != nil {
				client = peer.Addr.String()
			}
			p.line(departure{d, client})
			return o.status
		},
	})
	if err != nil {
		return false, err
	}
	log := slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	acceptors, err := o.acceptors()
	if err != nil {
		return false, err
	}
	l, err := o.listen(log)
	if err != nil {
		return false, fmt.Errorf("-serve: %w", err)
	}
	recorder := transcript.NewRecorder(service, out,
		&transcript.RecorderConfig{Connection: transcript.Connection{Server: l.Addr().String()}})
	srv := &dcerpc.Server{Acceptors: acceptors, Logger: log}
	handler := &fsrvp.HandlerConfig{AllowSMBSessionAlone: true, Logger: log}
	if o.anonymous {
		handler.MinLevel = dcerpc.LevelInsecureNone
	}
	fsrvp.Register(srv, recorder, handler)
	fmt.Fprintf(p.stderr, "listening %s\n", l.Addr())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case <-ctx.Done():
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = srv.Shutdown(drain) // answers still waiting for their time are dropped
		err = <-served
	case err = <-served:
	}
	if errors.Is(err, dcerpc.ErrServerClosed) {
		err = nil
	}
	sum := &serveSummary{Recorded: len(recording), Departures: service.Departures(), Unasked: []string{}}
	for _, e := range service.Unasked() {
		sum.Unasked = append(sum.Unasked, e.Opnum().String())
	}
	sum.Asked = sum.Recorded - len(sum.Unasked)
	p.summary(sum)
	if e := recorder.Close(); e != nil {
		err = errors.Join(err, fmt.Errorf("-out: %w", e))
	}
	return sum.Departures > 0, errors.Join(err, p.Err())
}

// acceptors makes the mechanisms that the flags allow: each directly, and all of them inside
// SPNEGO.
func (o *options) acceptors() ([]dcerpc.Acceptor, error) {
	var list []dcerpc.Acceptor
	var mechs []spnego.AcceptorMechanism
	if o.cred.Keytab != "" {
		mech, err := krb5.NewAcceptor(&krb5.AcceptorConfig{KeytabFile: o.cred.Keytab})
		if err != nil {
			return nil, fmt.Errorf("-keytab: %w", err)
		}
		list, mechs = append(list, mech), append(mechs, mech)
	}
	if o.ntlmUsers != "" {
		users, err := ntlm.OpenHashFile(o.ntlmUsers)
		if err != nil {
			return nil, fmt.Errorf("-ntlm-users: %w", err)
		}
		mech, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: users})
		if err != nil {
			return nil, fmt.Errorf("-ntlm-users: %w", err)
		}
		list, mechs = append(list, mech), append(mechs, mech)
	}
	if len(mechs) == 0 {
		return nil, nil
	}
	nego, err := spnego.NewAcceptor(mechs...)
	return append(list, nego), err
}

func (o *options) listen(log *slog.Logger) (net.Listener, error) {
	if dir, ok := strings.CutPrefix(o.serve, "samba:"); ok {
		return sambapipe.Listen(&sambapipe.Config{Dir: dir, Logger: log})
	}
	addr := strings.TrimPrefix(o.serve, "tcp:")
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, fmt.Errorf("%q must be tcp:HOST:PORT or samba:NCALRPC_DIR", o.serve)
	}
	return net.Listen("tcp", addr)
}
