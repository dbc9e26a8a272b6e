package fsrvptest

import (
	"cmp"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// The time-outs that Microsoft's suite uses.
const (
	fileServerWait   = 1800 * time.Second // for Prepare and Expose
	fileServerCommit = 60 * time.Second
)

// A fileServerRun has the differences between the cases of Microsoft's suite.
type fileServerRun struct {
	context fsrvp.ContextValue
	shares  []string
	abort   agent.SetStatus // when AbortShadowCopySet is called; empty means never
	refused bool            // the server must refuse the second share
	files   bool            // the case is about files
}

// fileServer makes the calls of the cases of Microsoft's suite, in their order.
func (tr *trial) fileServer(r fileServerRun) {
	if r.context.AutoRecovery() {
		tr.can(Writable)
	}
	if r.files {
		tr.needs(tr.Files != nil, "way to its files")
	}
	s := tr.Client
	p, err := s.IsPathSupported(tr.ctx, r.shares[0])
	tr.ok(err, "IsPathSupported "+r.shares[0])
	tr.check(p.Supported && p.Owner != "", "%s is not supported, or no machine is named: %+v", r.shares[0], p)
	v, err := s.GetSupportedVersion(tr.ctx)
	tr.ok(err, "GetSupportedVersion")
	tr.check(v == fsrvp.Versions{Min: 1, Max: 1}, "the versions are %d to %d, and must be 1", v.Min, v.Max)
	tr.setContext(s, r.context)
	m := tr.start(s)
	tr.check(m.id != fsrvp.SetID{}, "the set's id is null")
	if r.abort == agent.Started {
		tr.ok(s.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet")
		return
	}
	for i, share := range r.shares {
		id, err := tr.tryAdd(m, share)
		if r.refused && i == 1 {
			tr.status(err, "AddToShadowCopySet "+share, tr.byProfile(fsrvp.ErrInvalidArg, fsrvp.ErrObjectNotFound))
			tr.check(id == fsrvp.CopyID{}, "the id of the share that was refused is %s, and must be null", id)
			return
		}
		tr.ok(err, "AddToShadowCopySet "+share)
		tr.check(id != fsrvp.CopyID{}, "the copy's id is null")
		m.shares, m.copies = append(m.shares, share), append(m.copies, id)
	}
	if r.abort == agent.Added {
		tr.ok(s.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet")
		return
	}
	tr.ok(s.PrepareShadowCopySet(tr.ctx, m.id, fileServerWait), "PrepareShadowCopySet")
	tr.ok(s.CommitShadowCopySet(tr.ctx, m.id, fileServerCommit), "CommitShadowCopySet")
	tr.ok(s.ExposeShadowCopySet(tr.ctx, m.id, fileServerWait), "ExposeShadowCopySet")
	var exposed []string
	for i, share := range m.shares {
		a := tr.mapping(m, i)
		want := tr.parse(share).Share + "@{" + m.copies[i].String() + "}"
		tr.check(strings.EqualFold(a.Exposed, want), "ShadowCopyShareName is %s, and must be %s", a.Exposed, want)
		tr.check(a.Created.After(time.Unix(0, 0)), "CreationTimestamp is %v", a.Created)
		exposed = append(exposed, a.Exposed)
	}
	for _, share := range exposed {
		switch {
		case tr.Files == nil:
		case r.context.AutoRecovery():
			tr.write(share, "written")
		default:
			tr.refuses(share)
		}
	}
	tr.ok(s.RecoveryCompleteShadowCopySet(tr.ctx, m.id), "RecoveryCompleteShadowCopySet")
	if r.abort == agent.Recovered {
		tr.status(s.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet", fsrvp.ErrBadState)
	}
	for _, share := range m.shares {
		p, err := s.IsPathShadowCopied(tr.ctx, share)
		tr.ok(err, "IsPathShadowCopied "+share)
		tr.check(p.Present, "%s has no copy", share)
		tr.check(p.Compatibility&^(fsrvp.DisableDefrag|fsrvp.DisableContentIndex) == 0, "ShadowCopyCompatibility is %v",
			p.Compatibility)
	}
	for i, share := range m.shares {
		tr.ok(tr.delete(m, i), "DeleteShareMapping "+share)
	}
}

// fileServerCases returns the 14 cases of the FSRVP part of Microsoft's FileServer suite, with
// their names, calls, contexts and time-outs. Where that suite uses a test driver on the server,
// they use Target.Files.
func fileServerCases() []Case {
	const (
		section  = "3.1"
		auto     = fsrvp.AttrAutoRecovery
		noAuto   = fsrvp.AttrNoAutoRecovery
		writable = "A copy of the context 0x00400000 can be written when it is exposed; the set goes through all methods"
		readOnly = "A copy of a context without AUTO_RECOVERY cannot be written; the set goes through all methods."
	)
	run := func(name, demand string, what func(tr *trial) fileServerRun) Case {
		return Case{FileServer, section, "FileServer/" + name, demand, func(tr *trial) { tr.fileServer(what(tr)) }}
	}
	basic := func(r fileServerRun) func(tr *trial) fileServerRun {
		return func(tr *trial) fileServerRun {
			r := r
			r.shares = []string{tr.Share}
			return r
		}
	}
	return []Case{
		run("BVT_VSSOperateShadowCopySet_WritableSnapshot_SingleNode", writable+".",
			basic(fileServerRun{context: auto, files: true})),
		run("BVT_VSSOperateShadowCopySet_WritableSnapshot_GeneralFileServer",
			writable+", also on the share of a general file server role.", func(tr *trial) fileServerRun {
				tr.needs(tr.Clustered != "", "share of a cluster's file server")
				return fileServerRun{context: auto, shares: []string{tr.Clustered}, files: true}
			}),
		run("BVT_VSSOperateShadowCopySet_WritableSnapshot_ScaleoutFileServer",
			writable+", also on the share of a scale-out file server.", func(tr *trial) fileServerRun {
				tr.needs(tr.ScaleOut != "", "share of a scale-out file server")
				return fileServerRun{context: auto, shares: []string{tr.ScaleOut}, files: true}
			}),
		run("BVT_VSSOperateShadowCopySet_ClusterSharePath_OwnerNode",
			"A set takes a cluster's share and one of the node that owns it: OwnerNode.", func(tr *trial) fileServerRun {
				tr.needs(tr.Clustered != "", "share of a cluster's file server")
				return fileServerRun{context: auto, shares: []string{tr.Clustered, tr.Share}}
			}),
		run("BVT_VSSOperateShadowCopySet_ClusterSharePath_NonOwnerNode",
			"A node refuses a share that another node owns: E_INVALIDARG.", func(tr *trial) fileServerRun {
				tr.needs(tr.Elsewhere != "", "share that another machine owns")
				return fileServerRun{context: auto, shares: []string{cmp.Or(tr.Clustered, tr.Share), tr.Elsewhere},
					refused: true}
			}),
		run("VSSOperateShadowCopySet_DifferentNodeSharePath", "Shares of two servers in one set: E_INVALIDARG.",
			func(tr *trial) fileServerRun {
				return fileServerRun{context: auto, shares: []string{tr.Share, tr.foreign()}, refused: true}
			}),
		run("BVT_VSSSetContext_ReadonlySnapshot_BACKUP", readOnly,
			basic(fileServerRun{context: fsrvp.ContextBackup | noAuto, files: true})),
		run("VSSSetContext_ReadonlySnapshot_APP_ROLLBACK", readOnly,
			basic(fileServerRun{context: fsrvp.ContextAppRollback | noAuto, files: true})),
		run("VSSSetContext_ReadonlySnapshot_NAS_ROLLBACK", readOnly,
			basic(fileServerRun{context: fsrvp.ContextNASRollback, files: true})),
		run("VSSSetContext_ReadonlySnapshot_FILE_SHARE_BACKUP", readOnly,
			basic(fileServerRun{context: fsrvp.ContextFileShareBackup, files: true})),
		{FileServer, section, "FileServer/VSSSetContext_Invalid", "The context 0x00400002 is FSRVP_E_UNSUPPORTED_CONTEXT.", func(tr *trial) {
			p, err := tr.Client.IsPathSupported(tr.ctx, tr.Share)
			tr.ok(err, "IsPathSupported "+tr.Share)
			tr.check(p.Supported, "%s is not supported", tr.Share)
			tr.status(tr.Client.SetContext(tr.ctx, auto|noAuto), "SetContext", fsrvp.ErrUnsupportedContext)
		}},
		run("VSSAbortShadowCopySet_Started", "Abort succeeds when the set is Started.",
			basic(fileServerRun{context: auto, abort: agent.Started})),
		run("VSSAbortShadowCopySet_Added", "Abort succeeds when the set is Added.",
			basic(fileServerRun{context: auto, abort: agent.Added})),
		run("VSSAbortShadowCopySet_Recovered",
			"Abort is FSRVP_E_BAD_STATE when the set is Recovered; its copies stay, and can be deleted.", basic(fileServerRun{context: auto, abort: agent.Recovered})),
	}
}

// smbtortureCases returns the cases of Samba's rpc.fsrvp.
func smbtortureCases() []Case {
	const section = "3.1"
	// create makes a set of the share as that suite does: without RecoveryComplete, and with a
	// second Add that must fail.
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
			base, before, after := tr.parse(tr.Share).Share, fsrvp.NewSetID().String(), fsrvp.NewSetID().String()
			tr.mark(base, before)
			m := create(tr, tr.Share, agent.Committed)
			tr.mark(base, after)
			tr.onward(m, agent.Committed, agent.Exposed)
			marks, err := tr.Rights.Marks(tr.ctx, tr.exposed(m, 0))
			tr.ok(err, "reading the rights")
			all := strings.Join(marks, " ")
			tr.check(strings.Contains(all, before) && strings.Contains(all, after),
				"the rights are %v, and must have %s and %s", marks, before, after)
			tr.ok(tr.delete(m, 0), "DeleteShareMapping")
		}},
		{Smbtorture, section, "smbtorture/enum_created", "Each copy is among the previous versions of the share.", func(tr *trial) {
			tr.needs(tr.PreviousVersions != nil, "way to its previous versions")
			base := tr.parse(tr.Share).Share
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
			base := tr.parse(tr.Share).Share
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
			tr.status(m.by.DeleteShareMapping(tr.ctx, set, a.CopyID, a.Share), "DeleteShareMapping of another set",
				fsrvp.ErrObjectNotFound)
			tr.status(m.by.DeleteShareMapping(tr.ctx, a.SetID, copy, a.Share), "DeleteShareMapping of another copy",
				tr.byProfile(fsrvp.ErrInvalidArg, fsrvp.ErrObjectNotFound))
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
