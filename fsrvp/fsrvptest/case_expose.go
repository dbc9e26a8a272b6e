package fsrvptest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// file is the file that cases write in shares.
const file = "fsrvptest.dat"

// write writes the file of a share, given by its bare name.
func (tr *trial) write(share, content string) {
	tr.ok(tr.Files.WriteFile(share, file, []byte(content)), "writing to "+share)
}

// reads checks the file of a share.
func (tr *trial) reads(share, want string) {
	got, err := tr.Files.ReadFile(share, file)
	tr.ok(err, "reading from "+share)
	tr.check(bytes.Equal(got, []byte(want)), "%s has %q, and must have %q", share, got, want)
}

// mark changes the rights of a share, given by its bare name, for the rest of the case.
func (tr *trial) mark(share, mark string) {
	tr.ok(tr.Rights.Mark(tr.ctx, share, mark), "changing the rights of "+share)
	tr.unmark = append(tr.unmark, func(ctx context.Context) error { return tr.Rights.Unmark(ctx, share, mark) })
}

// refuses checks that a share cannot be written to.
func (tr *trial) refuses(share string) {
	tr.check(tr.Files.WriteFile(share, file, []byte("written")) != nil, "%s could be written", share)
}

func exposeCases() []Case {
	const section = "3.1.4.6"
	// hiddenName checks the name of the share that exposes a hidden one, for the text that the
	// client has put after its name.
	hiddenName := func(tr *trial, behind, suffix string) {
		tr.needs(tr.Hidden != "", "hidden share")
		m := tr.bring(fsrvp.ContextBackup, agent.Exposed, tr.Hidden+behind)
		want := fmt.Sprintf("%s@{%s}%s", tr.parse(tr.Hidden).Share, m.copies[0], suffix)
		got := tr.exposed(m, 0)
		tr.check(strings.EqualFold(got, want), "the share is %s, and must be %s", got, want)
	}
	list := []Case{
		{Standard, section, "Expose/Name", "A copy is exposed as sharename@{ShadowCopyId}.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Exposed)
			want := fmt.Sprintf("%s@{%s}", tr.parse(tr.Share).Share, m.copies[0])
			got := tr.exposed(m, 0)
			tr.check(strings.EqualFold(got, want), "the share is %s, and must be %s", got, want)
		}},
		{Standard, section, "Expose/HiddenName", "The copy of a hidden share that was named sharename$ is exposed as sharename$@{ShadowCopyId} (note 9).", func(tr *trial) {
			hiddenName(tr, "", "")
		}},
		{Standard, section, "Expose/HiddenNameBackslash", `The copy of a hidden share that was named sharename$\ is exposed as sharename$@{ShadowCopyId}$ (note 9).`, func(tr *trial) {
			hiddenName(tr, `\`, "$")
		}},
		{Standard, section, "Expose/EveryShare", "Every share of the set is exposed, each by its own name.", func(tr *trial) {
			shares := []string{tr.Share}
			if tr.SameVolume != "" && tr.Profile == agent.Windows {
				shares = append(shares, tr.SameVolume)
			}
			if tr.OtherVolume != "" {
				shares = append(shares, tr.OtherVolume)
			}
			tr.needs(len(shares) > 1, "two shares for one set")
			m := tr.bring(fsrvp.ContextBackup, agent.Exposed, shares...)
			var names []string
			for i := range shares {
				names = append(names, strings.ToLower(tr.exposed(m, i)))
			}
			slices.Sort(names)
			tr.check(len(slices.Compact(names)) == len(shares), "%d shares are exposed as %v", len(shares), names)
		}},
		{Standard, section, "Expose/Content", "The exposed share has what the share had at the time of Commit.", func(tr *trial) {
			tr.needs(tr.Files != nil, "way to its files")
			base := tr.parse(tr.Share).Share
			tr.write(base, "before")
			m := tr.bring(fsrvp.ContextBackup, agent.Committed)
			tr.write(base, "after")
			tr.onward(m, agent.Committed, agent.Exposed)
			tr.reads(tr.exposed(m, 0), "before")
			tr.reads(base, "after")
		}},
		{Standard, section, "Expose/ContentOfEachShare", "Each exposed share shows its own directory.", func(tr *trial) {
			tr.needs(tr.Files != nil, "way to its files")
			tr.needs(tr.SameVolume != "" && tr.Profile == agent.Windows, "two shares on one volume that join one copy")
			tr.write(tr.parse(tr.Share).Share, "one")
			tr.write(tr.parse(tr.SameVolume).Share, "two")
			m := tr.bring(fsrvp.ContextBackup, agent.Exposed, tr.Share, tr.SameVolume)
			tr.reads(tr.exposed(m, 0), "one")
			tr.reads(tr.exposed(m, 1), "two")
		}},
		{Standard, section, "Expose/Rights", "The exposed share has the rights that the share has when it is exposed.", func(tr *trial) {
			tr.needs(tr.Rights != nil, "way to its rights")
			base := tr.parse(tr.Share).Share
			m := tr.bring(fsrvp.ContextBackup, agent.Committed)
			mark := fsrvp.NewSetID().String()
			tr.mark(base, mark)
			tr.onward(m, agent.Committed, agent.Exposed)
			marks, err := tr.Rights.Marks(tr.ctx, tr.exposed(m, 0))
			tr.ok(err, "reading the rights of the exposed share")
			tr.check(slices.Contains(marks, mark), "the rights are %v, without %s", marks, mark)
		}},
		{Standard, section, "Expose/UnknownSet", "An unknown set is refused.", func(tr *trial) {
			tr.bring(fsrvp.ContextBackup, agent.Committed)
			tr.status(tr.Client.ExposeShadowCopySet(tr.ctx, fsrvp.NewSetID(), long), "ExposeShadowCopySet",
				tr.unknownSet())
		}},
		{Standard, section, "Expose/NullSet", "A null ShadowCopySetId is answered with E_INVALIDARG, before anything else, and changes nothing.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Committed)
			tr.status(tr.Client.ExposeShadowCopySet(tr.ctx, fsrvp.SetID{}, long), "ExposeShadowCopySet",
				fsrvp.ErrInvalidArg)
			tr.onward(m, agent.Committed, agent.Recovered)
		}},
		{Standard, section, "Expose/TimeOut", "When the time-out is over the answer is FSRVP_E_WAIT_TIMEOUT, and the set is still Committed.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Committed)
			tr.delayed(fsrvp.OpExposeShadowCopySet, func() {
				start := time.Now()
				tr.status(m.by.ExposeShadowCopySet(tr.ctx, m.id, impatient), "the first Expose", fsrvp.ErrWaitTimeout)
				tr.check(time.Since(start) < slow, "the first Expose took %v", time.Since(start))
				tr.status(m.by.RecoveryCompleteShadowCopySet(tr.ctx, m.id), "RecoveryComplete", fsrvp.ErrBadState)
				tr.ok(m.by.ExposeShadowCopySet(tr.ctx, m.id, long), "the second Expose")
			})
			tr.mapping(m, 0)
			tr.onward(m, agent.Exposed, agent.Recovered)
		}},
	}
	return append(list, forStatuses([]agent.SetStatus{agent.Started, agent.Added, agent.Exposed, agent.Recovered},
		Standard, section, "Expose/BadState", "When the set is not Committed the answer is FSRVP_E_BAD_STATE.",
		func(tr *trial, s agent.SetStatus) {
			m := tr.bring(fsrvp.ContextBackup, s)
			tr.status(m.by.ExposeShadowCopySet(tr.ctx, m.id, long), "ExposeShadowCopySet", fsrvp.ErrBadState)
		})...)
}

func recoveryCases() []Case {
	const section = "3.1.4.7"
	list := []Case{
		{Standard, section, "RecoveryComplete/Succeeds", "The set is Recovered, and keeps its copies.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Recovered)
			p, err := tr.Client.IsPathShadowCopied(tr.ctx, tr.Share)
			tr.ok(err, "IsPathShadowCopied")
			tr.check(p.Present, "the share has no copy")
			tr.ok(tr.delete(m, 0), "DeleteShareMapping")
		}},
		{Standard, section, "RecoveryComplete/EndsCreation", "The context and the client's address are forgotten.", func(tr *trial) {
			tr.bring(fsrvp.ContextBackup, agent.Recovered)
			_, err := tr.tryStart(tr.Client)
			tr.status(err, "StartShadowCopySet", fsrvp.ErrBadState)
			if tr.Other != nil {
				tr.setContext(tr.Other, fsrvp.ContextBackup)
			}
		}},
		{Standard, section, "RecoveryComplete/UnknownSet", "An unknown set is refused.", func(tr *trial) {
			tr.bring(fsrvp.ContextBackup, agent.Exposed)
			tr.status(tr.Client.RecoveryCompleteShadowCopySet(tr.ctx, fsrvp.NewSetID()),
				"RecoveryCompleteShadowCopySet", tr.unknownSet())
		}},
		{Standard, section, "RecoveryComplete/NullSet", "A null ShadowCopySetId is answered with E_INVALIDARG, before anything else, and changes nothing.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Exposed)
			tr.status(tr.Client.RecoveryCompleteShadowCopySet(tr.ctx, fsrvp.SetID{}), "RecoveryCompleteShadowCopySet",
				fsrvp.ErrInvalidArg)
			tr.onward(m, agent.Exposed, agent.Recovered)
		}},
		{Standard, section, "RecoveryComplete/Seals", "A copy of AUTO_RECOVERY can be written before, and not afterwards; it keeps what was written.", func(tr *trial) {
			tr.can(Writable)
			tr.needs(tr.Files != nil, "way to its files")
			base := tr.parse(tr.Share).Share
			tr.write(base, "base")
			m := tr.bring(fsrvp.ContextBackup|fsrvp.AttrAutoRecovery, agent.Exposed)
			exposed := tr.exposed(m, 0)
			tr.reads(exposed, "base")
			tr.write(exposed, "recovered")
			tr.reads(base, "base")
			tr.onward(m, agent.Exposed, agent.Recovered)
			tr.refuses(exposed)
			tr.reads(exposed, "recovered")
		}},
		{Standard, section, "RecoveryComplete/ReadOnlyBefore", "A copy without AUTO_RECOVERY cannot be written at any time.", func(tr *trial) {
			tr.needs(tr.Files != nil, "way to its files")
			tr.write(tr.parse(tr.Share).Share, "base")
			m := tr.bring(fsrvp.ContextBackup, agent.Exposed)
			exposed := tr.exposed(m, 0)
			tr.refuses(exposed)
			tr.onward(m, agent.Exposed, agent.Recovered)
			tr.refuses(exposed)
			tr.reads(exposed, "base")
		}},
	}
	return append(list, forStatuses([]agent.SetStatus{agent.Started, agent.Added, agent.Committed, agent.Recovered},
		Standard, section, "RecoveryComplete/BadState", "When the set is not Exposed the answer is FSRVP_E_BAD_STATE.",
		func(tr *trial, s agent.SetStatus) {
			m := tr.bring(fsrvp.ContextBackup, s)
			tr.status(m.by.RecoveryCompleteShadowCopySet(tr.ctx, m.id), "RecoveryCompleteShadowCopySet",
				fsrvp.ErrBadState)
		})...)
}

func abortCases() []Case {
	const section = "3.1.4.8"
	list := []Case{
		{Standard, section, "Abort/NullSet", "A null ShadowCopySetId is answered with E_INVALIDARG.", func(tr *trial) {
			tr.bring(fsrvp.ContextBackup, agent.Started)
			tr.status(tr.Client.AbortShadowCopySet(tr.ctx, fsrvp.SetID{}), "AbortShadowCopySet", fsrvp.ErrInvalidArg)
		}},
		{Standard, section, "Abort/UnknownSet", "An unknown set is refused, and no other is aborted.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Added)
			tr.status(tr.Client.AbortShadowCopySet(tr.ctx, fsrvp.NewSetID()), "AbortShadowCopySet", tr.unknownSet())
			tr.onward(m, agent.Added, agent.Recovered)
		}},
		{Standard, section, "Abort/Twice", "An aborted set is unknown.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Added)
			tr.ok(m.by.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet")
			tr.status(m.by.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet again", tr.unknownSet())
		}},
		{Standard, section, "Abort/Recovered", "A set that is Recovered is not aborted: FSRVP_E_BAD_STATE.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Recovered)
			tr.status(m.by.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet", fsrvp.ErrBadState)
			tr.ok(tr.delete(m, 0), "DeleteShareMapping")
		}},
		{Standard, section, "Abort/ExposedShareIsGone", "With an Exposed set its shares go.", func(tr *trial) {
			tr.needs(tr.Files != nil, "way to its files")
			tr.write(tr.parse(tr.Share).Share, "base")
			m := tr.bring(fsrvp.ContextBackup, agent.Exposed)
			exposed := tr.exposed(m, 0)
			tr.reads(exposed, "base")
			tr.ok(m.by.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet")
			_, err := tr.Files.ReadFile(exposed, file)
			tr.check(err != nil, "%s is still there", exposed)
			tr.reads(tr.parse(tr.Share).Share, "base")
		}},
	}
	return append(list, forStatuses(inCreation[:], Standard, section, "Abort/Deletes",
		"The set is deleted with all that was made for it, and the context and the client's address are forgotten.",
		func(tr *trial, s agent.SetStatus) {
			tr.leavesNothing(func() {
				m := tr.bring(fsrvp.ContextNASRollback, s)
				tr.ok(m.by.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet")
				tr.status(m.by.PrepareShadowCopySet(tr.ctx, m.id, long), "Prepare of the aborted set", tr.unknownSet())
				_, err := tr.tryStart(tr.Client)
				tr.status(err, "StartShadowCopySet", fsrvp.ErrBadState)
				if tr.Other != nil {
					tr.setContext(tr.Other, fsrvp.ContextBackup)
				}
			})
		})...)
}
