// Package cluster has tests of agents on the nodes of a real CTDB cluster: three of them on this
// machine, each in namespaces of its own, with Samba, and a btrfs that all have mounted for the
// cluster's file system.
//
// The tests are for Linux, as root, with CTDB and Samba installed. Where that is not so they are
// skipped and say why; with FSRVP_PEERS=require in the environment they fail.
//
// In the environment, FSRVP_CLUSTER_ROUNDS is the number of random rounds, each with a failure in
// the middle of a life, FSRVP_CLUSTER_CLIENTS for how long clients work at once, and
// FSRVP_CLUSTER_STEPS the names of the steps to do, separated by commas. The step "benchmark" is
// done by its name alone.
package cluster
