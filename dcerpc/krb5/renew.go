package krb5

import (
	"context"
	"time"
)

// The times of renewals.
const (
	minRenewal = 5 * time.Second // between two attempts
	// maxRenewal bounds the time until the cache is read again, because another program may have
	// put another ticket there.
	maxRenewal = time.Hour
)

// KeepRenewed renews the ticket-granting ticket of a credential cache before it ends, as long as
// the KDC extends it, and returns when ctx ends. It keeps the new ticket in memory and does not
// write the cache. It does nothing for a ticket that is not renewable, or for an Initiator with a
// password or a keytab, which logs in again by itself.
//
// It waits for half of the time until the ticket's end before it renews the ticket, and does the
// same after a renewal that failed. After the ticket's end, the error of the first Step of a
// context says why the last renewal failed (see [Initiator.NewContext]). Call it once, in its own
// goroutine.
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
	_, _ = s.reloadCCache(ctx) // errors matter only to callers that need a ticket
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

// halfway returns the time halfway between now and the end of a ticket, at least minRenewal from
// now.
func halfway(t *Ticket) time.Time {
	return time.Now().Add(max(time.Until(t.EndTime)/2, minRenewal))
}
