package fsrvptest

import (
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// inCreation are the statuses in which a set is in creation and no call is in progress.
var inCreation = [...]agent.SetStatus{agent.Started, agent.Added, agent.Committed, agent.Exposed}

// forStatuses makes a case of each status, with the status at the end of its name.
func forStatuses(statuses []agent.SetStatus, suite Suite, section, name, demand string,
	run func(*trial, agent.SetStatus)) []Case {
	list := make([]Case, len(statuses))
	for i, s := range statuses {
		list[i] = Case{suite, section, name + "/" + string(s), demand, func(tr *trial) { run(tr, s) }}
	}
	return list
}

func setContextCases() []Case {
	const section = "3.1.4.2"
	var list []Case
	for _, base := range []fsrvp.ContextValue{fsrvp.ContextBackup, fsrvp.ContextFileShareBackup,
		fsrvp.ContextNASRollback, fsrvp.ContextAppRollback} {
		for _, recovery := range []fsrvp.ContextValue{0, fsrvp.AttrNoAutoRecovery, fsrvp.AttrAutoRecovery} {
			c := base | recovery
			list = append(list, Case{Standard, section, "SetContext/" + c.String(),
				"Each context is valid, also with one of the recovery attributes.", func(tr *trial) {
					if c.AutoRecovery() {
						tr.can(Writable)
					}
					tr.setContext(tr.Client, c)
					tr.start(tr.Client)
				}})
		}
	}
	for _, c := range []fsrvp.ContextValue{0x00400002, 0x00000001, 0x00000008, 0x00000018, 0x00000020, 0x00400012,
		0x80000000, 0xFFFFFFFF} {
		list = append(list, Case{Standard, section, fmt.Sprintf("SetContext/Invalid/%08X", uint32(c)),
			"An invalid context is answered with FSRVP_E_UNSUPPORTED_CONTEXT, and sets none.", func(tr *trial) {
				tr.withoutContext()
				tr.status(tr.Client.SetContext(tr.ctx, c), "SetContext", fsrvp.ErrUnsupportedContext)
				_, err := tr.tryStart(tr.Client)
				tr.status(err, "StartShadowCopySet", fsrvp.ErrBadState)
			}})
	}
	list = append(list,
		Case{Standard, section, "SetContext/InvalidChangesNothing",
			"An invalid context does not end the creation that is in progress.", func(tr *trial) {
				m := tr.bring(fsrvp.ContextBackup, agent.Added)
				tr.status(tr.Client.SetContext(tr.ctx, 0x400002), "SetContext", fsrvp.ErrUnsupportedContext)
				tr.onward(m, agent.Added, agent.Recovered)
			}},
		Case{Standard, section, "SetContext/AnotherClient/ContextSet",
			"While a context is set, another client gets FSRVP_E_SHADOW_COPY_SET_IN_PROGRESS.", func(tr *trial) {
				tr.needs(tr.Other != nil, "client with another address")
				tr.setContext(tr.Client, fsrvp.ContextBackup)
				tr.status(tr.trySetContext(tr.Other, fsrvp.ContextBackup), "SetContext of another client",
					fsrvp.ErrShadowCopySetInProgress)
				tr.start(tr.Client)
			}},
		Case{Standard, section, "SetContext/AnotherClient/AfterRecovery",
			"After RecoveryComplete the client's address is forgotten.", func(tr *trial) {
				tr.needs(tr.Other != nil, "client with another address")
				tr.bring(fsrvp.ContextBackup, agent.Recovered)
				tr.setContext(tr.Other, fsrvp.ContextBackup)
			}},
		Case{Standard, section, "SetContext/AnotherClient/AfterAbort", "After Abort the client's address is forgotten.",
			func(tr *trial) {
				tr.needs(tr.Other != nil, "client with another address")
				m := tr.bring(fsrvp.ContextBackup, agent.Added)
				tr.ok(m.by.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet")
				tr.setContext(tr.Other, fsrvp.ContextBackup)
			}},
		Case{Standard, section, "SetContext/SameAddress",
			"Another connection from the same address is the same client.", func(tr *trial) {
				tr.needs(tr.SameHost != nil, "second connection of the client")
				tr.setContext(tr.Client, fsrvp.ContextBackup)
				tr.setContext(tr.SameHost, fsrvp.ContextBackup)
				m := tr.start(tr.SameHost)
				tr.ok(tr.Client.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet")
			}},
		Case{Standard, section, "SetContext/Retries",
			"A client that starts over more than 5 times gets FSRVP_E_SHADOW_COPY_SET_IN_PROGRESS, once.", func(tr *trial) {
				tr.can(RetryLimit)
				tr.withoutContext()
				for range 6 {
					tr.setContext(tr.Client, fsrvp.ContextBackup)
				}
				tr.status(tr.trySetContext(tr.Client, fsrvp.ContextBackup), "the seventh SetContext",
					fsrvp.ErrShadowCopySetInProgress)
				_, err := tr.tryStart(tr.Client)
				tr.status(err, "StartShadowCopySet", fsrvp.ErrBadState)
				tr.setContext(tr.Client, fsrvp.ContextBackup)
			}},
		Case{Standard, section, "SetContext/RetriesStartAnew",
			"The count of retries is zero after a creation has ended.", func(tr *trial) {
				tr.can(RetryLimit)
				tr.withoutContext()
				for range 2 {
					for range 5 {
						tr.setContext(tr.Client, fsrvp.ContextBackup)
					}
					m := tr.start(tr.Client)
					tr.ok(m.by.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet")
				}
			}},
	)
	list = append(list, forStatuses(inCreation[:], Standard, section, "SetContext/AnotherClient",
		"While a set is in creation, another client gets FSRVP_E_SHADOW_COPY_SET_IN_PROGRESS.",
		func(tr *trial, s agent.SetStatus) {
			tr.needs(tr.Other != nil, "client with another address")
			tr.bring(fsrvp.ContextBackup, s)
			tr.status(tr.trySetContext(tr.Other, fsrvp.ContextBackup), "SetContext of another client",
				fsrvp.ErrShadowCopySetInProgress)
		})...)
	return append(list, forStatuses(inCreation[:], Standard, section, "SetContext/StartsOver",
		"From the client in creation, SetContext removes the unfinished set and all that was made for it.",
		func(tr *trial, s agent.SetStatus) {
			tr.leavesNothing(func() {
				m := tr.bring(fsrvp.ContextBackup, s)
				tr.setContext(tr.Client, fsrvp.ContextBackup)
				tr.status(tr.Client.AbortShadowCopySet(tr.ctx, m.id), "Abort of the removed set", tr.unknownSet())
				next := tr.start(tr.Client)
				tr.check(next.id != m.id, "the new set has the id of the removed one")
				tr.ok(tr.Client.AbortShadowCopySet(tr.ctx, next.id), "Abort of the new set")
			})
		})...)
}
