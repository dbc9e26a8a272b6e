package fsrvptest

import (
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// ClusterCases returns cases for a server of several nodes that share their state: a client may use
// any node for each call. The standard does not mention this. They are not among [Cases], and need
// Target.Nodes.
func ClusterCases() []Case {
	const section = "3.1.1"
	run := func(name, demand string, f func(tr *trial, nodes []fsrvp.Service)) Case {
		return Case{Standard, section, "Cluster/" + name, demand, func(tr *trial) {
			tr.needs(len(tr.Nodes) > 0, "other nodes")
			nodes := make([]fsrvp.Service, len(tr.Nodes))
			for i, s := range tr.Nodes {
				nodes[i] = tr.witness(fmt.Sprintf("Node %d", i+2), s)
				tr.lines = append(tr.lines, s)
			}
			f(tr, nodes)
		}}
	}
	return []Case{
		run("EveryNodeSeesEverySet", "A set that one node has made is there at every other.",
			func(tr *trial, nodes []fsrvp.Service) {
				m := tr.bring(fsrvp.ContextNASRollback, agent.Exposed)
				exposed := tr.exposed(m, 0)
				for _, s := range nodes {
					m.by = s
					tr.check(tr.exposed(m, 0) == exposed, "another node exposes it as %s, and not as %s", tr.exposed(m, 0),
						exposed)
					p, err := s.IsPathShadowCopied(tr.ctx, tr.Share)
					tr.ok(err, "IsPathShadowCopied")
					tr.check(p.Present, "%s has no copy at another node", tr.Share)
				}
				m.by = tr.Client
				tr.onward(m, agent.Exposed, agent.Recovered)
				tr.ok(tr.delete(m, 0), "DeleteShareMapping")
			}),
		run("EveryCallAtAnotherNode", "A client goes on with its set at another node, call by call.",
			func(tr *trial, nodes []fsrvp.Service) {
				all, n := append([]fsrvp.Service{tr.Client}, nodes...), 0
				next := func() fsrvp.Service { n++; return all[n%len(all)] }
				tr.leavesNothing(func() {
					tr.setContext(next(), fsrvp.ContextNASRollback)
					m := tr.start(next())
					m.by = next()
					tr.add(m, tr.Share)
					tr.ok(next().PrepareShadowCopySet(tr.ctx, m.id, long), "PrepareShadowCopySet")
					tr.ok(next().CommitShadowCopySet(tr.ctx, m.id, long), "CommitShadowCopySet")
					tr.ok(next().ExposeShadowCopySet(tr.ctx, m.id, long), "ExposeShadowCopySet")
					m.by = next()
					tr.mapping(m, 0)
					tr.ok(next().RecoveryCompleteShadowCopySet(tr.ctx, m.id), "RecoveryCompleteShadowCopySet")
					m.by = next()
					tr.ok(tr.delete(m, 0), "DeleteShareMapping")
				})
			}),
		run("OneCreation", "One creation at a time goes on in the cluster, whichever node its client has called.",
			func(tr *trial, nodes []fsrvp.Service) {
				m := tr.bring(fsrvp.ContextNASRollback, agent.Started)
				for _, s := range nodes {
					_, err := tr.tryStart(s)
					tr.status(err, "StartShadowCopySet at another node", fsrvp.ErrShadowCopySetInProgress)
				}
				tr.ok(nodes[0].AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet at another node")
				tr.status(m.by.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet of a set that is gone",
					tr.unknownSet())
			}),
		run("AbortAtAnotherNode", "AbortShadowCopySet at any node deletes what another has made.",
			func(tr *trial, nodes []fsrvp.Service) {
				for _, s := range nodes {
					tr.leavesNothing(func() {
						m := tr.bring(fsrvp.ContextNASRollback, agent.Exposed)
						tr.ok(s.AbortShadowCopySet(tr.ctx, m.id), "AbortShadowCopySet at another node")
						_, err := m.by.GetShareMapping(tr.ctx, m.copies[0], m.id, m.shares[0], 1)
						tr.status(err, "GetShareMapping of a set that is gone", tr.unknownSet())
					})
				}
			}),
		run("SetContextAtAnotherNode", "SetContext at any node starts the creation of its client over.",
			func(tr *trial, nodes []fsrvp.Service) {
				tr.leavesNothing(func() {
					m := tr.bring(fsrvp.ContextNASRollback, agent.Committed)
					tr.setContext(nodes[0], fsrvp.ContextNASRollback)
					tr.status(m.by.ExposeShadowCopySet(tr.ctx, m.id, long), "ExposeShadowCopySet of a set that is gone",
						tr.unknownSet())
					again := tr.start(m.by)
					tr.ok(nodes[0].AbortShadowCopySet(tr.ctx, again.id), "AbortShadowCopySet")
				})
			}),
		run("DeleteAtAnotherNode", "DeleteShareMapping at any node deletes what another has made.",
			func(tr *trial, nodes []fsrvp.Service) {
				for _, s := range nodes {
					tr.leavesNothing(func() {
						m := tr.bring(fsrvp.ContextNASRollback, agent.Recovered)
						first := m.by
						m.by = s
						tr.ok(tr.delete(m, 0), "DeleteShareMapping at another node")
						m.by = first
						tr.status(tr.delete(m, 0), "DeleteShareMapping of a set that is gone", fsrvp.ErrObjectNotFound)
					})
				}
			}),
	}
}
