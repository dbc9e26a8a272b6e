package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

// state is the command "state", whose argument says what to do.
func (c *command) state(ctx context.Context) error {
	if len(c.args) == 0 {
		return program.Usage(errors.New("state what: check, export, import or accept?"))
	}
	what := c.args[0]
	c.args = c.args[1:]
	switch what {
	case "check":
		return c.checkState()
	case "export":
		return c.exportState()
	case "import":
		return c.importState()
	case "accept":
		return c.acceptState(ctx)
	}
	return program.Usage(fmt.Errorf("state %s: it must be check, export, import or accept", what))
}

// acceptState has an agent take its state as it is, although it is lost or older than the copies.
func (c *command) acceptState(ctx context.Context) error {
	if err := c.usage(0, "flags"); err != nil {
		return err
	}
	if err := c.o.checkBackends(); err != nil {
		return program.Usage(fmt.Errorf("the whole configuration of the agent is needed: %w", err))
	}
	c.o.accept = true
	a, closeShares, err := c.o.newAgent(ctx, nil, nil, c.log)
	if errors.Is(err, agent.ErrStoreInUse) {
		return fmt.Errorf("an agent is running with this state, which it has accepted; end it first: %w", err)
	}
	if err != nil {
		return err
	}
	sets := len(a.Table())
	if err := errors.Join(a.Close(), closeShares()); err != nil {
		return err
	}
	return c.print(map[string]any{"accepted": c.where(), "sets": sets}, func(w io.Writer) {
		fmt.Fprintf(w, "accepted %s, with %d sets; fsrvp-agent orphans shows what it does not know\n", c.where(), sets)
	})
}

func (c *command) checkState() error {
	if err := c.usage(0, "flags"); err != nil {
		return err
	}
	saved, err := c.readState()
	report := struct {
		Path  string `json:"path"`
		Whole bool   `json:"whole"`
		Error string `json:"error,omitempty"`
		*agent.SavedState
	}{Path: c.where(), Whole: err == nil, SavedState: saved}
	if err != nil {
		report.Error = err.Error()
	}
	printed := c.print(report, func(w io.Writer) {
		if saved == nil {
			return
		}
		verdict := "whole"
		if err != nil {
			verdict = "DAMAGED; what can be read:"
		}
		fmt.Fprintf(w, "state\t%s\nagent\t%s\nchanges\t%d\nsets\t%d\nverdict\t%s\n", c.where(), saved.ID,
			saved.Sequence, len(saved.Sets), verdict)
		for i := range saved.Sets {
			fmt.Fprintf(w, "set\t%s\t%s\n", saved.Sets[i].ID, statusOf(&saved.Sets[i]))
		}
	})
	return errors.Join(err, printed)
}

func (c *command) exportState() error {
	if err := c.usage(0, "flags"); err != nil {
		return err
	}
	saved, err := c.readState()
	if damage := (*state.DamageError)(nil); errors.As(err, &damage) && c.damaged && saved != nil {
		c.log.Warn("the state is damaged; what can be read is exported", "err", err)
	} else if err != nil {
		return err
	}
	e := json.NewEncoder(c.stdout)
	e.SetIndent("", "  ")
	return e.Encode(saved)
}

func (c *command) importState() error {
	if err := c.usage(1, "the file that state export has printed"); err != nil {
		return err
	}
	f, err := os.Open(c.args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	var saved agent.SavedState
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	if err := d.Decode(&saved); err != nil {
		return fmt.Errorf("%s: %w", c.args[0], err)
	}
	aside, err := c.writeState(&saved)
	if errors.Is(err, state.ErrInUse) {
		return fmt.Errorf("an agent is running with this state; end it first, on a cluster those of all nodes: %w", err)
	}
	if err != nil {
		return err
	}
	return c.print(map[string]any{"imported": len(saved.Sets), "aside": aside}, func(w io.Writer) {
		fmt.Fprintf(w, "imported %d sets into %s\n", len(saved.Sets), c.where())
		if aside != "" {
			fmt.Fprintf(w, "the state before is now %s\n", aside)
		}
	})
}

// where is the place of the state: a file, or the directory that a cluster's nodes share.
func (c *command) where() string {
	if c.o.cluster != "" {
		return c.o.cluster
	}
	return filepath.Join(c.o.state, storeName)
}

// readState reads the state, and changes nothing.
func (c *command) readState() (*agent.SavedState, error) {
	if c.o.cluster == "" {
		return agent.ReadState(c.where())
	}
	report, damage := checkCluster(c.o.cluster)
	if report == nil {
		return nil, damage
	}
	saved, err := agent.ParseState(report)
	return saved, errors.Join(damage, err)
}

// writeState makes a state in the place of the one that there is, which stays as aside.
func (c *command) writeState(saved *agent.SavedState) (aside string, err error) {
	if c.o.cluster == "" {
		return agent.WriteState(c.where(), saved)
	}
	records, err := saved.Records()
	if err != nil {
		return "", err
	}
	return replaceCluster(c.o.cluster, state.ID(saved.ID), records)
}
