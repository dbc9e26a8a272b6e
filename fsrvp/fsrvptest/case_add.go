package fsrvptest

import (
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// afterAdd are the statuses in which the shares of a set are final.
var afterAdd = []agent.SetStatus{agent.Committed, agent.Exposed, agent.Recovered}

// spellings are ways to write the UNC path of a share, which has no backslash at its end.
var spellings = [...]struct {
	name  string
	spell func(unc string) string
}{
	{"TrailingBackslash", func(unc string) string { return unc + `\` }},
	{"PathBelow", func(unc string) string { return unc + `\some\where` }},
	{"UpperCase", strings.ToUpper},
	{"LowerCase", strings.ToLower},
}

// notShares are the names to which AddToShadowCopySet and similar methods answer E_INVALIDARG.
var notShares = [...]string{"", "share", `\share`, `\\`, `\\host`, `\\host\`, `\\\share`, `C:\share`, `\\?\UNC\host\share`, `\\.\PhysicalDrive0`}

func addCases() []Case {
	const section = "3.1.4.4"
	// one adds one share to a new set, and checks the answer.
	one := func(tr *trial, share string, want fsrvp.Status) {
		m := tr.bring(fsrvp.ContextBackup, agent.Started)
		id, err := tr.tryAdd(m, share)
		tr.status(err, "AddToShadowCopySet "+share, want)
		tr.check(err != nil || id != fsrvp.CopyID{}, "the copy's id is null")
	}
	again := func(tr *trial, share string) {
		m := tr.bring(fsrvp.ContextBackup, agent.Added)
		_, err := tr.tryAdd(m, share)
		tr.status(err, "AddToShadowCopySet "+share+" again", fsrvp.ErrObjectAlreadyExists)
		tr.onward(m, agent.Added, agent.Recovered)
	}
	list := []Case{
		{Standard, section, "Add/Id", "The server gives the copy an id of its own.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Started)
			client := fsrvp.NewCopyID()
			id, err := tr.Client.AddToShadowCopySet(tr.ctx, client, m.id, tr.Share)
			tr.ok(err, "AddToShadowCopySet")
			tr.check(id != client && id != fsrvp.CopyID{} && fsrvp.SetID(id) != m.id, "the id %s is null, the client's, or that of the set", id)
		}},
		{Standard, section, "Add/NullCopyId", "A null ClientShadowCopyId is ignored by Windows; as it is written, no argument may be null.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Started)
			_, err := tr.Client.AddToShadowCopySet(tr.ctx, fsrvp.CopyID{}, m.id, tr.Share)
			tr.status(err, "AddToShadowCopySet", tr.byProfile(0, fsrvp.ErrInvalidArg))
		}},
		{Standard, section, "Add/UnknownShare", "A share that does not exist is answered with FSRVP_E_OBJECT_NOT_FOUND.", func(tr *trial) { one(tr, tr.absent(), fsrvp.ErrObjectNotFound) }},
		{Standard, section, "Add/AnotherHost", "A share of another host is refused.", func(tr *trial) {
			one(tr, tr.foreign(), tr.byProfile(fsrvp.ErrInvalidArg, fsrvp.ErrObjectNotFound))
		}},
		{Standard, section, "Add/NoShare", "What is not the UNC path of a share is answered with E_INVALIDARG.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Started)
			for _, s := range notShares {
				_, err := tr.tryAdd(m, s)
				tr.status(err, "AddToShadowCopySet "+s, fsrvp.ErrInvalidArg)
			}
			tr.add(m, tr.Share)
		}},
		{Standard, section, "Add/UnknownSet", "An unknown set is refused.", func(tr *trial) {
			tr.bring(fsrvp.ContextBackup, agent.Started)
			_, err := tr.tryAdd(&made{id: fsrvp.NewSetID(), by: tr.Client}, tr.Share)
			tr.status(err, "AddToShadowCopySet", tr.unknownSet())
		}},
		{Standard, section, "Add/NullSet", "A null ShadowCopySetId is answered with E_INVALIDARG.", func(tr *trial) {
			tr.bring(fsrvp.ContextBackup, agent.Started)
			_, err := tr.tryAdd(&made{by: tr.Client}, tr.Share)
			tr.status(err, "AddToShadowCopySet", fsrvp.ErrInvalidArg)
		}},
		{Standard, section, "Add/NullSetBeforeShare", "A null argument is answered with E_INVALIDARG before anything else: also where the share does not exist.", func(tr *trial) {
			_, err := tr.tryAdd(&made{by: tr.Client}, tr.absent())
			tr.status(err, "AddToShadowCopySet", fsrvp.ErrInvalidArg)
		}},
		{Standard, section, "Add/ShareBeforeSet", "The share is looked up before the set.", func(tr *trial) {
			_, err := tr.tryAdd(&made{id: fsrvp.NewSetID(), by: tr.Client}, tr.absent())
			tr.status(err, "AddToShadowCopySet", fsrvp.ErrObjectNotFound)
		}},
		{Standard, section, "Add/Twice", "The same share twice is answered with FSRVP_E_OBJECT_ALREADY_EXISTS.", func(tr *trial) { again(tr, tr.Share) }},
		{Standard, section, "Add/TwiceByAlias", "The same share by another name of the server is the same share.", func(tr *trial) {
			tr.needs(len(tr.Aliases) > 0, "other name of the server")
			for _, alias := range tr.Aliases {
				again(tr, alias)
				tr.ok(tr.cleanUp(), "clean-up")
			}
		}},
		{Standard, section, "Add/Alias", "The server's other names and addresses name its shares.", func(tr *trial) {
			tr.needs(len(tr.Aliases) > 0, "other name of the server")
			for _, alias := range tr.Aliases {
				one(tr, alias, 0)
				tr.ok(tr.cleanUp(), "clean-up")
			}
		}},
		{Standard, section, "Add/SameVolume", "Another share on a volume of the set joins its copy (as Windows is seen), or is FSRVP_E_OBJECT_ALREADY_EXISTS (as it is written).", func(tr *trial) {
			tr.needs(tr.SameVolume != "", "two shares on one volume")
			m := tr.bring(fsrvp.ContextBackup, agent.Added)
			id, err := tr.tryAdd(m, tr.SameVolume)
			tr.status(err, "AddToShadowCopySet "+tr.SameVolume, tr.byProfile(0, fsrvp.ErrObjectAlreadyExists))
			tr.check(err != nil || id == m.copies[0], "the copies are %s and %s", m.copies[0], id)
		}},
		{Standard, section, "Add/OtherVolume", "A share on another volume gets another copy.", func(tr *trial) {
			tr.needs(tr.OtherVolume != "", "shares on two volumes")
			m := tr.bring(fsrvp.ContextBackup, agent.Added, tr.Share, tr.OtherVolume)
			tr.check(m.copies[0] != m.copies[1], "both have copy %s", m.copies[0])
		}},
		{Standard, section, "Add/Unsupported", "A volume that cannot be copied is answered with FSRVP_E_NOT_SUPPORTED.", func(tr *trial) {
			tr.needs(tr.Unsupported != "", "share on a volume that cannot be copied")
			one(tr, tr.Unsupported, fsrvp.ErrNotSupported)
		}},
		{Standard, section, "Add/MountPoint", "A mount point below the share is answered with FSRVP_E_NOT_SUPPORTED.", func(tr *trial) {
			tr.needs(tr.Mounted != "", "share with a mount point below it")
			one(tr, tr.Mounted, fsrvp.ErrNotSupported)
		}},
		{Standard, section, "Add/Hidden", "A hidden share is a share, with and without a backslash at its end.", func(tr *trial) {
			tr.needs(tr.Hidden != "", "hidden share")
			one(tr, tr.Hidden, 0)
			tr.ok(tr.cleanUp(), "clean-up")
			one(tr, tr.Hidden+`\`, 0)
		}},
	}
	for _, s := range spellings {
		list = append(list,
			Case{Standard, section, "Add/Spelling/" + s.name, "A share is found however it is written.", func(tr *trial) { one(tr, s.spell(tr.Share), 0) }},
			Case{Standard, section, "Add/TwiceSpelled/" + s.name, "The same share, written otherwise, is the same share.", func(tr *trial) { again(tr, s.spell(tr.Share)) }})
	}
	return append(list, forStatuses(afterAdd, Standard, section, "Add/BadState", "When the set is neither Started nor Added the answer is FSRVP_E_BAD_STATE.",
		func(tr *trial, s agent.SetStatus) {
			m := tr.bring(fsrvp.ContextBackup, s)
			share := tr.Share
			if tr.OtherVolume != "" {
				share = tr.OtherVolume
			}
			_, err := tr.tryAdd(m, share)
			tr.status(err, "AddToShadowCopySet", fsrvp.ErrBadState)
		})...)
}
