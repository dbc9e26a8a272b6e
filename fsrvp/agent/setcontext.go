package agent

import (
	"context"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// GetSupportedVersion implements [fsrvp.Service] (MS-FSRVP 3.1.4.1). There is one version, 1.
func (a *Agent) GetSupportedVersion(ctx context.Context) (fsrvp.Versions, error) {
	err := a.call(ctx, fsrvp.OpGetSupportedVersion, func(*call) error { return nil })
	if err != nil {
		return fsrvp.Versions{}, err
	}
	return fsrvp.Versions{Min: 1, Max: 1}, nil
}

// SetContext implements [fsrvp.Service] (MS-FSRVP 3.1.4.2). If it comes from the address of the
// client whose creation is in progress, the creation starts over: the unfinished set and everything
// that was made for it are deleted before SetContext returns.
func (a *Agent) SetContext(ctx context.Context, value fsrvp.ContextValue) error {
	return a.call(ctx, fsrvp.OpSetContext, func(c *call) error {
		c.note("context", value.String())
		if !value.Valid() {
			return fmt.Errorf("agent: context %v: %w", value, fsrvp.ErrUnsupportedContext)
		}
		if value.AutoRecovery() && (a.sealer == nil || a.shareSealer == nil) {
			return fmt.Errorf("agent: context %v: the backends have no writable copies: %w", value,
				fsrvp.ErrUnsupportedContext)
		}
		return a.setContext(c, value)
	})
}

func (a *Agent) setContext(c *call, value fsrvp.ContextValue) error {
	var epoch uint64
	var works []*work
	var refused error
	err := a.inTurn(c.ctx, func(t turn) (err error) {
		epoch, works, refused, err = t.startOver(clientAddress(c.peer.Addr), value)
		return err
	})
	if err != nil {
		return err
	}
	for _, w := range works {
		select {
		case <-w.done: // a removal that failed goes on by itself
		case <-c.ctx.Done():
		}
	}
	if refused == nil {
		a.sequence.start(epoch, a.cfg.Timers.SetContext)
	}
	return refused
}

// startOver begins a creation for a client, and begins to remove what the client's last creation
// has left. It returns the works of this removal, even if the client is refused because it has
// started over too often.
func (a turn) startOver(client string, value fsrvp.ContextValue) (epoch uint64, works []*work, refused, err error) {
	next := creation{ContextSet: true, Context: value, Address: client}
	var old []*entry
	if a.creation.ContextSet {
		if a.creation.Address != client {
			return 0, nil, nil, fmt.Errorf("agent: client %s has a creation in progress: %w", a.creation.Address,
				fsrvp.ErrShadowCopySetInProgress)
		}
		old = a.unfinished()
		next.Retries = a.creation.Retries + 1
		if a.cfg.MaxRetries >= 0 && next.Retries > a.cfg.MaxRetries {
			refused = fmt.Errorf("agent: client %s has started over %d times: %w", client, next.Retries,
				fsrvp.ErrShadowCopySetInProgress)
			next = creation{Retries: next.Retries}
		}
	}
	if works, err = a.remove("started over", &next, old); err != nil {
		return 0, nil, nil, err
	}
	a.sequence.reset()
	if refused != nil {
		return 0, works, refused, nil
	}
	return a.sequence.stop(), works, nil, nil
}
