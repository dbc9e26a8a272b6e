package fsrvptest

import (
	"fmt"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// wholeLife takes a set of shares through all methods, as a backup does, with f in between: when the set is
// Exposed and when it is Recovered.
func (tr *trial) wholeLife(c fsrvp.ContextValue, f func(m *made, recovered bool), shares ...string) {
	for _, share := range shares {
		p, err := tr.Client.IsPathSupported(tr.ctx, share)
		tr.ok(err, "IsPathSupported "+share)
		tr.check(p.Supported, "%s is not supported", share)
	}
	_, err := tr.Client.GetSupportedVersion(tr.ctx)
	tr.ok(err, "GetSupportedVersion")
	m := tr.bring(c, agent.Exposed, shares...)
	f(m, false)
	tr.onward(m, agent.Exposed, agent.Recovered)
	f(m, true)
	for i := range m.shares {
		p, err := tr.Client.IsPathShadowCopied(tr.ctx, m.shares[i])
		tr.ok(err, "IsPathShadowCopied "+m.shares[i])
		tr.check(p.Present, "%s has no copy", m.shares[i])
	}
	for i := range m.shares {
		tr.ok(tr.delete(m, i), "DeleteShareMapping "+m.shares[i])
	}
}

// fileServerCases are those of Microsoft's FileServer suite, FSRVP part.
func fileServerCases() []Case {
	const section = "3.1"
	writable := func(tr *trial, share string) {
		tr.can(Writable)
		tr.needs(tr.Files != nil, "way to its files")
		tr.write(tr.name(share).Share, "base")
		var exposed string
		tr.wholeLife(fsrvp.AttrAutoRecovery, func(m *made, recovered bool) {
			if !recovered {
				exposed = tr.exposed(m, 0)
				tr.write(exposed, "written")
				return
			}
			tr.refuses(exposed)
			tr.reads(exposed, "written")
		}, share)
	}
	list := []Case{
		{FileServer, section, "FileServer/WritableSnapshot", "A copy of context 0x00400000 is written when it is exposed, and read-only when it is recovered.", func(tr *trial) { writable(tr, tr.Share) }},
		{FileServer, section, "FileServer/WritableSnapshot/Cluster", "The same on the share of a cluster, through the node that owns it.", func(tr *trial) {
			tr.needs(tr.Elsewhere != "", "share of a cluster")
			p, err := tr.Client.IsPathSupported(tr.ctx, tr.Share)
			tr.ok(err, "IsPathSupported")
			tr.check(tr.Owner == "" || strings.EqualFold(p.Owner, tr.Owner), "the owner is %s, and has to be %s", p.Owner, tr.Owner)
			writable(tr, tr.Share)
		}},
		{FileServer, section, "FileServer/NonOwnerNode", "A node refuses a share that another node owns: E_INVALIDARG.", func(tr *trial) {
			tr.needs(tr.Elsewhere != "", "share of a cluster that another machine owns")
			m := tr.bring(fsrvp.AttrNoAutoRecovery, agent.Started)
			_, err := tr.tryAdd(m, tr.Elsewhere)
			tr.status(err, "AddToShadowCopySet", tr.byProfile(fsrvp.ErrInvalidArg, fsrvp.ErrObjectNotFound))
		}},
		{FileServer, section, "FileServer/SharesOfTwoServers", "Shares of two servers in one set: E_INVALIDARG.", func(tr *trial) {
			m := tr.bring(fsrvp.AttrNoAutoRecovery, agent.Added)
			_, err := tr.tryAdd(m, tr.foreign())
			tr.status(err, "AddToShadowCopySet", tr.byProfile(fsrvp.ErrInvalidArg, fsrvp.ErrObjectNotFound))
		}},
		{FileServer, section, "FileServer/InvalidContext", "The context 0x00400002 is FSRVP_E_UNSUPPORTED_CONTEXT.", func(tr *trial) {
			tr.status(tr.Client.SetContext(tr.ctx, 0x00400002), "SetContext", fsrvp.ErrUnsupportedContext)
		}},
	}
	for _, c := range []fsrvp.ContextValue{0x2, 0xB, 0x10, 0x19} {
		list = append(list, Case{FileServer, section, fmt.Sprintf("FileServer/ReadOnlySnapshot/%X", uint32(c)), "A copy of a context without AUTO_RECOVERY cannot be written.", func(tr *trial) {
			tr.needs(tr.Files != nil, "way to its files")
			tr.write(tr.name(tr.Share).Share, "base")
			var exposed string
			tr.wholeLife(c, func(m *made, recovered bool) {
				if !recovered {
					exposed = tr.exposed(m, 0)
				}
				tr.refuses(exposed)
				tr.reads(exposed, "base")
			}, tr.Share)
		}})
	}
	return append(list, forStatuses([]agent.SetStatus{agent.Started, agent.Added, agent.Recovered}, FileServer, section, "FileServer/Abort", "Abort succeeds when the set is Started or Added, and is FSRVP_E_BAD_STATE when it is Recovered.",
		func(tr *trial, s agent.SetStatus) {
			m := tr.bring(fsrvp.AttrNoAutoRecovery, s)
			want := fsrvp.Status(0)
			if s == agent.Recovered {
				want = fsrvp.ErrBadState
			}
			tr.status(m.by.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet", want)
		})...)
}

// smbtortureCases are those of Samba's rpc.fsrvp.
func smbtortureCases() []Case {
	const section = "3.1"
	// create makes a set of the share as that suite does: without RecoveryComplete, and with a second Add that has to fail.
	create := func(tr *trial, share string, to agent.SetStatus) *made {
		p, err := tr.Client.IsPathSupported(tr.ctx, share)
		tr.ok(err, "IsPathSupported")
		tr.check(p.Supported, "%s is not supported", share)
		_, err = tr.Client.GetSupportedVersion(tr.ctx)
		tr.ok(err, "GetSupportedVersion")
		m := tr.bring(fsrvp.ContextBackup, agent.Started)
		tr.add(m, share)
		_, err = tr.tryAdd(m, share)
		tr.status(err, "AddToShadowCopySet again", fsrvp.ErrObjectAlreadyExists)
		tr.ok(m.by.PrepareShadowCopySet(tr.ctx, m.id, long), "PrepareShadowCopySet")
		return tr.onward(m, agent.Added, to)
	}
	backslash := func(tr *trial) string { return tr.Share + `\` }
	list := []Case{
		{Smbtorture, section, "smbtorture/share_sd", "The exposed share has the rights of the share, with changes from before and after Commit.", func(tr *trial) {
			tr.needs(tr.Rights != nil, "way to its rights")
			base, before, after := tr.name(tr.Share).Share, fsrvp.NewSetID().String(), fsrvp.NewSetID().String()
			tr.mark(base, before)
			m := create(tr, tr.Share, agent.Committed)
			tr.mark(base, after)
			tr.onward(m, agent.Committed, agent.Exposed)
			marks, err := tr.Rights.Marks(tr.ctx, tr.exposed(m, 0))
			tr.ok(err, "reading the rights")
			all := strings.Join(marks, " ")
			tr.check(strings.Contains(all, before) && strings.Contains(all, after), "the rights are %v, and have to have %s and %s", marks, before, after)
			tr.ok(tr.delete(m, 0), "DeleteShareMapping")
		}},
		{Smbtorture, section, "smbtorture/enum_created", "Each copy is among the previous versions of the share.", func(tr *trial) {
			tr.needs(tr.PreviousVersions != nil, "way to its previous versions")
			base := tr.name(tr.Share).Share
			count := func() int {
				n, err := tr.PreviousVersions(tr.ctx, base)
				tr.ok(err, "FSCTL_SRV_ENUM_SNAPS")
				return n
			}
			first := count()
			tr.onward(create(tr, backslash(tr), agent.Exposed), agent.Exposed, agent.Recovered)
			tr.check(count() == first+1, "%d previous versions after the first copy, %d before", count(), first)
			tr.onward(create(tr, backslash(tr), agent.Exposed), agent.Exposed, agent.Recovered)
			tr.check(count() == first+2, "%d previous versions after the second copy, %d before", count(), first)
		}},
		{Smbtorture, section, "smbtorture/sc_share_io", "What is written after the copy was taken is not in the exposed share.", func(tr *trial) {
			tr.needs(tr.Files != nil, "way to its files")
			base := tr.name(tr.Share).Share
			tr.write(base, "pre-snap")
			m := create(tr, tr.Share, agent.Exposed)
			tr.write(base, "post-snap")
			tr.reads(tr.exposed(m, 0), "pre-snap")
			tr.ok(tr.delete(m, 0), "DeleteShareMapping")
		}},
		{Smbtorture, section, "smbtorture/bad_id", "DeleteShareMapping with a wrong set is FSRVP_E_OBJECT_NOT_FOUND, with a wrong copy E_INVALIDARG.", func(tr *trial) {
			m := create(tr, backslash(tr), agent.Exposed)
			a := tr.mapping(m, 0)
			set, copy := a.SetID, a.CopyID
			set[0]++
			copy[4]++
			tr.status(m.by.DeleteShareMapping(tr.ctx, set, a.CopyID, a.Share), "DeleteShareMapping of another set", fsrvp.ErrObjectNotFound)
			tr.status(m.by.DeleteShareMapping(tr.ctx, a.SetID, copy, a.Share), "DeleteShareMapping of another copy", tr.byProfile(fsrvp.ErrInvalidArg, fsrvp.ErrObjectNotFound))
			tr.ok(m.by.DeleteShareMapping(tr.ctx, a.SetID, a.CopyID, a.Share), "DeleteShareMapping")
		}},
		{Smbtorture, section, "smbtorture/sc_set_abort", "An aborted set takes no shares.", func(tr *trial) {
			m := tr.bring(fsrvp.ContextBackup, agent.Started)
			tr.ok(m.by.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet")
			_, err := tr.tryAdd(m, backslash(tr))
			tr.status(err, "AddToShadowCopySet", fsrvp.ErrBadState, tr.unknownSet())
		}},
		{Smbtorture, section, "smbtorture/create_simple", "A set can be made, exposed and deleted.", func(tr *trial) {
			m := create(tr, tr.Share, agent.Exposed)
			tr.mapping(m, 0)
			tr.ok(tr.delete(m, 0), "DeleteShareMapping")
		}},
		{Smbtorture, section, "smbtorture/set_ctx", "A context can be set.", func(tr *trial) { tr.setContext(tr.Client, fsrvp.ContextBackup) }},
		{Smbtorture, section, "smbtorture/get_version", "The versions can be asked for.", func(tr *trial) {
			_, err := tr.Client.GetSupportedVersion(tr.ctx)
			tr.ok(err, "GetSupportedVersion")
		}},
		{Smbtorture, section, "smbtorture/is_path_supported", "The share is supported.", func(tr *trial) {
			p, err := tr.Client.IsPathSupported(tr.ctx, backslash(tr))
			tr.ok(err, "IsPathSupported")
			tr.check(p.Supported, "%s is not supported", tr.Share)
		}},
		{Smbtorture, section, "smbtorture/seq_timeout", "A client that is silent for too long after any step finds its set gone.", func(tr *trial) {
			tr.timed()
			m := create(tr, tr.Share, agent.Exposed)
			tr.ok(tr.delete(m, 0), "DeleteShareMapping")

			tr.setContext(tr.Client, fsrvp.ContextBackup)
			tr.elapse()
			_, err := tr.tryStart(tr.Client)
			tr.status(err, "StartShadowCopySet", fsrvp.ErrBadState)

			m = tr.bring(fsrvp.ContextBackup, agent.Started)
			tr.elapse()
			_, err = tr.tryAdd(m, tr.Share)
			tr.status(err, "AddToShadowCopySet", tr.unknownSet())

			m = tr.bring(fsrvp.ContextBackup, agent.Added)
			tr.elapse()
			tr.status(m.by.PrepareShadowCopySet(tr.ctx, m.id, long), "PrepareShadowCopySet", tr.unknownSet())

			m = create(tr, tr.Share, agent.Added)
			tr.elapse()
			tr.status(m.by.CommitShadowCopySet(tr.ctx, m.id, long), "CommitShadowCopySet", tr.unknownSet())

			m = create(tr, tr.Share, agent.Committed)
			tr.elapse()
			tr.status(m.by.ExposeShadowCopySet(tr.ctx, m.id, long), "ExposeShadowCopySet", tr.unknownSet())
		}},
	}
	return list
}
