package agent

import "time"

// CloseStore closes an agent's store under it: all its writes fail from then on, as on a failing disk.
func CloseStore(a *Agent) error { return a.store.close() }

// ReopenStore mends what CloseStore did.
func ReopenStore(a *Agent) error {
	s, err := openStore(a.cfg.StorePath, time.Second)
	if err != nil {
		return err
	}
	a.store.db = s.db
	return nil
}
