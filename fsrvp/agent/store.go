package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// ErrStoreInUse is what New fails with when another Agent has the store open.
var ErrStoreInUse = errors.New("agent: the store is in use by another agent")

// store is the table as records in JSON, so small that each change writes what it changes alone:
//
//	"version"                              "2"
//	"creation"                             a creation
//	"base"                                 a number, see store.base
//	"set/SET"                              a storedSet
//	"copy/SET/COPY"                        a storedCopy
//	"share/SET/COPY/NAME"                  a storedMapping; the name is the share's in lower case
//
// Records that make no sense are refused: what they stand for must not be taken for an orphan. The turn
// guards it.
type store struct {
	state.Store
	order map[string]int // of copies and shares, by their keys
	next  int
	fresh bool   // no agent has completed New with it
	base  uint64 // is added to the Store's sequence, which begins anew with a new Store
}

const storeVersion = "2"

// The keys of records.
const (
	keyVersion  = "version"
	keyCreation = "creation"
	keyBase     = "base"
	keySet      = "set/"
	keyCopy     = "copy/"
	keyShare    = "share/"
)

// A change is what is stored at once.
type change struct {
	creation *creation     // nil: unchanged
	put      []*Set        // new and changed sets
	drop     []fsrvp.SetID // sets that are gone
}

// ids returns the ids of the sets that a change is about.
func (c *change) ids() []string {
	var ids []string
	for _, set := range c.put {
		ids = append(ids, set.ID.String())
	}
	for _, id := range c.drop {
		ids = append(ids, id.String())
	}
	return ids
}

type storedSet struct {
	Client   fsrvp.SetID        `json:"client"`
	Status   SetStatus          `json:"status"`
	Context  fsrvp.ContextValue `json:"context"`
	Kept     bool               `json:"kept,omitempty"`
	Removing bool               `json:"removing,omitempty"`
}

// Copies and mappings have a place, by which they are in the order in which they were added.
type (
	storedCopy struct {
		Place int `json:"place"`
		Copy      // without its shares
	}
	storedMapping struct {
		Place int `json:"place"`
		Mapping
	}
)

func setKey(id fsrvp.SetID) string { return keySet + id.String() }

func copyKey(set fsrvp.SetID, id fsrvp.CopyID) string {
	return keyCopy + set.String() + "/" + id.String()
}

func shareKey(set fsrvp.SetID, id fsrvp.CopyID, share string) string {
	return keyShare + set.String() + "/" + id.String() + "/" + strings.ToLower(share)
}

// openStore opens the store that the Config names.
func openStore(c *Config) (*store, error) {
	if c.State != nil {
		return &store{Store: shared{c.State}}, nil
	}
	f, err := state.Open(c.StorePath, &state.Options{Wait: c.StoreWait, ID: state.ID(backend.NewOwner(placeOf(c.StorePath))), New: c.AcceptState, Convert: func(data []byte) (map[string][]byte, error) {
		old, sets, err := readBolt(data)
		if err != nil {
			return nil, err
		}
		return tableRecords(old, sets)
	}})
	switch {
	case errors.Is(err, state.ErrInUse):
		return nil, fmt.Errorf("%w: %s", ErrStoreInUse, c.StorePath)
	case err != nil:
		if damage := (*state.DamageError)(nil); errors.As(err, &damage) && damage.Missing {
			err = fmt.Errorf("%w: %w", ErrStateLost, err)
		}
		return nil, fmt.Errorf("agent: store: %w", err)
	}
	return &store{Store: f}, nil
}

// shared is a store that is the caller's to close.
type shared struct{ state.Store }

func (shared) Close() error { return nil }

// load reads the whole table.
func (s *store) load(ctx context.Context) (c creation, sets []*Set, err error) {
	records, err := s.Load(ctx)
	if err != nil {
		return c, nil, fmt.Errorf("agent: store: %w", err)
	}
	if c, sets, s.order, err = readRecords(records); err != nil {
		return c, nil, fmt.Errorf("agent: store: %w; the file was written by another version, or changed by hand: see \"fsrvp-agent state check\"", err)
	}
	s.fresh = len(records) == 0
	if b := records[keyBase]; b != nil {
		if err := json.Unmarshal(b, &s.base); err != nil {
			return c, nil, fmt.Errorf("agent: store: record %q: %w", keyBase, err)
		}
	}
	for _, place := range s.order {
		s.next = max(s.next, place+1)
	}
	return c, sets, nil
}

// sequence returns how many changes the store has seen. It never gets smaller, and grows with each
// change. It waits for none.
func (s *store) sequence() uint64 { return s.base + s.Sequence() }

// accept has the sequence go on after least.
func (s *store) accept(ctx context.Context, least uint64) error {
	if s.sequence() >= least {
		return nil
	}
	base := s.base + least - s.sequence()
	err := s.Write(ctx, state.Change{Put: map[string][]byte{
		keyVersion: []byte(storeVersion), keyBase: strconv.AppendUint(nil, base, 10),
	}})
	if err != nil {
		return fmt.Errorf("agent: store: %w", err)
	}
	s.base = base
	return nil
}

// readRecords makes a table of its records.
func readRecords(records map[string][]byte) (c creation, sets []*Set, order map[string]int, err error) {
	order = map[string]int{}
	if len(records) == 0 { // just made
		return c, nil, order, nil
	}
	if v := string(records[keyVersion]); v != storeVersion {
		return c, nil, nil, fmt.Errorf("it has version %q, ours is %s", v, storeVersion)
	}
	byID := map[string]*Set{}
	copies := map[string]storedCopy{}
	shares := map[string][]storedMapping{} // by the key of their copy
	for key, b := range records {
		bad := func(err error) error { return fmt.Errorf("record %q: %w", key, err) }
		switch kind, rest, _ := strings.Cut(key, "/"); kind + "/" {
		case keyVersion + "/", keyBase + "/":
		case keyCreation + "/":
			if err := json.Unmarshal(b, &c); err != nil {
				return c, nil, nil, bad(err)
			}
		case keySet:
			var stored storedSet
			if err := json.Unmarshal(b, &stored); err != nil {
				return c, nil, nil, bad(err)
			}
			parsed, err := uuid.Parse(rest)
			id := fsrvp.SetID(parsed)
			if err != nil || setKey(id) != key {
				return c, nil, nil, bad(fmt.Errorf("%q is no id of a set", rest))
			}
			byID[rest] = &Set{
				ID: id, Client: stored.Client, Status: stored.Status, Context: stored.Context, Kept: stored.Kept, Removing: stored.Removing,
			}
		case keyCopy:
			var stored storedCopy
			if err := json.Unmarshal(b, &stored); err != nil {
				return c, nil, nil, bad(err)
			}
			set, id, _ := strings.Cut(rest, "/")
			if stored.ID.String() != id || records[keySet+set] == nil || len(stored.Shares) > 0 {
				return c, nil, nil, bad(errors.New("it has another id, or no set"))
			}
			copies[key] = stored
			order[key] = stored.Place
		case keyShare:
			var stored storedMapping
			if err := json.Unmarshal(b, &stored); err != nil {
				return c, nil, nil, bad(err)
			}
			name := strings.ToLower(stored.Share.Name)
			of, ok := strings.CutSuffix(rest, "/"+name)
			if !ok || records[keyCopy+of] == nil {
				return c, nil, nil, bad(errors.New("it is another share, or has no copy"))
			}
			shares[keyCopy+of] = append(shares[keyCopy+of], stored)
			order[key] = stored.Place
		default:
			return c, nil, nil, bad(errors.New("its meaning is not known"))
		}
	}
	for _, key := range byPlace(copies, func(c storedCopy) int { return c.Place }) {
		stored := copies[key]
		list := shares[key]
		slices.SortFunc(list, func(x, y storedMapping) int { return x.Place - y.Place })
		for _, m := range list {
			stored.Shares = append(stored.Shares, m.Mapping)
		}
		set := byID[strings.Split(key, "/")[1]]
		set.Copies = append(set.Copies, stored.Copy)
	}
	for _, set := range byID {
		if err := set.check(); err != nil {
			return c, nil, nil, fmt.Errorf("set %s: %w", set.ID, err)
		}
		sets = append(sets, set)
	}
	slices.SortFunc(sets, func(x, y *Set) int { return strings.Compare(x.ID.String(), y.ID.String()) })
	return c, sets, order, nil
}

func byPlace[V any](m map[string]V, place func(V) int) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(x, y string) int {
		if d := place(m[x]) - place(m[y]); d != 0 {
			return d
		}
		return strings.Compare(x, y)
	})
	return keys
}

// check reports whether a set from the store makes sense, and adds what an older agent did not write.
func (s *Set) check() error {
	if !s.Status.valid() {
		return fmt.Errorf("unknown status %q", s.Status)
	}
	if !s.Context.Valid() {
		return fmt.Errorf("invalid context %v", s.Context)
	}
	for i := range s.Copies {
		c := &s.Copies[i]
		if c.ID == (fsrvp.CopyID{}) || c.Volume.ID == "" || !filepath.IsAbs(c.Volume.Path) || len(c.Shares) == 0 {
			return fmt.Errorf("copy %s is not whole", c.ID)
		}
		for j := range c.Shares {
			m := &c.Shares[j]
			if m.Name == "" || m.Share.Name == "" {
				return fmt.Errorf("copy %s has a share without name", c.ID)
			}
			if m.Dir == "" { // as the first agents wrote it
				dir, err := within(m.Share, c.Volume)
				if err != nil {
					return fmt.Errorf("copy %s: %w", c.ID, err)
				}
				m.Dir = dir
			}
			if !filepath.IsLocal(m.Dir) {
				return fmt.Errorf("copy %s has share %q at %q of its volume", c.ID, m.Share.Name, m.Dir)
			}
		}
	}
	return nil
}

// tableRecords returns the records of a whole table.
func tableRecords(c creation, sets []*Set) (map[string][]byte, error) {
	s := &store{}
	records, err := s.records(nil, change{creation: &c, put: sets})
	return records.Put, err
}

// write stores a change of a table.
func (s *store) write(ctx context.Context, table map[fsrvp.SetID]*entry, c change) error {
	records, err := s.records(table, c)
	if err != nil {
		return err
	}
	if err := s.Write(ctx, records); err != nil {
		return err
	}
	for _, k := range records.Drop {
		if _, again := records.Put[k]; !again {
			delete(s.order, k)
		}
	}
	return nil
}

// records returns what a change of a table changes of its records.
func (s *store) records(table map[fsrvp.SetID]*entry, c change) (state.Change, error) {
	d := diff{store: s, change: state.Change{Put: map[string][]byte{}}}
	if s.order == nil || len(table) == 0 {
		d.put(keyVersion, json.RawMessage(storeVersion))
	}
	if c.creation != nil {
		d.put(keyCreation, c.creation)
	}
	for _, set := range c.put {
		var old *Set
		if e := table[set.ID]; e != nil {
			old = e.set
		}
		d.set(old, set)
	}
	for _, id := range c.drop {
		if e := table[id]; e != nil {
			d.set(e.set, nil)
		}
	}
	return d.change, d.err
}

// A diff collects the records in which two tables differ.
type diff struct {
	store  *store
	change state.Change
	err    error
}

func (d *diff) put(key string, v any) {
	b, err := json.Marshal(v)
	d.err = errors.Join(d.err, err)
	d.change.Put[key] = b
}

// place returns the place of a copy or a share: that which it has, or the next.
func (d *diff) place(key string) int {
	s := d.store
	if s.order == nil {
		s.order = map[string]int{}
	}
	if _, ok := s.order[key]; !ok {
		s.order[key] = s.next
		s.next++
	}
	return s.order[key]
}

// set puts the difference of two states of a set; nil: there is none.
func (d *diff) set(old, set *Set) {
	if set == nil {
		d.change.Drop = append(d.change.Drop, setKey(old.ID))
		for i := range old.Copies {
			d.copy(old.ID, &old.Copies[i], nil)
		}
		return
	}
	now := storedSet{set.Client, set.Status, set.Context, set.Kept, set.Removing}
	if old == nil || now != (storedSet{old.Client, old.Status, old.Context, old.Kept, old.Removing}) {
		d.put(setKey(set.ID), now)
	}
	for i := range set.Copies {
		var was *Copy
		if old != nil {
			was = old.copy(set.Copies[i].ID)
		}
		d.copy(set.ID, was, &set.Copies[i])
	}
	if old == nil {
		return
	}
	for i := range old.Copies {
		if c := &old.Copies[i]; set.copy(c.ID) == nil {
			d.copy(set.ID, c, nil)
		}
	}
}

func (d *diff) copy(set fsrvp.SetID, old, c *Copy) {
	if c == nil {
		d.change.Drop = append(d.change.Drop, copyKey(set, old.ID))
		for _, m := range old.Shares {
			d.change.Drop = append(d.change.Drop, shareKey(set, old.ID, m.Share.Name))
		}
		return
	}
	if old == nil || old.Volume != c.Volume || old.Path != c.Path || !old.Created.Equal(c.Created) {
		key := copyKey(set, c.ID)
		bare := *c
		bare.Shares = nil
		d.put(key, storedCopy{d.place(key), bare})
	}
	var had []Mapping // what is left of the old ones, which are in the same order
	if old != nil {
		had = old.Shares
	}
	drop := func(list []Mapping) {
		for _, m := range list {
			d.change.Drop = append(d.change.Drop, shareKey(set, c.ID, m.Share.Name))
		}
	}
	for _, m := range c.Shares {
		i := slices.IndexFunc(had, func(was Mapping) bool { return was.Share.Name == m.Share.Name })
		if i < 0 || had[i] != m {
			key := shareKey(set, c.ID, m.Share.Name)
			d.put(key, storedMapping{d.place(key), m})
		}
		if i >= 0 {
			drop(had[:i])
			had = had[i+1:]
		}
	}
	drop(had)
}
