package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// A filter chooses calls. An empty field chooses all.
type filter struct {
	client, server, user, share, set string
	methods, statuses                list
	failed                           bool
	since, until                     timeFlag
}

func (f *filter) register(flags *flag.FlagSet) {
	flags.StringVar(&f.client, "client", "", "calls of this client `address`")
	flags.StringVar(&f.server, "server", "", "calls to this server `address`")
	flags.StringVar(&f.user, "user", "", "calls of this `user`: backup, backup@EXAMPLE.COM, EXAMPLE\\backup")
	flags.StringVar(&f.share, "share", "", `calls that name this share: vms, or \\host\vms`)
	flags.StringVar(&f.set, "set", "", "calls that name this shadow copy set: an `id`, or its first digits")
	flags.Var(&f.methods, "method", "calls of this `method`, also in short: Commit; several separated by commas")
	flags.Var(&f.statuses, "status",
		"calls that were answered with this `status`: a name, a number, fault, unanswered; several separated by commas")
	flags.BoolVar(&f.failed, "failed", false, "calls that did not succeed")
	flags.Var(&f.since, "since", "calls since this `time`: 2026-11-27T02:00:00+01:00, or in UTC '2026-11-27 02:00'")
	flags.Var(&f.until, "until", "calls until this `time`")
}

// A list is the value of a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(s string) error {
	for v := range strings.SplitSeq(s, ",") {
		if v = strings.TrimSpace(v); v == "" {
			return errors.New("a name is missing")
		}
		*l = append(*l, v)
	}
	return nil
}

// A timeFlag is a time, or nothing.
type timeFlag struct{ time.Time }

func (t *timeFlag) String() string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339Nano)
}

func (t *timeFlag) Set(s string) error {
	for _, form := range []string{time.RFC3339Nano, time.DateTime, "2006-01-02 15:04", "2006-01-02T15:04:05",
		"2006-01-02T15:04", time.DateOnly} {
		if v, err := time.Parse(form, s); err == nil {
			t.Time = v
			return nil
		}
	}
	return errors.New("it must be 2006-01-02T15:04:05Z or 2006-01-02 15:04:05")
}

// check refuses names of methods and statuses that do not exist.
func (f *filter) check() error {
	for _, m := range f.methods {
		if !knownMethod(m) {
			return fmt.Errorf("-method is %q; the methods are those of MS-FSRVP, such as CommitShadowCopySet or Commit",
				m)
		}
	}
	return nil
}

func knownMethod(name string) bool {
	for op := fsrvp.Opnum(0); op.Valid(); op++ {
		if isMethod(op, name) {
			return true
		}
	}
	return false
}

// isMethod compares a method with a name, short or full: "CommitShadowCopySet", "Commit",
// "AddToShadowCopySet", "Add", "4".
func isMethod(op fsrvp.Opnum, name string) bool {
	short := strings.TrimSuffix(op.String(), "ShadowCopySet")
	return strings.EqualFold(name, op.String()) || strings.EqualFold(name, short) ||
		strings.EqualFold(name, strings.TrimSuffix(short, "To")) ||
		name == strconv.Itoa(int(op))
}

// matches reports whether a call is chosen. Its request is nil if it cannot be read.
func (f *filter) matches(e *transcript.Exchange, op fsrvp.Opnum) bool {
	switch {
	case !f.since.IsZero() && e.Time.Before(f.since.Time), !f.until.IsZero() && e.Time.After(f.until.Time):
		return false
	case f.client != "" && !sameAddress(e.Client, f.client), f.server != "" && !sameAddress(e.Server, f.server):
		return false
	case f.user != "" && !sameUser(e.User, f.user):
		return false
	case f.share != "" && !sameShare(transcript.ShareOf(e.Request), f.share):
		return false
	case f.set != "" && !namesSet(e, f.set):
		return false
	case len(f.methods) > 0 && !f.methods.any(func(name string) bool { return isMethod(op, name) }):
		return false
	case len(f.statuses) > 0 && !f.statuses.any(func(name string) bool { return isStatus(e, name) }):
		return false
	}
	return !f.failed || !e.Succeeded()
}

func (l list) any(f func(string) bool) bool {
	for _, s := range l {
		if f(s) {
			return true
		}
	}
	return false
}

// sameAddress compares an address with one that may lack the port.
func sameAddress(address, want string) bool {
	host, _, err := net.SplitHostPort(address)
	return strings.EqualFold(address, want) || err == nil && strings.EqualFold(host, strings.Trim(want, "[]"))
}

// sameUser compares a user with a name that may lack the realm or the domain.
func sameUser(user, want string) bool {
	name, _, _ := strings.Cut(user, "@")
	if _, account, ok := strings.Cut(user, `\`); ok {
		name = account
	}
	return strings.EqualFold(user, want) || strings.EqualFold(name, want)
}

// sameShare compares a share with a name that may lack the host.
func sameShare(share, want string) bool {
	n, err := fsrvp.ParseShareName(share)
	if err != nil {
		return strings.EqualFold(share, want)
	}
	if w, err := fsrvp.ParseShareName(want); err == nil {
		return n.Equal(w)
	}
	return strings.EqualFold(n.Share, want)
}

// namesSet reports whether a call names a set, by its id or the client's.
func namesSet(e *transcript.Exchange, want string) bool {
	want = strings.ToLower(strings.Trim(want, "{}"))
	for _, id := range setsOf(e) {
		if id != (fsrvp.SetID{}) && strings.HasPrefix(strings.ToLower(strings.Trim(id.String(), "{}")), want) {
			return true
		}
	}
	return false
}

func setsOf(e *transcript.Exchange) []fsrvp.SetID {
	switch m := e.Request.(type) {
	case *fsrvp.StartShadowCopySetRequest:
		ids := []fsrvp.SetID{m.ClientShadowCopySetID}
		if resp, ok := e.Response.(*fsrvp.StartShadowCopySetResponse); ok {
			ids = append(ids, resp.ShadowCopySetID)
		}
		return ids
	case *fsrvp.AddToShadowCopySetRequest:
		return []fsrvp.SetID{m.ShadowCopySetID}
	case *fsrvp.PrepareShadowCopySetRequest:
		return []fsrvp.SetID{m.ShadowCopySetID}
	case *fsrvp.CommitShadowCopySetRequest:
		return []fsrvp.SetID{m.ShadowCopySetID}
	case *fsrvp.ExposeShadowCopySetRequest:
		return []fsrvp.SetID{m.ShadowCopySetID}
	case *fsrvp.RecoveryCompleteShadowCopySetRequest:
		return []fsrvp.SetID{m.ShadowCopySetID}
	case *fsrvp.AbortShadowCopySetRequest:
		return []fsrvp.SetID{m.ShadowCopySetID}
	case *fsrvp.GetShareMappingRequest:
		return []fsrvp.SetID{m.ShadowCopySetID}
	case *fsrvp.DeleteShareMappingRequest:
		return []fsrvp.SetID{m.ShadowCopySetID}
	}
	return nil
}

// isStatus compares an answer with a status, given by its name, with or without prefix, by its
// number, or as "fault" or "unanswered".
func isStatus(e *transcript.Exchange, want string) bool {
	switch {
	case e.Fault != nil:
		return strings.EqualFold(want, "fault") || strings.EqualFold(want, e.Fault.Status.String())
	case e.Response == nil:
		return strings.EqualFold(want, "unanswered") && e.ResponseTime.IsZero()
	}
	status := e.Response.Status()
	if n, err := strconv.ParseUint(want, 0, 32); err == nil {
		return uint32(status) == uint32(n)
	}
	name := status.Name()
	for _, prefix := range []string{"", "FSRVP_", "FSRVP_E_", "FSSAGENT_", "FSSAGENT_E_", "E_"} {
		if strings.EqualFold(name, prefix+want) {
			return true
		}
	}
	return false
}
