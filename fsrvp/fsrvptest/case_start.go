package fsrvptest

import (
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

func startCases() []Case {
	const section = "3.1.4.3"
	refused := func(tr *trial, want fsrvp.Status) {
		_, err := tr.tryStart(tr.Client)
		tr.status(err, "StartShadowCopySet", want)
	}
	list := []Case{
		{Standard, section, "Start/Id", "The server gives the set an id of its own, which is unique.", func(tr *trial) {
			ids := map[fsrvp.SetID]bool{{}: true}
			for range 3 {
				tr.setContext(tr.Client, fsrvp.ContextBackup)
				client := fsrvp.NewSetID()
				ids[client] = true
				id, err := tr.Client.StartShadowCopySet(tr.ctx, client)
				tr.ok(err, "StartShadowCopySet")
				tr.check(!ids[id], "the id %s is null, the client's, or that of another set", id)
				ids[id] = true
				tr.ok(tr.Client.AbortShadowCopySet(tr.ctx, id), "AbortShadowCopySet")
			}
		}},
		{Standard, section, "Start/NoContext", "Without a context the answer is FSRVP_E_BAD_STATE.", func(tr *trial) {
			tr.withoutContext()
			refused(tr, fsrvp.ErrBadState)
		}},
		{Standard, section, "Start/NullId", "A null ClientShadowCopySetId is answered with E_INVALIDARG.", func(tr *trial) {
			tr.setContext(tr.Client, fsrvp.ContextBackup)
			_, err := tr.Client.StartShadowCopySet(tr.ctx, fsrvp.SetID{})
			tr.status(err, "StartShadowCopySet", fsrvp.ErrInvalidArg)
			tr.start(tr.Client)
		}},
		{Standard, section, "Start/AfterAbort", "Abort ends the context: another Start is answered with FSRVP_E_BAD_STATE.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Added)
			tr.ok(m.by.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet")
			refused(tr, fsrvp.ErrBadState)
		}},
		{Standard, section, "Start/AfterRecovery", "RecoveryComplete ends the context: another Start is answered with FSRVP_E_BAD_STATE.", func(tr *trial) {
			tr.bring(fsrvp.ContextBackup, agent.Recovered)
			refused(tr, fsrvp.ErrBadState)
		}},
		{Standard, section, "Start/BesideRecovered", "A set that is Recovered is not in creation: another can be made beside it.", func(tr *trial) {
			first := tr.bring(fsrvp.ContextBackup, agent.Recovered)
			second := tr.bring(fsrvp.ContextBackup, agent.Recovered)
			a, err := tr.Client.GetShareMapping(tr.ctx, second.copies[0], second.id, second.shares[0], 1)
			if tr.Profile == agent.Windows { // as it is written, only Exposed sets have mappings
				tr.ok(err, "GetShareMapping")
				tr.check(a.SetID == second.id, "the mapping is one of set %s", a.SetID)
			}
			tr.ok(tr.delete(first, 0), "DeleteShareMapping of the first set")
			tr.ok(tr.delete(second, 0), "DeleteShareMapping of the second set")
		}},
	}
	return append(list, forStatuses(inCreation[:], Standard, section, "Start/InProgress",
		"While a set is in creation the answer is FSRVP_E_SHADOW_COPY_SET_IN_PROGRESS, to all clients.",
		func(tr *trial, s agent.SetStatus) {
			tr.bring(fsrvp.ContextBackup, s)
			refused(tr, fsrvp.ErrShadowCopySetInProgress)
			if tr.Other != nil {
				_, err := tr.tryStart(tr.Other)
				tr.status(err, "StartShadowCopySet of another client", fsrvp.ErrShadowCopySetInProgress)
			}
		})...)
}
