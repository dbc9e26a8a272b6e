package fsrvptest

import (
	"context"
	"fmt"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// patience is the time that a server may take to delete a set after its Message Sequence Timer has
// run out, since no client waits for that.
const patience = 15 * time.Second

// elapse waits until the Message Sequence Timer has run out, and then, if the target can tell,
// until nothing is left of the set, for at most patience.
func (tr *trial) elapse() {
	tr.silence()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if now, known := tr.held(); !known || now == tr.before {
			return
		}
	}
}

// silence waits until the Message Sequence Timer would have run out.
func (tr *trial) silence() {
	tr.rest(tr.SequenceTimeout + tr.SequenceTimeout/4 + 100*time.Millisecond)
}

// rest waits.
func (tr *trial) rest(d time.Duration) {
	select {
	case <-time.After(d):
	case <-tr.ctx.Done():
		tr.fail("waiting for the Message Sequence Timer: %v", context.Cause(tr.ctx))
	}
}

// timed ends the case if the timer is too long to wait for.
func (tr *trial) timed() {
	tr.needs(tr.SequenceTimeout > 0, "Message Sequence Timer that is short enough to wait for")
	tr.before, _ = tr.held()
}

// creationIsOver checks that no context is set.
func (tr *trial) creationIsOver() {
	_, err := tr.tryStart(tr.Client)
	tr.status(err, "StartShadowCopySet", fsrvp.ErrBadState)
	if tr.Other != nil {
		tr.setContext(tr.Other, fsrvp.ContextBackup)
	}
}

func timerCases() []Case {
	const section = "3.1.5"
	list := []Case{
		{Standard, section, "Timer/SetContext", "After SetContext and a silence the context is forgotten.", func(tr *trial) {
			tr.timed()
			tr.setContext(tr.Client, fsrvp.ContextBackup)
			tr.elapse()
			tr.creationIsOver()
		}},
		{Standard, section, "Timer/Prepare", "After Prepare and a silence the set is deleted.", func(tr *trial) {
			tr.timed()
			m := tr.bring(fsrvp.ContextBackup, agent.Added)
			tr.ok(m.by.PrepareShadowCopySet(tr.ctx, m.id, long), "PrepareShadowCopySet")
			tr.elapse()
			tr.status(m.by.CommitShadowCopySet(tr.ctx, m.id, long), "CommitShadowCopySet", tr.unknownSet())
			tr.creationIsOver()
		}},
		{Standard, section, "Timer/GetShareMapping", "After GetShareMapping and a silence the set is deleted.", func(tr *trial) {
			tr.timed()
			tr.leavesNothing(func() {
				m := tr.bring(fsrvp.ContextNASRollback, agent.Exposed)
				tr.mapping(m, 0)
				tr.elapse()
				tr.status(m.by.RecoveryCompleteShadowCopySet(tr.ctx, m.id), "RecoveryCompleteShadowCopySet",
					tr.unknownSet())
				tr.creationIsOver()
			})
		}},
		{Standard, section, "Timer/NullArguments", "GetShareMapping with a null copy or an empty share fails before it stops the timer, and does not start it again.", func(tr *trial) {
			tr.timed()
			for _, null := range []func(m *made) error{
				func(m *made) error {
					_, err := m.by.GetShareMapping(tr.ctx, fsrvp.CopyID{}, m.id, tr.Share, 1)
					return err
				},
				func(m *made) error {
					_, err := m.by.GetShareMapping(tr.ctx, m.copies[0], m.id, "", 1)
					return err
				},
			} {
				m := tr.bring(fsrvp.ContextNASRollback, agent.Exposed)
				tr.rest(tr.SequenceTimeout / 2)
				tr.status(null(m), "GetShareMapping", fsrvp.ErrInvalidArg)
				tr.rest(tr.SequenceTimeout*3/4 + 100*time.Millisecond)
				tr.status(m.by.RecoveryCompleteShadowCopySet(tr.ctx, m.id), "RecoveryCompleteShadowCopySet",
					tr.unknownSet())
			}
		}},
		{Standard, section, "Timer/Recovered", "A set that is Recovered stays.", func(tr *trial) {
			tr.timed()
			m := tr.bring(fsrvp.ContextBackup, agent.Recovered)
			tr.silence()
			tr.ok(tr.delete(m, 0), "DeleteShareMapping")
		}},
		{Standard, section, "Timer/Restarted", "Each message starts the timer again: a client that is slow, and never silent for too long, comes to its end.", func(tr *trial) {
			tr.timed()
			pause := func() { tr.rest(tr.SequenceTimeout * 6 / 10) }
			tr.setContext(tr.Client, fsrvp.ContextBackup)
			pause()
			m := tr.start(tr.Client)
			pause()
			tr.add(m, tr.Share)
			pause()
			tr.ok(m.by.PrepareShadowCopySet(tr.ctx, m.id, long), "PrepareShadowCopySet")
			pause()
			tr.ok(m.by.CommitShadowCopySet(tr.ctx, m.id, long), "CommitShadowCopySet")
			pause()
			tr.ok(m.by.ExposeShadowCopySet(tr.ctx, m.id, long), "ExposeShadowCopySet")
			pause()
			tr.mapping(m, 0)
			pause()
			tr.ok(m.by.RecoveryCompleteShadowCopySet(tr.ctx, m.id), "RecoveryCompleteShadowCopySet")
		}},
		{Standard, section, "Timer/StoppedWhileWorking", "The timer does not run while a method is at work.", func(tr *trial) {
			tr.timed()
			tr.needs(tr.Delay != nil, "way to make its work slow")
			m := tr.bring(fsrvp.ContextBackup, agent.Added)
			tr.slow(fsrvp.OpCommitShadowCopySet, tr.SequenceTimeout*3/2)
			defer tr.slow(fsrvp.OpCommitShadowCopySet, 0)
			tr.ok(m.by.CommitShadowCopySet(tr.ctx, m.id, tr.SequenceTimeout*2+long), "CommitShadowCopySet")
			tr.onward(m, agent.Committed, agent.Recovered)
		}},
		{Standard, section, "Timer/DuringCommit", "When a Commit has timed out and the client is silent, the set is deleted, though its copies are still being taken.", func(tr *trial) {
			tr.timed()
			tr.needs(tr.Delay != nil, "way to make its work slow")
			tr.leavesNothing(func() {
				m := tr.bring(fsrvp.ContextNASRollback, agent.Added)
				tr.slow(fsrvp.OpCommitShadowCopySet, tr.SequenceTimeout*4)
				defer tr.slow(fsrvp.OpCommitShadowCopySet, 0)
				tr.status(m.by.CommitShadowCopySet(tr.ctx, m.id, impatient), "CommitShadowCopySet", fsrvp.ErrTimeout)
				tr.elapse()
				tr.status(m.by.CommitShadowCopySet(tr.ctx, m.id, long), "CommitShadowCopySet", tr.unknownSet())
				tr.creationIsOver()
			})
		}},
	}
	return append(list, forStatuses(inCreation[:], Standard, section, "Timer",
		"After a silence the unfinished set is deleted, with all that was made for it; the context and the client's address are forgotten.",
		func(tr *trial, s agent.SetStatus) {
			tr.timed()
			tr.leavesNothing(func() {
				m := tr.bring(fsrvp.ContextNASRollback, s)
				tr.elapse()
				tr.status(m.by.AbortShadowCopySet(tr.ctx, m.id), "Abort of the deleted set", tr.unknownSet())
				tr.creationIsOver()
			})
		})...)
}

func storeCases() []Case {
	const section = "3.1.4"
	restart := func(tr *trial) {
		err := tr.Restart(tr.ctx)
		tr.hangUp()
		tr.ok(err, "restarting the server")
	}
	var list []Case
	for _, s := range inCreation {
		list = append(list, Case{Standard, "3.1.3", "Store/Restart/" + string(s),
			"A set in creation is there again after a restart, in its status: what was answered with success is in the configuration store.", func(tr *trial) {
				tr.needs(tr.Restart != nil, "way to restart it")
				m := tr.bring(fsrvp.ContextNASRollback, s)
				restart(tr)
				from := s
				if from == agent.Started {
					tr.add(m, tr.Share)
					from = agent.Added
				}
				tr.onward(m, from, agent.Exposed)
				tr.mapping(m, 0)
				tr.onward(m, agent.Exposed, agent.Recovered)
				tr.ok(tr.delete(m, 0), "DeleteShareMapping")
			}}, Case{Standard, "3.1.3", "Store/RestartAborted/" + string(s), "A set in creation can be aborted after a restart; nothing is left of it, and another can be made.", func(tr *trial) {
			tr.needs(tr.Restart != nil, "way to restart it")
			tr.leavesNothing(func() {
				m := tr.bring(fsrvp.ContextNASRollback, s)
				restart(tr)
				tr.ok(tr.Client.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet")
				next := tr.bring(fsrvp.ContextBackup, agent.Started)
				tr.ok(next.by.AbortShadowCopySet(tr.ctx, next.id), "AbortShadowCopySet of the next set")
			})
		}}, Case{Standard, "3.1.3", "Store/RestartTimed/" + string(s), "After a restart the Message Sequence Timer runs: a set whose client does not come back is deleted.", func(tr *trial) {
			tr.needs(tr.Restart != nil, "way to restart it")
			tr.timed()
			tr.leavesNothing(func() {
				m := tr.bring(fsrvp.ContextNASRollback, s)
				restart(tr)
				tr.elapse()
				tr.status(m.by.AbortShadowCopySet(tr.ctx, m.id), "Abort of the deleted set", tr.unknownSet())
				tr.creationIsOver()
			})
		}})
	}
	list = append(list, Case{Standard, "3.1.3", "Store/Restart/CreationInProgress",
		"A set whose copies were being taken when the server ended is there again after a restart; another Commit takes them.", func(tr *trial) {
			tr.needs(tr.Restart != nil, "way to restart it")
			m := tr.bring(fsrvp.ContextNASRollback, agent.Added)
			tr.delayed(fsrvp.OpCommitShadowCopySet, func() {
				tr.status(m.by.CommitShadowCopySet(tr.ctx, m.id, impatient), "Commit", fsrvp.ErrTimeout)
				restart(tr)
			})
			tr.onward(m, agent.Added, agent.Recovered)
			tr.ok(tr.delete(m, 0), "DeleteShareMapping")
		}}, Case{Standard, "3.1.3", "Store/Restart/Recovered", "A set that is Recovered is there again after a restart, and is not in creation.", func(tr *trial) {
		tr.needs(tr.Restart != nil, "way to restart it")
		m := tr.bring(fsrvp.ContextNASRollback, agent.Recovered)
		restart(tr)
		tr.status(tr.Client.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet", fsrvp.ErrBadState)
		tr.creationIsOver()
		tr.ok(tr.delete(m, 0), "DeleteShareMapping")
	}})
	for _, c := range []fsrvp.ContextValue{fsrvp.ContextNASRollback, fsrvp.ContextAppRollback} {
		list = append(list, Case{Standard, section, "Store/Persistent/" + c.String(),
			"A persistent copy stays over a restart: what was answered with success is in the configuration store.", func(tr *trial) {
				tr.needs(tr.Restart != nil, "way to restart it")
				m := tr.bring(c, agent.Exposed)
				before := tr.mapping(m, 0)
				tr.onward(m, agent.Exposed, agent.Recovered)
				restart(tr)
				p, err := tr.Client.IsPathShadowCopied(tr.ctx, tr.Share)
				tr.ok(err, "IsPathShadowCopied")
				tr.check(p.Present, "there is no copy")
				if tr.Profile == agent.Windows {
					after := tr.mapping(m, 0)
					tr.check(*before == *after, "the mapping was %+v and is %+v", before, after)
				}
				tr.ok(tr.delete(m, 0), "DeleteShareMapping")
			}})
	}
	return append(list,
		Case{Standard, "3.1.3", "Store/ContextIsForgotten", "ContextSet is FALSE when the server starts.",
			func(tr *trial) {
				tr.needs(tr.Restart != nil, "way to restart it")
				tr.setContext(tr.Client, fsrvp.ContextBackup)
				restart(tr)
				tr.creationIsOver()
			}},
		Case{Standard, "2.2.2.1", "Store/AutoRelease", "A copy that is not persistent does not stay over a restart.",
			func(tr *trial) {
				tr.can(AutoRelease)
				tr.needs(tr.Restart != nil, "way to restart it")
				tr.leavesNothing(func() {
					m := tr.bring(fsrvp.ContextFileShareBackup, agent.Recovered)
					restart(tr)
					tr.status(tr.delete(m, 0), "DeleteShareMapping", fsrvp.ErrObjectNotFound)
				})
			}},
		Case{Standard, section, "Store/NothingInTheWay",
			"After a restart a new set can be made, whatever was in creation before.", func(tr *trial) {
				tr.needs(tr.Restart != nil, "way to restart it")
				m := tr.bring(fsrvp.ContextNASRollback, agent.Committed)
				restart(tr)
				tr.setContext(tr.Client, fsrvp.ContextBackup)
				id, err := tr.tryStart(tr.Client)
				if err != nil { // the old set may be there, for its client to go on with or to abort
					tr.ok(tr.Client.AbortShadowCopySet(tr.ctx, m.id),
						fmt.Sprintf("Abort of the set that is in the way (%v)", err))
					tr.setContext(tr.Client, fsrvp.ContextBackup)
					id, err = tr.tryStart(tr.Client)
				}
				tr.ok(err, "StartShadowCopySet")
				tr.check(id != m.id, "the new set has the id of the old one")
			}},
	)
}
