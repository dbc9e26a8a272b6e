package fsrvptest

import (
	"errors"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// The times of the cases that wait: the work takes slow, and the client waits for impatient.
const (
	slow      = 600 * time.Millisecond
	impatient = 50 * time.Millisecond
)

// delayed makes the work of a method slow while f runs.
func (tr *trial) delayed(op fsrvp.Opnum, f func()) {
	tr.needs(tr.Delay != nil, "way to make its work slow")
	tr.slow(op, slow)
	defer tr.slow(op, 0)
	f()
}

// slow makes the work of a method take at least d.
func (tr *trial) slow(op fsrvp.Opnum, d time.Duration) {
	tr.clocked = true
	err := tr.Delay(op, d)
	tr.needs(!errors.Is(err, errors.ErrUnsupported), "way to make "+op.String()+" slow")
	tr.ok(err, "making "+op.String()+" slow")
}

func commitCases() []Case {
	const section = "3.1.4.5"
	list := []Case{
		{Standard, section, "Commit/Succeeds", "The copies are taken, and the set is Committed.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Committed)
			tr.status(m.by.CommitShadowCopySet(tr.ctx, m.id, long), "another Commit", fsrvp.ErrBadState)
			tr.onward(m, agent.Committed, agent.Recovered)
		}},
		{Standard, section, "Commit/WithoutPrepare", "Prepare is not demanded before Commit.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Started)
			tr.add(m, tr.Share)
			tr.ok(m.by.CommitShadowCopySet(tr.ctx, m.id, long), "CommitShadowCopySet")
		}},
		{Standard, section, "Commit/TwoVolumes", "A set may have copies of several volumes.", func(tr *trial) {
			tr.needs(tr.OtherVolume != "", "shares on two volumes")
			m := tr.bring(fsrvp.ContextBackup, agent.Exposed, tr.Share, tr.OtherVolume)
			tr.check(tr.mapping(m, 0).CopyID != tr.mapping(m, 1).CopyID, "both shares have one copy")
		}},
		{Standard, section, "Commit/UnknownSet", "An unknown set is refused.", func(tr *trial) {
			tr.bring(fsrvp.ContextBackup, agent.Added)
			tr.status(tr.Client.CommitShadowCopySet(tr.ctx, fsrvp.NewSetID(), long), "CommitShadowCopySet",
				tr.unknownSet())
		}},
		{Standard, section, "Commit/NullSet", "A null ShadowCopySetId is answered with E_INVALIDARG, before anything else, and changes nothing.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Added)
			tr.status(tr.Client.CommitShadowCopySet(tr.ctx, fsrvp.SetID{}, long), "CommitShadowCopySet",
				fsrvp.ErrInvalidArg)
			tr.onward(m, agent.Added, agent.Recovered)
		}},
		{Standard, section, "Commit/TimeOut", "When the time-out is over the answer is FSSAGENT_E_TIMEOUT; the work goes on, and another Commit waits for it.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Added)
			tr.delayed(fsrvp.OpCommitShadowCopySet, func() {
				start := time.Now()
				tr.status(m.by.CommitShadowCopySet(tr.ctx, m.id, impatient), "the first Commit", fsrvp.ErrTimeout)
				tr.check(time.Since(start) < slow, "the first Commit took %v", time.Since(start))
				tr.status(m.by.CommitShadowCopySet(tr.ctx, m.id, impatient), "the second Commit", fsrvp.ErrTimeout)
				tr.ok(m.by.CommitShadowCopySet(tr.ctx, m.id, long), "the third Commit")
				tr.check(time.Since(start) >= slow, "all took %v", time.Since(start))
			})
			tr.onward(m, agent.Committed, agent.Recovered)
		}},
		{Standard, section, "Commit/InProgress", "While the copies are taken the set is CreationInProgress: all methods but Commit and Abort answer FSRVP_E_BAD_STATE.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Added)
			tr.delayed(fsrvp.OpCommitShadowCopySet, func() {
				tr.status(m.by.CommitShadowCopySet(tr.ctx, m.id, impatient), "Commit", fsrvp.ErrTimeout)
				_, err := tr.tryAdd(m, tr.Share)
				tr.status(err, "Add", fsrvp.ErrBadState)
				tr.status(m.by.PrepareShadowCopySet(tr.ctx, m.id, long), "Prepare", fsrvp.ErrBadState)
				tr.status(m.by.ExposeShadowCopySet(tr.ctx, m.id, long), "Expose", fsrvp.ErrBadState)
				tr.status(m.by.RecoveryCompleteShadowCopySet(tr.ctx, m.id), "RecoveryComplete", fsrvp.ErrBadState)
				tr.status(tr.delete(m, 0), "Delete", fsrvp.ErrBadState)
				_, err = m.by.GetShareMapping(tr.ctx, m.copies[0], m.id, m.shares[0], 1)
				tr.status(err, "GetShareMapping", tr.byProfile(fsrvp.ErrNotExposed, fsrvp.ErrBadState))
				_, err = tr.tryStart(tr.Client)
				tr.status(err, "Start", fsrvp.ErrShadowCopySetInProgress)
			})
			tr.ok(m.by.CommitShadowCopySet(tr.ctx, m.id, long), "Commit")
		}},
		{Standard, section, "Commit/AbortedInProgress", "A set can be aborted while its copies are taken; nothing is left of it.", func(tr *trial) {
			tr.leavesNothing(func() {
				m := tr.bring(fsrvp.ContextBackup, agent.Added)
				tr.delayed(fsrvp.OpCommitShadowCopySet, func() {
					tr.status(m.by.CommitShadowCopySet(tr.ctx, m.id, impatient), "Commit", fsrvp.ErrTimeout)
					tr.ok(m.by.AbortShadowCopySet(tr.ctx, m.id), "Abort")
				})
				tr.status(m.by.CommitShadowCopySet(tr.ctx, m.id, long), "Commit of the aborted set", tr.unknownSet())
			})
		}},
	}
	return append(list, forStatuses([]agent.SetStatus{agent.Started, agent.Committed, agent.Exposed, agent.Recovered},
		Standard, section, "Commit/BadState", "When the set is neither Added nor CreationInProgress the answer is FSRVP_E_BAD_STATE.",
		func(tr *trial, s agent.SetStatus) {
			m := tr.bring(fsrvp.ContextBackup, s)
			tr.status(m.by.CommitShadowCopySet(tr.ctx, m.id, long), "CommitShadowCopySet", fsrvp.ErrBadState)
		})...)
}

func prepareCases() []Case {
	const section = "3.1.4.13"
	list := []Case{
		{Standard, section, "Prepare/Succeeds", "The server prepares; that can be done again, and after further shares were added.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Added)
			tr.ok(m.by.PrepareShadowCopySet(tr.ctx, m.id, long), "PrepareShadowCopySet")
			tr.ok(m.by.PrepareShadowCopySet(tr.ctx, m.id, long), "PrepareShadowCopySet again")
			if tr.OtherVolume != "" {
				tr.add(m, tr.OtherVolume)
				tr.ok(m.by.PrepareShadowCopySet(tr.ctx, m.id, long), "PrepareShadowCopySet with another share")
			}
			tr.onward(m, agent.Added, agent.Recovered)
		}},
		{Standard, section, "Prepare/UnknownSet", "An unknown set is refused.", func(tr *trial) {
			tr.bring(fsrvp.ContextBackup, agent.Added)
			tr.status(tr.Client.PrepareShadowCopySet(tr.ctx, fsrvp.NewSetID(), long), "PrepareShadowCopySet",
				tr.unknownSet())
		}},
		{Standard, section, "Prepare/NullSet", "A null ShadowCopySetId is answered with E_INVALIDARG, before anything else, and changes nothing.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Added)
			tr.status(tr.Client.PrepareShadowCopySet(tr.ctx, fsrvp.SetID{}, long), "PrepareShadowCopySet",
				fsrvp.ErrInvalidArg)
			tr.onward(m, agent.Added, agent.Recovered)
		}},
		{Standard, section, "Prepare/TimeOut", "When the time-out is over the answer is FSRVP_E_WAIT_TIMEOUT; Prepare may be called again.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Added)
			tr.delayed(fsrvp.OpPrepareShadowCopySet, func() {
				start := time.Now()
				tr.status(m.by.PrepareShadowCopySet(tr.ctx, m.id, impatient), "the first Prepare", fsrvp.ErrWaitTimeout)
				tr.check(time.Since(start) < slow, "the first Prepare took %v", time.Since(start))
				tr.ok(m.by.PrepareShadowCopySet(tr.ctx, m.id, long), "the second Prepare")
			})
			tr.onward(m, agent.Added, agent.Recovered)
		}},
	}
	return append(list, forStatuses([]agent.SetStatus{agent.Started, agent.Committed, agent.Exposed, agent.Recovered},
		Standard, section, "Prepare/BadState", "When the set is not Added the answer is FSRVP_E_BAD_STATE.",
		func(tr *trial, s agent.SetStatus) {
			m := tr.bring(fsrvp.ContextBackup, s)
			tr.status(m.by.PrepareShadowCopySet(tr.ctx, m.id, long), "PrepareShadowCopySet", fsrvp.ErrBadState)
		})...)
}
