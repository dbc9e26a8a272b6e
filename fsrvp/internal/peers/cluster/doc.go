// Package cluster has tests of agents on the nodes of a real CTDB cluster: three of them on this
// machine, each in namespaces of its own, with Samba, and a btrfs that all have mounted for the
// cluster's file system.
//
// The tests are for Linux, as root, with CTDB and Samba installed. Where that is not so they are
// skipped and say why; with FSRVP_PEERS=require in the environment they fail. FSRVP_CLUSTER_ROUNDS
// is the number of random rounds, each with a failure in the middle of a life.
package cluster
