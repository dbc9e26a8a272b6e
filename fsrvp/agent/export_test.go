package agent

import "time"

// CloseStore closes an agent's store under it: all its writes fail from then on, as on a failing
// disk.
func CloseStore(a *Agent) error { return a.store.Close() }

// ReopenStore mends what CloseStore did.
func ReopenStore(a *Agent) error {
	c := a.cfg
	c.StoreWait = time.Second
	s, err := openStore(&c)
	if err != nil {
		return err
	}
	a.store.Store = s.Store
	return nil
}

// Stall has it look as if the process had not run for a time.
func (a *Agent) Stall(d time.Duration) {
	a.cluster.stalls.last.Store(int64(time.Since(a.cluster.stalls.begin) - d))
}
