package fsrvptest

import (
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// clockSkew is the largest accepted difference between the clocks of client and server.
const clockSkew = 10 * time.Minute

func getMappingCases() []Case {
	const section = "3.1.4.11"
	get := func(tr *trial, m *made, copy fsrvp.CopyID, share string, level uint32,
		want fsrvp.Status) *fsrvp.ShareMapping {
		answer, err := m.by.GetShareMapping(tr.ctx, copy, m.id, share, level)
		tr.status(err, "GetShareMapping", want)
		return answer
	}
	list := []Case{
		{Standard, section, "GetShareMapping/Fields", "The mapping has the ids, the share as AddToShadowCopySet named it (3.1.4.4), and the time of the copy.", func(tr *trial) {
			start := time.Now()
			m := tr.bring(fsrvp.ContextBackup, agent.Exposed)
			a := tr.mapping(m, 0)
			tr.check(a.SetID == m.id && a.CopyID == m.copies[0], "the ids are %s and %s, and must be %s and %s",
				a.SetID, a.CopyID, m.id, m.copies[0])
			tr.check(a.Share == m.shares[0], "ShareNameUNC is %s, and must be %s", a.Share, m.shares[0])
			tr.check(a.Created.After(start.Add(-clockSkew)) && a.Created.Before(time.Now().Add(clockSkew)),
				"CreationTimestamp is %v, at %v", a.Created, time.Now())
		}},
		{Standard, section, "GetShareMapping/Again", "The mapping stays the same.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Exposed)
			a, b := tr.mapping(m, 0), tr.mapping(m, 0)
			tr.check(*a == *b, "the mappings are %+v and %+v", a, b)
		}},
		{Standard, section, "GetShareMapping/SharedCopy", "Two shares of one copy have a mapping each, with one time.", func(tr *trial) {
			tr.needs(tr.SameVolume != "" && tr.Profile == agent.Windows, "two shares on one volume that join one copy")
			m := tr.bring(fsrvp.ContextBackup, agent.Exposed, tr.Share, tr.SameVolume)
			a, b := tr.mapping(m, 0), tr.mapping(m, 1)
			tr.check(a.CopyID == b.CopyID && a.Created.Equal(b.Created) && a.Exposed != b.Exposed,
				"the mappings are %+v and %+v", a, b)
		}},
		{Standard, section, "GetShareMapping/Level", "A level other than 1 is answered with E_INVALIDARG, before the set is looked up.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Exposed)
			for _, level := range []uint32{0, 2, 0xFFFFFFFF} {
				get(tr, m, m.copies[0], tr.Share, level, fsrvp.ErrInvalidArg)
				get(tr, &made{id: fsrvp.NewSetID(), by: m.by}, m.copies[0], tr.Share, level, fsrvp.ErrInvalidArg)
			}
			tr.mapping(m, 0)
		}},
		{Standard, section, "GetShareMapping/UnknownSet", "An unknown set is refused.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Exposed)
			get(tr, &made{id: fsrvp.NewSetID(), by: m.by}, m.copies[0], tr.Share, 1, tr.unknownSet())
		}},
		{Standard, section, "GetShareMapping/NullSet", "A null ShadowCopySetId is answered with E_INVALIDARG, before anything else, and changes nothing.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Exposed)
			get(tr, &made{by: m.by}, m.copies[0], tr.Share, 1, fsrvp.ErrInvalidArg)
			tr.onward(m, agent.Exposed, agent.Recovered)
		}},
		{Standard, section, "GetShareMapping/NullCopy", "A null ShadowCopyId is answered with E_INVALIDARG, before the set is looked up and whatever its status is.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Added)
			get(tr, m, fsrvp.CopyID{}, tr.Share, 1, fsrvp.ErrInvalidArg)
			tr.onward(m, agent.Added, agent.Exposed)
			get(tr, m, fsrvp.CopyID{}, tr.Share, 1, fsrvp.ErrInvalidArg)
			tr.mapping(m, 0)
		}},
		{Standard, section, "GetShareMapping/EmptyShare", "An empty ShareName is answered with E_INVALIDARG, before the set is looked up and whatever its status is.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Added)
			get(tr, m, m.copies[0], "", 1, fsrvp.ErrInvalidArg)
			tr.onward(m, agent.Added, agent.Exposed)
			get(tr, m, m.copies[0], "", 1, fsrvp.ErrInvalidArg)
			tr.mapping(m, 0)
		}},
		{Standard, section, "GetShareMapping/UnknownCopy", "An unknown copy is answered with E_INVALIDARG.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Exposed)
			get(tr, m, fsrvp.NewCopyID(), tr.Share, 1, fsrvp.ErrInvalidArg)
			get(tr, m, fsrvp.CopyID(m.id), tr.Share, 1, fsrvp.ErrInvalidArg)
			tr.mapping(m, 0)
		}},
		{Standard, section, "GetShareMapping/UnknownShare", "A share that is not in the copy is answered with E_INVALIDARG.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Exposed)
			shares := []string{tr.absent(), tr.foreign(), "", "share"}
			if tr.OtherVolume != "" {
				shares = append(shares, tr.OtherVolume)
			}
			for _, share := range shares {
				get(tr, m, m.copies[0], share, 1, fsrvp.ErrInvalidArg)
			}
			tr.mapping(m, 0)
		}},
		{Standard, section, "GetShareMapping/Recovered", "When the set is Recovered, Windows still answers; as it is written, the answer is FSRVP_E_BAD_STATE.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Recovered)
			get(tr, m, m.copies[0], tr.Share, 1, tr.byProfile(0, fsrvp.ErrBadState))
		}},
	}
	for _, s := range spellings {
		list = append(list, Case{Standard, section, "GetShareMapping/Spelling/" + s.name,
			"A share matches however it is written.", func(tr *trial) {
				m := tr.bring(fsrvp.ContextBackup, agent.Exposed)
				a := get(tr, m, m.copies[0], s.spell(tr.Share), 1, 0)
				tr.check(a != nil && a.Exposed != "", "there is no ShadowCopyShareName")
			}})
	}
	return append(list, forStatuses([]agent.SetStatus{agent.Started, agent.Added, agent.Committed}, Standard, section,
		"GetShareMapping/BadState", "Before the set is Exposed the answer is FSRVP_E_BAD_STATE; Windows Server 2012 says 0x80042311.",
		func(tr *trial, s agent.SetStatus) {
			m := tr.bring(fsrvp.ContextBackup, s)
			copy := fsrvp.NewCopyID()
			if len(m.copies) > 0 {
				copy = m.copies[0]
			}
			get(tr, m, copy, tr.Share, 1, tr.byProfile(fsrvp.ErrNotExposed, fsrvp.ErrBadState))
		})...)
}

func deleteMappingCases() []Case {
	const section = "3.1.4.12"
	del := func(tr *trial, set fsrvp.SetID, copy fsrvp.CopyID, share string, want fsrvp.Status) {
		tr.status(tr.Client.DeleteShareMapping(tr.ctx, set, copy, share), "DeleteShareMapping", want)
	}
	list := []Case{
		{Standard, section, "Delete/NullArguments", "A null set, copy or share is answered with E_INVALIDARG.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Recovered)
			del(tr, fsrvp.SetID{}, m.copies[0], tr.Share, fsrvp.ErrInvalidArg)
			del(tr, m.id, fsrvp.CopyID{}, tr.Share, fsrvp.ErrInvalidArg)
			del(tr, m.id, m.copies[0], "", fsrvp.ErrInvalidArg)
			del(tr, m.id, m.copies[0], tr.Share, 0)
		}},
		{Standard, section, "Delete/UnknownSet", "An unknown set is answered with FSRVP_E_OBJECT_NOT_FOUND.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Recovered)
			del(tr, fsrvp.NewSetID(), m.copies[0], tr.Share, fsrvp.ErrObjectNotFound)
			del(tr, fsrvp.SetID(m.copies[0]), fsrvp.CopyID(m.id), tr.Share, fsrvp.ErrObjectNotFound)
			del(tr, m.id, m.copies[0], tr.Share, 0)
		}},
		{Standard, section, "Delete/UnknownCopy", "An unknown copy is refused.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Recovered)
			del(tr, m.id, fsrvp.NewCopyID(), tr.Share, tr.byProfile(fsrvp.ErrInvalidArg, fsrvp.ErrObjectNotFound))
			del(tr, m.id, m.copies[0], tr.Share, 0)
		}},
		{Standard, section, "Delete/UnknownShare", "A share that is not in the copy is refused.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Recovered)
			for _, share := range []string{tr.absent(), tr.foreign()} {
				del(tr, m.id, m.copies[0], share, tr.byProfile(fsrvp.ErrInvalidArg, fsrvp.ErrObjectNotFound))
			}
			del(tr, m.id, m.copies[0], tr.Share, 0)
		}},
		{Standard, section, "Delete/Twice", "With its last mapping the set is gone.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Recovered)
			tr.ok(tr.delete(m, 0), "DeleteShareMapping")
			tr.status(tr.delete(m, 0), "DeleteShareMapping again", fsrvp.ErrObjectNotFound)
			_, err := m.by.GetShareMapping(tr.ctx, m.copies[0], m.id, tr.Share, 1)
			tr.status(err, "GetShareMapping", tr.unknownSet())
		}},
		{Standard, section, "Delete/LeavesNothing", "With the last mapping of a copy its snapshot is deleted.", func(tr *trial) {
			tr.needs(tr.Held != nil, "way to count what it holds")
			tr.leavesNothing(func() {
				m := tr.bring(fsrvp.ContextNASRollback, agent.Recovered)
				tr.ok(tr.delete(m, 0), "DeleteShareMapping")
			})
		}},
		{Standard, section, "Delete/OneOfTwoShares", "A copy stays while another share has a mapping to it.", func(tr *trial) {
			tr.needs(tr.SameVolume != "" && tr.Profile == agent.Windows, "two shares on one volume that join one copy")
			m := tr.bring(fsrvp.ContextBackup, agent.Recovered, tr.Share, tr.SameVolume)
			tr.ok(tr.delete(m, 0), "DeleteShareMapping of "+tr.Share)
			tr.status(tr.delete(m, 0), "DeleteShareMapping again",
				tr.byProfile(fsrvp.ErrInvalidArg, fsrvp.ErrObjectNotFound))
			tr.mapping(m, 1)
			p, err := m.by.IsPathShadowCopied(tr.ctx, tr.SameVolume)
			tr.ok(err, "IsPathShadowCopied")
			tr.check(p.Present, "there is no copy")
			tr.ok(tr.delete(m, 1), "DeleteShareMapping of "+tr.SameVolume)
		}},
		{Standard, section, "Delete/OneOfTwoCopies", "A set stays while it has another copy.", func(tr *trial) {
			tr.needs(tr.OtherVolume != "", "shares on two volumes")
			m := tr.bring(fsrvp.ContextBackup, agent.Recovered, tr.Share, tr.OtherVolume)
			tr.ok(tr.delete(m, 0), "DeleteShareMapping of "+tr.Share)
			tr.status(tr.delete(m, 0), "DeleteShareMapping again",
				tr.byProfile(fsrvp.ErrInvalidArg, fsrvp.ErrObjectNotFound))
			tr.ok(tr.delete(m, 1), "DeleteShareMapping of "+tr.OtherVolume)
		}},
		{Standard, section, "Delete/Exposed", "A set that is Exposed may lose mappings.", func(tr *trial) {
			tr.needs(tr.OtherVolume != "", "shares on two volumes")
			m := tr.bring(fsrvp.ContextBackup, agent.Exposed, tr.Share, tr.OtherVolume)
			tr.ok(tr.delete(m, 0), "DeleteShareMapping")
			_, err := m.by.GetShareMapping(tr.ctx, m.copies[0], m.id, tr.Share, 1)
			tr.status(err, "GetShareMapping", fsrvp.ErrInvalidArg)
			tr.mapping(m, 1)
			tr.onward(m, agent.Exposed, agent.Recovered)
			tr.ok(tr.delete(m, 1), "DeleteShareMapping")
		}},
		{Standard, section, "Delete/ByAnotherClient", "Who deletes need not be who made.", func(tr *trial) {
			tr.needs(tr.Other != nil, "client with another address")
			m := tr.bring(fsrvp.ContextBackup, agent.Recovered)
			tr.ok(tr.Other.DeleteShareMapping(tr.ctx, m.id, m.copies[0], tr.Share), "DeleteShareMapping")
		}},
		{Standard, section, "Delete/ExposedShareIsGone", "The exposed share is deleted, and the share it is of is not.", func(tr *trial) {
			tr.needs(tr.Files != nil, "way to its files")
			base := tr.parse(tr.Share).Share
			tr.write(base, "base")
			m := tr.bring(fsrvp.ContextBackup, agent.Exposed)
			exposed := tr.exposed(m, 0)
			tr.onward(m, agent.Exposed, agent.Recovered)
			tr.reads(exposed, "base")
			tr.ok(tr.delete(m, 0), "DeleteShareMapping")
			_, err := tr.Files.ReadFile(exposed, file)
			tr.check(err != nil, "%s is still there", exposed)
			tr.reads(base, "base")
		}},
	}
	for _, s := range spellings {
		list = append(list, Case{Standard, section, "Delete/Spelling/" + s.name,
			"A share matches however it is written.", func(tr *trial) {
				m := tr.bring(fsrvp.ContextBackup, agent.Recovered)
				del(tr, m.id, m.copies[0], s.spell(tr.Share), 0)
			}})
	}
	return append(list, forStatuses([]agent.SetStatus{agent.Started, agent.Added, agent.Committed}, Standard, section,
		"Delete/BadState", "Before the set is Exposed the answer is FSRVP_E_BAD_STATE.",
		func(tr *trial, s agent.SetStatus) {
			m := tr.bring(fsrvp.ContextBackup, s)
			copy := fsrvp.NewCopyID()
			if len(m.copies) > 0 {
				copy = m.copies[0]
			}
			del(tr, m.id, copy, tr.Share, fsrvp.ErrBadState)
		})...)
}
