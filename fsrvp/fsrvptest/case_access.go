package fsrvptest

import (
	"errors"
	"io"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// everyMethod calls each method, with valid or invalid arguments.
func everyMethod(tr *trial, s fsrvp.Service, valid bool) map[fsrvp.Opnum]func() error {
	set, copy, share, level, context := fsrvp.NewSetID(), fsrvp.NewCopyID(), tr.Share, uint32(1), fsrvp.ContextBackup
	if !valid {
		set, copy, share, level, context = fsrvp.SetID{}, fsrvp.CopyID{}, `\\?\nothing`, 99, 0x400002
	}
	return map[fsrvp.Opnum]func() error{
		fsrvp.OpGetSupportedVersion:  func() error { _, err := s.GetSupportedVersion(tr.ctx); return err },
		fsrvp.OpSetContext:           func() error { return tr.trySetContext(s, context) },
		fsrvp.OpStartShadowCopySet:   func() error { _, err := s.StartShadowCopySet(tr.ctx, set); return err },
		fsrvp.OpAddToShadowCopySet:   func() error { _, err := s.AddToShadowCopySet(tr.ctx, copy, set, share); return err },
		fsrvp.OpCommitShadowCopySet:  func() error { return s.CommitShadowCopySet(tr.ctx, set, time.Second) },
		fsrvp.OpExposeShadowCopySet:  func() error { return s.ExposeShadowCopySet(tr.ctx, set, time.Second) },
		fsrvp.OpAbortShadowCopySet:   func() error { return s.AbortShadowCopySet(tr.ctx, set) },
		fsrvp.OpIsPathSupported:      func() error { _, err := s.IsPathSupported(tr.ctx, share); return err },
		fsrvp.OpIsPathShadowCopied:   func() error { _, err := s.IsPathShadowCopied(tr.ctx, share); return err },
		fsrvp.OpGetShareMapping:      func() error { _, err := s.GetShareMapping(tr.ctx, copy, set, share, level); return err },
		fsrvp.OpDeleteShareMapping:   func() error { return s.DeleteShareMapping(tr.ctx, set, copy, share) },
		fsrvp.OpPrepareShadowCopySet: func() error { return s.PrepareShadowCopySet(tr.ctx, set, time.Second) },
		fsrvp.OpRecoveryCompleteShadowCopySet: func() error {
			return s.RecoveryCompleteShadowCopySet(tr.ctx, set)
		},
	}
}

func accessCases() []Case {
	var list []Case
	for op := fsrvp.OpGetSupportedVersion; op.Valid(); op++ {
		list = append(list, Case{
			Standard, "3.1.4", "Access/" + op.String(),
			"A caller without the required permissions gets E_ACCESSDENIED.",
			func(tr *trial) {
				tr.needs(tr.Unprivileged != nil, "unprivileged client")
				tr.deny(everyMethod(tr, tr.Unprivileged, true)[op], op)
			},
		})
	}
	return append(list, Case{
		Standard, "3.1.4", "Access/BeforeArguments",
		"A caller without the required permissions gets E_ACCESSDENIED whatever the arguments are.",
		func(tr *trial) {
			tr.needs(tr.Unprivileged != nil, "unprivileged client")
			tr.denyAll(everyMethod(tr, tr.Unprivileged, false))
		},
	}, Case{
		Standard, "3.1.4", "Access/BeforeState",
		"A caller without the required permissions cannot change another caller's set.",
		func(tr *trial) {
			tr.needs(tr.Unprivileged != nil, "unprivileged client")
			m := tr.bring(fsrvp.ContextBackup, "Exposed")
			u := tr.Unprivileged
			tr.status(u.SetContext(tr.ctx, 0), "SetContext", fsrvp.ErrAccessDenied)
			tr.status(u.RecoveryCompleteShadowCopySet(tr.ctx, m.id), "RecoveryComplete", fsrvp.ErrAccessDenied)
			tr.status(u.DeleteShareMapping(tr.ctx, m.id, m.copies[0], m.shares[0]), "Delete", fsrvp.ErrAccessDenied)
			tr.status(u.AbortShadowCopySet(tr.ctx, m.id), "Abort", fsrvp.ErrAccessDenied)
			tr.mapping(m, 0)
			tr.ok(m.by.RecoveryCompleteShadowCopySet(tr.ctx, m.id), "RecoveryComplete of the owner")
		},
	}, levelCase(dcerpc.LevelInsecureNone, "NONE"), levelCase(dcerpc.LevelInsecureConnect, "CONNECT"),
		levelCase(dcerpc.LevelInsecureCall, "CALL"), levelCase(dcerpc.LevelPacket, "PKT"))
}

func levelCase(level dcerpc.AuthLevel, name string) Case {
	return Case{
		Standard, "3.1.4", "Access/Level/" + name,
		"A call at the level " + name + ", which is less than packet integrity, gets E_ACCESSDENIED from every method.",
		func(tr *trial) {
			s := tr.Levels[level]
			tr.needs(s != nil, "client at level "+name)
			calls := everyMethod(tr, s, true)
			for op := fsrvp.OpGetSupportedVersion; op.Valid(); op++ {
				err := calls[op]()
				if op > fsrvp.OpGetSupportedVersion && errors.Is(err, io.ErrUnexpectedEOF) {
					err = calls[op]() // some servers close the connection of a refused call
				}
				if !deniedByRPC(err) {
					tr.status(err, op.String(), fsrvp.ErrAccessDenied)
				}
			}
		},
	}
}

// deniedByRPC reports whether RPC refused a call for its protection, so that it did not reach the
// method.
func deniedByRPC(err error) bool {
	var refused *dcerpc.BindError
	return errors.Is(err, dcerpc.ErrAccessDenied) || errors.Is(err, dcerpc.ErrSecurityPackage) || errors.As(err, &refused)
}

// denyAll checks all methods, in their order.
func (tr *trial) denyAll(calls map[fsrvp.Opnum]func() error) {
	for op := fsrvp.OpGetSupportedVersion; op.Valid(); op++ {
		tr.deny(calls[op], op)
	}
}

func (tr *trial) deny(call func() error, op fsrvp.Opnum) {
	tr.status(call(), op.String(), fsrvp.ErrAccessDenied)
}

func versionCases() []Case {
	version := func(tr *trial) {
		v, err := tr.Client.GetSupportedVersion(tr.ctx)
		tr.ok(err, "GetSupportedVersion")
		tr.check(v.Min == 1 && v.Max == 1, "the versions are %d to %d, and the one that exists is 1", v.Min, v.Max)
	}
	return []Case{
		{Standard, "3.1.4.1", "GetSupportedVersion/Range", "MinVersion and MaxVersion are FSRVP_RPC_VERSION_1.", version},
		{Standard, "3.1.4.1", "GetSupportedVersion/InAnyState", "The method does not depend on, nor change, the state of a creation.", func(tr *trial) {
			tr.setContext(tr.Client, fsrvp.ContextBackup)
			version(tr)
			m := tr.start(tr.Client)
			version(tr)
			tr.add(m, tr.Share)
			version(tr)
			tr.onward(m, "Added", "Committed")
			version(tr)
			tr.onward(m, "Committed", "Recovered")
			version(tr)
		}},
	}
}
