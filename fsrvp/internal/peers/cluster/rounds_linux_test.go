package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A failure is what happens to a node in the middle of a life.
type failure struct {
	name   string
	strike func(c *cluster, i int)
	// lift ends it, ten seconds later, whatever the client does meanwhile. Nil: it does not end by
	// itself.
	lift func(c *cluster, i int) error
	// mend makes the node one like any other again, when the client has come to its end.
	mend func(c *cluster, i int)
	// failsOver says that CTDB goes on without the node.
	failsOver bool
}

var failures = []failure{
	{"its agent is killed", func(c *cluster, i int) { c.signal(i, "KILL") }, nil, func(c *cluster, i int) {
		_ = c.agents[i].Wait()
		c.startAgent(i)
	}, false},
	{"its agent is stopped", func(c *cluster, i int) { c.signal(i, "STOP") }, (*cluster).wake, (*cluster).isBack, false},
	{"its smbd is killed", (*cluster).killSMB, nil, (*cluster).isBack, false},
	{"it is killed", (*cluster).killNode, nil, (*cluster).bootNode, true},
	{"it is stopped", (*cluster).stopNode, (*cluster).wakeNode, (*cluster).isBack, true},
	{"its network is cut", (*cluster).cut, (*cluster).heal, (*cluster).isBack, true},
	{"its CTDB is killed", (*cluster).killCTDB, nil, func(c *cluster, i int) {
		c.on(i, "ctdbd")
		c.isBack(i)
	}, true},
	{"CTDB bans it", func(c *cluster, i int) { c.on(i, "ctdb", "ban", "600") },
		func(c *cluster, i int) error { return c.try(i, "", "ctdb", "unban") }, (*cluster).isBack, true},
	{"CTDB disables it", func(c *cluster, i int) { c.on(i, "ctdb", "disable") },
		func(c *cluster, i int) error { return c.try(i, "", "ctdb", "enable") }, (*cluster).isBack, false},
}

// killSMB kills every smbd of a node, and nothing else.
func (c *cluster) killSMB(i int) {
	c.Helper()
	c.on(i, "sh", "-c", "kill -KILL $(pgrep '^smbd')")
}

// startSMB starts smbd where it does not run, as CTDB's event script does.
func (c *cluster) startSMB(i int) {
	c.Helper()
	c.within(5*time.Minute, "smbd of node "+fmt.Sprint(i), func() error {
		if c.try(i, "", "pgrep", "^smbd") != nil {
			if err := c.try(i, "", "smbd", "-D"); err != nil {
				return err
			}
		}
		return c.try(i, "", "smbclient", "-N", "-L", "127.0.0.1")
	})
}

func (c *cluster) killNode(i int) {
	c.Helper()
	require.NoError(c, syscall.Kill(c.pid(i), syscall.SIGKILL))
	_ = c.agents[i].Wait()
	c.agents[i] = nil
}

// bootNode starts a node that was killed.
func (c *cluster) bootNode(i int) {
	c.Helper()
	out, err := exec.Command("testdata/cluster.sh", "boot", c.dir, fmt.Sprint(i)).CombinedOutput()
	require.NoError(c, err, "%s", out)
	c.startSMB(i)
	c.startAgent(i)
}

// stopNode stops all processes of a node.
func (c *cluster) stopNode(i int) {
	_ = c.try(i, "", "sh", "-c", "kill -STOP -1") // the shell itself is spared
	c.takeLock(i)
}

// takeLock takes the cluster's lock from a node that has it: a file system of a cluster gives the
// locks of a node that it does not hear to others.
func (c *cluster) takeLock(i int) {
	_ = c.try(i, "", "sh", "-c", "kill -KILL $(pgrep '^ctdb_mutex')")
}

// killCTDB kills the daemon of a node, and nothing else. Its smbd ends by itself.
func (c *cluster) killCTDB(i int) {
	c.Helper()
	c.on(i, "sh", "-c", "kill -KILL $(pgrep '^ctdb')")
}

func (c *cluster) wakeNode(i int) error {
	return errors.Join(c.try(i, "", "sh", "-c", "kill -CONT -1"), c.agents[i].Process.Signal(syscall.SIGCONT))
}

// cut takes a node from the network, and from the cluster's lock. The table stays in its reach, as
// on a storage network of its own.
func (c *cluster) cut(i int) {
	c.Helper()
	out, err := exec.Command("ip", "link", "set", fmt.Sprint("v", i), "nomaster").CombinedOutput()
	require.NoError(c, err, "%s", out)
	c.on(i, "mount", "-t", "tmpfs", "-o", "ro", "none", c.dir+"/shared/ctdb")
	c.takeLock(i)
}

func (c *cluster) heal(i int) error {
	return errors.Join(c.try(i, "", "umount", c.dir+"/shared/ctdb"),
		exec.Command("ip", "link", "set", fmt.Sprint("v", i), "master", "br0").Run())
}

// isBack waits until a node is one of the cluster again.
func (c *cluster) isBack(i int) {
	c.Helper()
	c.within(5*time.Minute, fmt.Sprintf("node %d is back", i), func() error { return c.try(i, "", "ctdb", "nodestatus") })
	c.startSMB(i)
}

// failedOver waits until CTDB goes on without a node, as another one sees it.
func (c *cluster) failedOver(ctx context.Context, at, i int) error {
	for ctx.Err() == nil {
		out, err := c.command(at, "ctdb", "status").Output()
		if text := string(out); err == nil && strings.Contains(text, "Recovery mode:NORMAL") {
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, fmt.Sprintf("pnn:%d ", i-1)) &&
					(strings.Contains(line, "DISCONNECTED") || strings.Contains(line, "BANNED")) {
					return nil
				}
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// randomRounds lets nodes fail n times, each in the middle of a life. Before any pair of a failure
// and a stage comes again all others have come.
func (c *cluster) randomRounds(n int) {
	kept := &life{}
	c.advance(1, kept, 0, recovered)
	took := map[string][]time.Duration{}
	var order []int
	for k := range n {
		if len(order) == 0 {
			order = rand.Perm(len(failures) * len(stages))
		}
		next := order[0]
		order = order[1:]
		f := failures[next%len(failures)]
		took[f.name] = append(took[f.name], c.randomRound(k, f, next/len(failures), kept))
		if c.Failed() {
			return
		}
	}
	for name, list := range took {
		slices.Sort(list)
		c.Logf("a node fails, and %s: %d rounds; the next call was answered after %v, at most %v", name, len(list), list[len(list)/2],
			list[len(list)-1])
	}
	c.delete(2, kept)
	c.requireEmpty(3)
}

// randomRound lets a node fail at some moment of a stage of a life, and has the client go on at
// another node. It returns how long that took until the client had an answer, after CTDB has gone
// on without the node.
func (c *cluster) randomRound(k int, f failure, at int, kept *life) time.Duration {
	c.Helper()
	i := rand.IntN(nodes) + 1
	other := (i+rand.IntN(nodes-1))%nodes + 1
	after := time.Duration(rand.IntN(200)) * time.Millisecond
	if rand.IntN(4) == 0 {
		after /= 20
	}
	c.Logf("round %d: node %d: %s %v after the begin of %s; the client goes on at node %d", k, i, f.name, after, stages[at].name, other)
	l := &life{}
	c.advance(i, l, 0, at)
	ended := make(chan *life, 1) // nil: there was no answer
	go func() {
		next := *l
		if c.call(i, func(ctx context.Context, s fsrvp.Service) error {
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			return stages[at].call(ctx, s, i, &next)
		}) == nil {
			ended <- &next
		} else {
			ended <- nil
		}
	}()
	time.Sleep(after)
	f.strike(c, i)
	struck := time.Now()
	var failedOver atomic.Int64
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if f.failsOver && c.failedOver(ctx, other, i) == nil {
			failedOver.Store(int64(time.Since(struck)))
		}
	}()
	lifted := make(chan error, 1)
	if f.lift != nil {
		time.AfterFunc(10*time.Second, func() { lifted <- f.lift(c, i) })
	} else {
		lifted <- nil
	}
	select {
	case next := <-ended:
		if next == nil {
			break
		}
		l = next
		c.Logf("round %d: %s was answered", k, stages[at].name)
		at++
	case <-time.After(5 * time.Second): // a client whose server is gone
	}
	c.requireRead(other, kept, "one")
	first := c.goOn(other, l, at)
	cancel()
	<-watched
	require.NoError(c, <-lifted)
	f.mend(c, i)
	c.within(5*time.Minute, "nothing is left", func() error { return c.left(other, 1) })
	c.requireSameTables(kept.set)
	if first.IsZero() {
		return 0
	}
	return first.Sub(struck) - time.Duration(failedOver.Load())
}

// goOn is what a client does whose call was not answered: the same at another node, and where that
// fails, it gives the set up. From Commit's answer on it must not fail. It returns when the first
// answer came.
func (c *cluster) goOn(i int, l *life, at int) (first time.Time) {
	c.Helper()
	begun := time.Now()
	for from := at; at < len(stages); at++ {
		if at == recovered && from < recovered {
			c.requireRead(i, l, "one")
		}
		err := errors.New("not called")
		for time.Since(begun) < 10*time.Minute {
			err = c.call(i, func(ctx context.Context, s fsrvp.Service) error { return stages[at].call(ctx, s, i, l) })
			var status fsrvp.Status
			if first.IsZero() && (err == nil || errors.As(err, &status)) {
				first = time.Now()
			}
			if wasDone(at, err) {
				err = nil
			}
			if err == nil || at <= commit && first != (time.Time{}) {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
		if err == nil {
			continue
		}
		require.LessOrEqual(c, at, commit, "%s at node %d: %v: the client was told that Commit has succeeded", stages[at].name, i, err)
		c.Logf("%s at node %d: %v; the set is given up", stages[at].name, i, err)
		c.giveUp(i)
		break
	}
	return first
}

// wasDone reports whether an error says that the call had succeeded before, and its answer was
// missed.
func wasDone(at int, err error) bool {
	switch stages[at].name {
	case "RecoveryComplete":
		return errors.Is(err, fsrvp.ErrBadState)
	case "DeleteShareMapping":
		return errors.Is(err, fsrvp.ErrObjectNotFound)
	}
	return false
}

// giveUp starts over, and ends what it has begun.
func (c *cluster) giveUp(i int) {
	c.Helper()
	c.within(5*time.Minute, "starting over", func() error {
		return c.call(i, func(ctx context.Context, s fsrvp.Service) error {
			if err := s.SetContext(ctx, fsrvp.ContextNASRollback); err != nil {
				return err
			}
			set, err := s.StartShadowCopySet(ctx, fsrvp.NewSetID())
			if err != nil {
				return err
			}
			return s.AbortShadowCopySet(ctx, set)
		})
	})
}
