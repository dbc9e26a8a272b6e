package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/google/uuid"
)

// commands are the administrator's, by their names; without one of them the program is an agent.
var commands = map[string]func(c *command, ctx context.Context) error{
	"list": (*command).list, "show": (*command).show, "delete": (*command).delete, "orphans": (*command).orphans, "state": (*command).state,
}

const commandsHelp = `
Administration, of an agent that is running or not:

  fsrvp-agent list                the shadow copy sets
  fsrvp-agent show ID             one of them, with all that is known
  fsrvp-agent delete ID           deletes one; with -force also one that a client is at work on
  fsrvp-agent orphans             snapshots and shares that no set knows; -remove removes this agent's own, -remove -force all
  fsrvp-agent state check         reads the state, and says whether it is whole
  fsrvp-agent state export        prints it, in JSON; with -damaged what can be read of a damaged one
  fsrvp-agent state import FILE   makes a state of such a file; the agent must not run
  fsrvp-agent state accept        takes a state that is lost, or older than the copies, as it is; the agent must not run

Each finds the agent by -config FILE or -state DIR, of a cluster with -cluster DIR, and without them by /etc/fsrvp/agent.conf;
each prints JSON with -json. The state of a cluster is that of all its nodes: for import no agent may run on any of them. To
delete, and to look for orphans, while no agent runs, the whole configuration of the agent is needed.
`

// A command is one of the administrator's.
type command struct {
	o       *options
	args    []string // after the command's name, without flags
	json    bool
	force   bool
	remove  bool
	damaged bool
	stdout  io.Writer
	log     *slog.Logger
}

// runCommand does a command.
func runCommand(ctx context.Context, name string, args []string, stdout, stderr io.Writer) error {
	c := &command{o: defaults(), stdout: stdout, log: slog.New(slog.NewTextHandler(stderr,
		&slog.HandlerOptions{Level: slog.LevelWarn}))}
	flags := flag.NewFlagSet("fsrvp-agent "+name, flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), commandsHelp, "\nThe flags:\n\n")
		flags.PrintDefaults()
	}
	c.o.register(flags)
	flags.BoolVar(&c.json, "json", false, "print JSON")
	flags.BoolVar(&c.force, "force", false,
		"delete also what a client is at work on, remove also what is not this agent's")
	flags.BoolVar(&c.remove, "remove", false, "remove the orphans")
	flags.BoolVar(&c.damaged, "damaged", false, "export what can be read of a damaged state")
	for len(args) > 0 { // flags may come before and after
		if !strings.HasPrefix(args[0], "-") {
			c.args, args = append(c.args, args[0]), args[1:]
			continue
		}
		if err := program.Parse(flags, args, stdout); err != nil {
			return err
		}
		args = flags.Args()
	}
	if c.o.config == "" && c.o.state == "" {
		if _, err := os.Stat(defaultConfig); err == nil {
			c.o.config = defaultConfig
		}
	}
	if c.o.config != "" {
		if err := readConfig(c.o.config, flags, c.o); err != nil {
			return program.Usage(err)
		}
	}
	if c.o.state == "" {
		return program.Usage(fmt.Errorf("%s is missing: the directory of the agent's table; or give -config FILE",
			c.o.from.missing("state")))
	}
	return commands[name](c, ctx)
}

// usage checks how many arguments a command has.
func (c *command) usage(n int, what string) error {
	if len(c.args) != n {
		return program.Usage(fmt.Errorf("give %s, and nothing else; fsrvp-agent -h lists the commands", what))
	}
	return nil
}

// A request is what an administrator asks of an agent, on its socket.
type request struct {
	Op     string      `json:"op"` // a command's name
	Set    fsrvp.SetID `json:"set,omitzero"`
	Force  bool        `json:"force,omitempty"`
	Remove bool        `json:"remove,omitempty"`
}

// A reply is the agent's answer.
type reply struct {
	Error   string      `json:"error,omitempty"`
	Sets    []agent.Set `json:"sets,omitempty"`
	Orphans []orphan    `json:"orphans,omitempty"`
}

// An orphan is one for people and programs.
type orphan struct {
	What    string       `json:"what"`
	Own     bool         `json:"own"`
	Agent   string       `json:"agent,omitempty"`
	Copy    fsrvp.CopyID `json:"copy,omitzero"`
	Share   string       `json:"share,omitempty"`
	Removed bool         `json:"removed,omitempty"`
	Error   string       `json:"error,omitempty"`
}

// answer does what an administrator asks of a running agent.
func answer(ctx context.Context, a *agent.Agent, req *request) *reply {
	var r reply
	var err error
	switch req.Op {
	case "list":
		r.Sets = sorted(a.Table())
	case "delete":
		err = a.Remove(ctx, req.Set, req.Force)
		if errors.Is(err, agent.ErrInCreation) {
			err = fmt.Errorf("%w; with -force it is deleted under its client", err)
		}
	case "orphans":
		r.Orphans, err = orphans(ctx, a, req)
	default:
		err = fmt.Errorf("%q is nothing that this agent does", req.Op)
	}
	if err != nil {
		r.Error = err.Error()
	}
	return &r
}

func sorted(sets []agent.Set) []agent.Set {
	slices.SortFunc(sets, func(x, y agent.Set) int {
		return cmp.Or(created(&x).Compare(created(&y)), strings.Compare(x.ID.String(), y.ID.String()))
	})
	return sets
}

// created is when the first of a set's copies was taken; zero where none was.
func created(s *agent.Set) time.Time {
	var t time.Time
	for _, c := range s.Copies {
		if t.IsZero() || c.Created.Before(t) {
			t = c.Created
		}
	}
	return t
}

func orphans(ctx context.Context, a *agent.Agent, req *request) ([]orphan, error) {
	list, err := a.Orphans(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]orphan, len(list))
	for i, o := range list {
		out[i] = orphan{What: o.String(), Own: o.Own, Copy: o.Snapshot.ID, Share: o.Share}
		if !o.Mark.Owner.IsZero() {
			out[i].Agent = o.Mark.Owner.String()
		}
		if !req.Remove || !o.Own && !req.Force {
			continue
		}
		if err := a.RemoveOrphan(ctx, o); err != nil {
			out[i].Error = err.Error()
		} else {
			out[i].Removed = true
		}
	}
	return out, nil
}

// ask has a request answered by the agent that runs, or by one that is started for it alone.
func (c *command) ask(ctx context.Context, req *request) (*reply, error) {
	r, err := askSocket(ctx, c.o.state, req)
	if !errors.Is(err, errNotRunning) {
		return r, err
	}
	if req.Op == "list" {
		saved, err := c.readState()
		if err != nil {
			return nil, err
		}
		return &reply{Sets: sorted(saved.Sets)}, nil
	}
	if problems := c.o.checkBackends(); problems != nil {
		return nil, program.Usage(fmt.Errorf("no agent is running, so its flags are needed: %w", problems))
	}
	a, closeShares, err := c.o.newAgent(ctx, nil, nil, c.log)
	if err != nil {
		return nil, err
	}
	defer closeShares()
	r = answer(ctx, a, req)
	return r, a.Close()
}

// result returns a reply's error.
func (r *reply) result() error {
	if r.Error != "" {
		return errors.New(r.Error)
	}
	return nil
}

func (c *command) print(v any, text func(w io.Writer)) error {
	if c.json {
		e := json.NewEncoder(c.stdout)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	text(w)
	return w.Flush()
}

func (c *command) list(ctx context.Context) error {
	if err := c.usage(0, "flags"); err != nil {
		return err
	}
	r, err := c.ask(ctx, &request{Op: "list"})
	if err != nil {
		return err
	}
	if r.Sets == nil {
		r.Sets = []agent.Set{}
	}
	return errors.Join(r.result(), c.print(r.Sets, func(w io.Writer) {
		fmt.Fprintln(w, "SET\tSTATUS\tCREATED\tCOPIES\tSHARES")
		for i := range r.Sets {
			s := &r.Sets[i]
			var names []string
			for _, c := range s.Copies {
				for _, m := range c.Shares {
					names = append(names, m.Share.Name)
				}
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", s.ID, statusOf(s), timeOf(created(s)), len(s.Copies),
				strings.Join(names, " "))
		}
	}))
}

func statusOf(s *agent.Set) string {
	switch {
	case s.Removing:
		return string(agent.Removing)
	case s.Kept:
		return string(s.Status) + " (kept)"
	}
	return string(s.Status)
}

func timeOf(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

// set finds the set that the first argument names.
func (c *command) set() (fsrvp.SetID, error) {
	id, err := uuid.Parse(c.args[0])
	if err != nil {
		return fsrvp.SetID{}, program.Usage(fmt.Errorf("%q is no id of a shadow copy set: %w", c.args[0], err))
	}
	return fsrvp.SetID(id), nil
}

func (c *command) show(ctx context.Context) error {
	if err := c.usage(1, "the id of a set"); err != nil {
		return err
	}
	id, err := c.set()
	if err != nil {
		return err
	}
	r, err := c.ask(ctx, &request{Op: "list"})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(r.Sets, func(s agent.Set) bool { return s.ID == id })
	if i < 0 {
		return errors.Join(r.result(), fmt.Errorf("there is no shadow copy set %s; fsrvp-agent list names them", id))
	}
	s := r.Sets[i]
	return c.print(s, func(w io.Writer) {
		fmt.Fprintf(w, "set\t%s\nstatus\t%s\ncontext\t%v\nclient's id\t%s\n", s.ID, statusOf(&s), s.Context, s.Client)
		for _, c := range s.Copies {
			fmt.Fprintf(w, "copy\t%s\n  volume\t%s\n  path\t%s\n  created\t%s\n", c.ID, c.Volume.Path,
				cmp.Or(c.Path, "-"), timeOf(c.Created))
			for _, m := range c.Shares {
				state := "not exposed"
				if m.Exposed {
					state = "exposed as " + m.Name
				}
				if m.Removing {
					state = "being deleted"
				}
				fmt.Fprintf(w, "  share\t%s, %s\n", m.Share.Name, state)
			}
		}
	})
}

func (c *command) delete(ctx context.Context) error {
	if err := c.usage(1, "the id of a set"); err != nil {
		return err
	}
	id, err := c.set()
	if err != nil {
		return err
	}
	r, err := c.ask(ctx, &request{Op: "delete", Set: id, Force: c.force})
	if err != nil {
		return err
	}
	if err := r.result(); err != nil {
		return err
	}
	return c.print(map[string]any{"deleted": id}, func(w io.Writer) { fmt.Fprintln(w, "deleted", id) })
}

func (c *command) orphans(ctx context.Context) error {
	if err := c.usage(0, "flags"); err != nil {
		return err
	}
	r, err := c.ask(ctx, &request{Op: "orphans", Remove: c.remove, Force: c.force})
	if err != nil {
		return err
	}
	if r.Orphans == nil {
		r.Orphans = []orphan{}
	}
	failed := 0
	err = c.print(r.Orphans, func(w io.Writer) {
		for _, o := range r.Orphans {
			result := ""
			if o.Removed {
				result = "removed"
			} else if o.Error != "" {
				result = o.Error
			}
			fmt.Fprintf(w, "%s\t%s\n", o.What, result)
		}
	})
	for _, o := range r.Orphans {
		if o.Error != "" {
			failed++
		}
	}
	if failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d orphans were not removed", failed))
	}
	return errors.Join(r.result(), err)
}
