package fsrvptest

import (
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

func pathSupportedCases() []Case {
	const section = "3.1.4.9"
	supported := func(tr *trial, share, owner string) {
		p, err := tr.Client.IsPathSupported(tr.ctx, share)
		tr.ok(err, "IsPathSupported "+share)
		tr.check(p.Supported, "%s is not supported", share)
		tr.check(p.Owner != "", "OwnerMachineName is empty")
		tr.check(owner == "" || strings.EqualFold(p.Owner, owner), "OwnerMachineName is %s, and must be %s", p.Owner,
			owner)
	}
	refused := func(tr *trial, share string, want fsrvp.Status) {
		_, err := tr.Client.IsPathSupported(tr.ctx, share)
		tr.status(err, "IsPathSupported "+share, want)
	}
	list := []Case{
		{Standard, section, "IsPathSupported/Supported", "A share that can be copied is supported, by a machine that is named.", func(tr *trial) { supported(tr, tr.Share, tr.Owner) }},
		{Standard, section, "IsPathSupported/Alias", "The server's other names and addresses name its shares.", func(tr *trial) {
			tr.needs(len(tr.Aliases) > 0, "other name of the server")
			for _, alias := range tr.Aliases {
				supported(tr, alias, tr.Owner)
			}
		}},
		{Standard, section, "IsPathSupported/Hidden", "A hidden share is a share, with and without a backslash at its end.", func(tr *trial) {
			tr.needs(tr.Hidden != "", "hidden share")
			supported(tr, tr.Hidden, tr.Owner)
			supported(tr, tr.Hidden+`\`, tr.Owner)
		}},
		{Standard, section, "IsPathSupported/Elsewhere", "For a share of another node of the cluster, that node is named.", func(tr *trial) {
			tr.needs(tr.Elsewhere != "", "share that another machine owns")
			supported(tr, tr.Elsewhere, tr.ElsewhereOwner)
		}},
		{Standard, section, "IsPathSupported/UnknownShare", "A share that does not exist is answered with FSRVP_E_OBJECT_NOT_FOUND.", func(tr *trial) { refused(tr, tr.absent(), fsrvp.ErrObjectNotFound) }},
		{Standard, section, "IsPathSupported/AnotherHost", "A share of another host does not exist on this one: FSRVP_E_OBJECT_NOT_FOUND.", func(tr *trial) { refused(tr, tr.foreign(), fsrvp.ErrObjectNotFound) }},
		{Standard, section, "IsPathSupported/NoShare", "What is not the UNC path of a share is answered with E_INVALIDARG.", func(tr *trial) {
			for _, s := range notShares {
				refused(tr, s, fsrvp.ErrInvalidArg)
			}
		}},
		{Standard, section, "IsPathSupported/Unsupported", "A volume that cannot be copied is answered with FSRVP_E_NOT_SUPPORTED.", func(tr *trial) {
			tr.needs(tr.Unsupported != "", "share on a volume that cannot be copied")
			refused(tr, tr.Unsupported, fsrvp.ErrNotSupported)
		}},
		{Standard, section, "IsPathSupported/MountPoint", "A mount point below the share is answered with FSRVP_E_NOT_SUPPORTED.", func(tr *trial) {
			tr.needs(tr.Mounted != "", "share with a mount point below it")
			refused(tr, tr.Mounted, fsrvp.ErrNotSupported)
		}},
		{Standard, section, "IsPathSupported/InAnyState", "The method does not depend on, nor change, the state of a creation.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Added)
			supported(tr, tr.Share, tr.Owner)
			if tr.Other != nil {
				_, err := tr.Other.IsPathSupported(tr.ctx, tr.Share)
				tr.ok(err, "IsPathSupported of another client")
			}
			tr.onward(m, agent.Added, agent.Recovered)
		}},
	}
	for _, s := range spellings {
		list = append(list, Case{Standard, section, "IsPathSupported/Spelling/" + s.name,
			"A share is found however it is written.", func(tr *trial) { supported(tr, s.spell(tr.Share), tr.Owner) }})
	}
	return list
}

func pathCopiedCases() []Case {
	const section = "3.1.4.10"
	present := func(tr *trial, share string) bool {
		p, err := tr.Client.IsPathShadowCopied(tr.ctx, share)
		tr.ok(err, "IsPathShadowCopied "+share)
		tr.check(p.Compatibility&^(fsrvp.DisableDefrag|fsrvp.DisableContentIndex) == 0, "ShadowCopyCompatibility is %v",
			p.Compatibility)
		return p.Present
	}
	// none ends the case if the share has copies that the case has not made.
	none := func(tr *trial, share string) {
		if present(tr, share) && !tr.emptied(func() bool { return !present(tr, share) }) {
			if by := tr.memory.left; by != "" {
				panic(Result{Verdict: Blocked, BlockedBy: by,
					Reason: share + " has copies, which may be those of " + by})
			}
			panic(Result{Verdict: NotApplicable, Reason: share + " has copies already"})
		}
	}
	refused := func(tr *trial, share string, want fsrvp.Status) {
		_, err := tr.Client.IsPathShadowCopied(tr.ctx, share)
		tr.status(err, "IsPathShadowCopied "+share, want)
	}
	list := []Case{
		{Standard, section, "IsPathShadowCopied/SameVolume", "A share has a copy when its volume has one.", func(tr *trial) {
			tr.needs(tr.SameVolume != "", "two shares on one volume")
			none(tr, tr.SameVolume)
			tr.bring(fsrvp.ContextBackup, agent.Committed)
			tr.check(present(tr, tr.SameVolume), "%s has no copy", tr.SameVolume)
		}},
		{Standard, section, "IsPathShadowCopied/OtherVolume", "A copy of one volume is none of another.", func(tr *trial) {
			tr.needs(tr.OtherVolume != "", "shares on two volumes")
			none(tr, tr.OtherVolume)
			tr.bring(fsrvp.ContextBackup, agent.Committed)
			tr.check(!present(tr, tr.OtherVolume), "%s has a copy", tr.OtherVolume)
		}},
		{Standard, section, "IsPathShadowCopied/AfterDelete", "When the last mapping is deleted there is no copy.", func(tr *trial) {
			none(tr, tr.Share)
			m := tr.bring(fsrvp.ContextBackup, agent.Recovered)
			tr.check(present(tr, tr.Share), "there is no copy")
			tr.ok(tr.delete(m, 0), "DeleteShareMapping")
			tr.check(!present(tr, tr.Share), "there is a copy")
		}},
		{Standard, section, "IsPathShadowCopied/AfterAbort", "An aborted set has no copies.", func(tr *trial) {
			none(tr, tr.Share)
			m := tr.bring(fsrvp.ContextBackup, agent.Exposed)
			tr.ok(m.by.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet")
			tr.check(!present(tr, tr.Share), "there is a copy")
		}},
		{Standard, section, "IsPathShadowCopied/UnknownShare", "A share that does not exist is answered with FSRVP_E_OBJECT_NOT_FOUND.", func(tr *trial) { refused(tr, tr.absent(), fsrvp.ErrObjectNotFound) }},
		{Standard, section, "IsPathShadowCopied/AnotherHost", "A share of another host does not exist on this one: FSRVP_E_OBJECT_NOT_FOUND.", func(tr *trial) { refused(tr, tr.foreign(), fsrvp.ErrObjectNotFound) }},
		{Standard, section, "IsPathShadowCopied/NoShare", "What is not the UNC path of a share is answered with E_INVALIDARG.", func(tr *trial) {
			for _, s := range notShares {
				refused(tr, s, fsrvp.ErrInvalidArg)
			}
		}},
	}
	list = append(list, forStatuses([]agent.SetStatus{agent.Started, agent.Added}, Standard, section,
		"IsPathShadowCopied/NotYet", "A set that is not Committed has no copies.",
		func(tr *trial, s agent.SetStatus) {
			none(tr, tr.Share)
			tr.bring(fsrvp.ContextBackup, s)
			tr.check(!present(tr, tr.Share), "there is a copy")
		})...)
	return append(list, forStatuses(afterAdd, Standard, section, "IsPathShadowCopied/Present",
		"A set that is Committed, Exposed or Recovered has copies.",
		func(tr *trial, s agent.SetStatus) {
			tr.bring(fsrvp.ContextBackup, s)
			tr.check(present(tr, tr.Share), "there is no copy")
			tr.check(present(tr, tr.Share+`\`), "there is none of the share with a backslash")
		})...)
}
