package krb5

import (
	"context"
	"time"
)

// The times of renewals.
const (
	minRenewal = 5 * time.Second // between two attempts
	// maxRenewal bounds the time until the cache is looked at again: another program may have put
	// another ticket there.
	maxRenewal = time.Hour
)

// KeepRenewed renews the ticket-granting ticket of a credential cache before it ends, as long as the
// KDC extends it, and returns when ctx ends. The new one is kept in memory; the cache is not
// written. For a ticket that is not renewable, and for an Initiator with a password or a keytab,
// which logs in again by itself, nothing is done.
//
// Half of the time until the ticket's end is waited for a renewal, and so again after one that
// failed. Why the last one failed is in the error of [Initiator.NewContext]'s first Step after the
// ticket's end. It is called once, in a goroutine of its own.
func (i *Initiator) KeepRenewed(ctx context.Context) {
	s, ok := i.source.(*kdcSource)
	if !ok || s.ccache == "" {
		return
	}
	for {
		wait := time.NewTimer(s.renewHome(ctx))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
	}
}

// renewable reports whether a KDC would make the ticket last longer.
func (t *Ticket) renewable() bool { return t.lasts(0) && t.RenewTill.After(t.EndTime) }

// renewHome renews the ticket-granting ticket of the home realm if it is time. It returns how long
// to wait for the next look.
func (s *kdcSource) renewHome(ctx context.Context) time.Duration {
	if err := s.lock(ctx); err != nil {
		return 0
	}
	defer s.unlock()
	_, _ = s.reloadCCache(ctx) // an error concerns those who need a ticket
	home := s.tgts[s.client.Realm]
	if !home.renewable() {
		return maxRenewal
	}
	if home != s.renewing {
		s.renewing, s.renewAt, s.unrenewed = home, halfway(home), nil
	}
	if !time.Now().Before(s.renewAt) {
		t, err := s.renew(ctx, home)
		if err == nil && !t.EndTime.Before(home.EndTime) {
			s.setHome(t)
			home = t
		}
		s.renewing, s.renewAt, s.unrenewed = home, halfway(home), err
	}
	return min(max(time.Until(s.renewAt), 0), maxRenewal)
}

// halfway is between now and the end of a ticket.
func halfway(t *Ticket) time.Time {
	return time.Now().Add(max(time.Until(t.EndTime)/2, minRenewal))
}
