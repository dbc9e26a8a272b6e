package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// ErrStoreInUse means that another Agent has the store open.
var ErrStoreInUse = errors.New("agent: the store is in use by another agent")

// store holds the table as records in JSON. The records are so small that each change writes only
// what it changes:
//
//	"version"                              "2"
//	"creation"                             a creation
//	"base"                                 a number, see store.base
//	"set/SET"                              a storedSet
//	"copy/SET/COPY"                        a storedCopy
//	"share/SET/COPY/NAME"                  a storedMapping; the name is the share's in lower case
//
// and, in a store that the nodes of a cluster share,
//
//	"node/NAME"                            a Node
//	"lost/STAY"                            a leftover
//
// Records that make no sense are errors, so that nothing that they stand for is taken for an
// orphan. The turn guards a store.
type store struct {
	state.Store
	order map[string]int // of copies and shares, by their keys
	next  int
	fresh bool          // no agent has completed New with it
	file  *state.File   // the Store, if the agent opened it; nil for Config.State
	base  atomic.Uint64 // added to the Store's sequence, which begins again with a new Store

	deferred []deferred // changes that are in the table but not yet in the Store, oldest first

	shared  state.Shared      // the Store, where the nodes of a cluster share it; nil: an agent alone
	records map[string][]byte // all of a shared one, as this node has seen it
	bad     error             // why records of another node made no sense; nil: they did
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
	keyNode     = "node/"
	keyLost     = "lost/"
)

// A change is stored as a whole or not at all.
type change struct {
	creation *creation     // nil: unchanged
	put      []*Set        // new and changed sets
	drop     []fsrvp.SetID // sets that are gone

	nodes map[string]Node      // of a cluster: those that changed
	lost  map[uint64]*leftover // by stay; nil: there is none any more
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
	Exposing bool               `json:"exposing,omitempty"`
	Kept     bool               `json:"kept,omitempty"`
	Removing bool               `json:"removing,omitempty"`
	Work     Work               `json:"work,omitzero"`
}

func storedOf(s *Set) storedSet {
	return storedSet{s.Client, s.Status, s.Context, s.Exposing, s.Kept, s.Removing, s.Work}
}

// Copies and mappings have a place, which keeps them in the order in which they were added.
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
		s := &store{Store: notClosed{c.State}}
		s.shared, _ = c.State.(state.Shared)
		return s, nil
	}
	f, err := state.Open(c.StorePath, &state.Options{Wait: c.StoreWait,
		ID: state.ID(backend.NewOwner(placeOf(c.StorePath))), New: c.AcceptState, Convert: func(data []byte) (map[string][]byte, error) {
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
	return &store{Store: f, file: f}, nil
}

// origin returns what the place of the store says of it, and of a copy where it was made.
func (s *store) origin() (o state.Origin, from string) {
	if s.file == nil {
		return state.Original, ""
	}
	o, from = s.file.Origin()
	if o == state.Unknown { // its id says where it was made, and on which host
		if o = state.Restored; !Owner(s.ID()).SamePlace(backend.NewOwner(placeOf(s.file.Path()))) {
			o, from = state.Copied, "another place"
		}
	}
	return o, from
}

// adopt makes the store the one that belongs where it is.
func (s *store) adopt() error {
	if o, _ := s.origin(); o == state.Original {
		return nil
	}
	if err := s.file.Adopt(); err != nil {
		return fmt.Errorf("agent: store: %w", err)
	}
	return nil
}

// notClosed is a store that the caller closes.
type notClosed struct{ state.Store }

func (notClosed) Close() error { return nil }

// load reads the whole table.
func (s *store) load(ctx context.Context) (*table, error) {
	records, err := s.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("agent: store: %w", err)
	}
	t, err := readRecords(records)
	if err == nil && s.shared == nil && len(t.nodes)+len(t.lost) > 0 {
		err = errors.New("it is the table of a cluster")
	}
	if err != nil {
		return nil, fmt.Errorf("agent: store: %w; the file was written by another version, or changed by hand: see \"fsrvp-agent state check\"", err)
	}
	s.fresh = len(records) == 0
	if err := s.learnBase(records); err != nil {
		return nil, fmt.Errorf("agent: store: %w", err)
	}
	if s.shared != nil {
		s.records = records
	}
	s.order, s.next = map[string]int{}, 0
	s.learn(t.order)
	return t, nil
}

func (s *store) learnBase(records map[string][]byte) error {
	b := records[keyBase]
	if b == nil {
		return nil
	}
	base, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil {
		return fmt.Errorf("record %q: %w", keyBase, err)
	}
	s.base.Store(base)
	return nil
}

// learn notes the places of copies and shares.
func (s *store) learn(order map[string]int) {
	for key, place := range order {
		s.order[key] = place
		s.next = max(s.next, place+1)
	}
}

// A table is the decoded content of the records.
type table struct {
	creation creation
	sets     []*Set
	order    map[string]int // of copies and shares, by their keys
	nodes    map[string]Node
	lost     map[uint64]*leftover
}

// refresh takes in what other nodes have written. It returns the sets that may have changed, as
// they are now, together with everything else in the table, and the ids of the sets that are gone.
// If nothing has changed it returns nil.
func (s *store) refresh(ctx context.Context) (now *table, gone []fsrvp.SetID, err error) {
	if s.bad != nil {
		return nil, nil, s.bad
	}
	c, err := s.shared.Refresh(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("agent: store: %w", err)
	}
	if c.Empty() {
		return nil, nil, nil
	}
	c.Apply(s.records)
	touched := map[string]bool{} // ids of sets
	touch := func(key string) {
		if kind, rest, _ := strings.Cut(key, "/"); kind+"/" == keySet || kind+"/" == keyCopy || kind+"/" == keyShare {
			id, _, _ := strings.Cut(rest, "/")
			touched[id] = true
		}
	}
	for _, k := range c.Drop {
		touch(k)
		delete(s.order, k)
	}
	for k := range c.Put {
		touch(k)
	}
	some := map[string][]byte{}
	for k, v := range s.records {
		kind, rest, _ := strings.Cut(k, "/")
		id, _, _ := strings.Cut(rest, "/")
		if kind+"/" != keySet && kind+"/" != keyCopy && kind+"/" != keyShare || touched[id] {
			some[k] = v
		}
	}
	if now, err = readRecords(some); err == nil {
		err = s.learnBase(some)
	}
	if err != nil {
		s.bad = fmt.Errorf("agent: store: another node has written %w; all nodes need the same version of the agent",
			err)
		return nil, nil, s.bad
	}
	s.learn(now.order)
	for _, set := range now.sets {
		delete(touched, set.ID.String())
	}
	for id := range touched {
		if parsed, err := uuid.Parse(id); err == nil {
			gone = append(gone, fsrvp.SetID(parsed))
		}
	}
	return now, gone, nil
}

// sequence returns how many changes the store has seen. It never decreases, and grows with each
// change. It does not wait for changes that are being written.
func (s *store) sequence() uint64 { return s.base.Load() + s.Sequence() }

// accept makes the sequence continue after least.
func (s *store) accept(ctx context.Context, least uint64) error {
	if s.sequence() >= least {
		return nil
	}
	base := s.base.Load() + least - s.sequence()
	err := s.Write(ctx, state.Change{Put: map[string][]byte{
		keyVersion: []byte(storeVersion), keyBase: strconv.AppendUint(nil, base, 10),
	}})
	if err != nil {
		return fmt.Errorf("agent: store: %w", err)
	}
	s.base.Store(base)
	return nil
}

// readRecords decodes a table from its records.
func readRecords(records map[string][]byte) (*table, error) {
	t := &table{order: map[string]int{}, nodes: map[string]Node{}, lost: map[uint64]*leftover{}}
	if len(records) == 0 { // just made
		return t, nil
	}
	if v := string(records[keyVersion]); v != storeVersion {
		return nil, fmt.Errorf("it has version %q, ours is %s", v, storeVersion)
	}
	byID := map[string]*Set{}
	copies := map[string]storedCopy{}
	shares := map[string][]storedMapping{} // by the key of their copy
	for key, b := range records {
		bad := func(err error) error { return fmt.Errorf("record %q: %w", key, err) }
		switch kind, rest, _ := strings.Cut(key, "/"); kind + "/" {
		case keyVersion + "/", keyBase + "/":
		case keyCreation + "/":
			if err := decode(b, &t.creation); err != nil {
				return nil, bad(err)
			}
		case keySet:
			var stored storedSet
			if err := decode(b, &stored); err != nil {
				return nil, bad(err)
			}
			parsed, err := uuid.Parse(rest)
			id := fsrvp.SetID(parsed)
			if err != nil || setKey(id) != key {
				return nil, bad(fmt.Errorf("%q is no id of a set", rest))
			}
			byID[rest] = &Set{
				ID: id, Client: stored.Client, Status: stored.Status, Context: stored.Context,
				Exposing: stored.Exposing, Kept: stored.Kept, Removing: stored.Removing, Work: stored.Work,
			}
		case keyCopy:
			var stored storedCopy
			if err := decode(b, &stored); err != nil {
				return nil, bad(err)
			}
			set, id, _ := strings.Cut(rest, "/")
			if stored.ID.String() != id || records[keySet+set] == nil || len(stored.Shares) > 0 {
				return nil, bad(errors.New("it has another id, or no set"))
			}
			copies[key] = stored
			t.order[key] = stored.Place
		case keyShare:
			var stored storedMapping
			if err := decode(b, &stored); err != nil {
				return nil, bad(err)
			}
			name := strings.ToLower(stored.Share.Name)
			of, ok := strings.CutSuffix(rest, "/"+name)
			if !ok || records[keyCopy+of] == nil {
				return nil, bad(errors.New("it is another share, or has no copy"))
			}
			shares[keyCopy+of] = append(shares[keyCopy+of], stored)
			t.order[key] = stored.Place
		case keyNode:
			var n Node
			if err := decode(b, &n); err != nil {
				return nil, bad(err)
			}
			t.nodes[rest] = n
		case keyLost:
			stay, err := strconv.ParseUint(rest, 10, 64)
			var l leftover
			if err := errors.Join(err, decode(b, &l)); err != nil {
				return nil, bad(err)
			}
			t.lost[stay] = &l
		default:
			return nil, bad(errors.New("its meaning is not known"))
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
			return nil, fmt.Errorf("set %s: %w", set.ID, err)
		}
		t.sets = append(t.sets, set)
	}
	slices.SortFunc(t.sets, func(x, y *Set) int { return strings.Compare(x.ID.String(), y.ID.String()) })
	return t, nil
}

// decode reads a record. A field that it does not know is an error: a later version may have said
// something by it that must not be forgotten.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows its value")
	}
	return nil
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

// check returns an error if a set from the store makes no sense, and adds what older agents did not
// write.
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
	d := s.diff(nil, change{creation: &c, put: sets})
	return d.change.Put, d.err
}

// write stores a change of a table.
func (s *store) write(ctx context.Context, sets map[fsrvp.SetID]*entry, c change) error {
	d := s.diff(sets, c)
	err := d.err
	if err == nil {
		err = s.Write(ctx, d.change)
	}
	if err != nil {
		for _, key := range d.placed {
			delete(s.order, key)
		}
		return err
	}
	d.forget()
	s.supersede(d.change)
	if s.shared != nil {
		d.change.Apply(s.records)
	}
	return nil
}

// forget forgets the places of what a change drops.
func (d *diff) forget() {
	for _, k := range d.change.Drop {
		if _, again := d.change.Put[k]; !again {
			delete(d.store.order, k)
		}
	}
}

// diff returns the changes of the records for a change of the table.
func (s *store) diff(sets map[fsrvp.SetID]*entry, c change) *diff {
	d := &diff{store: s, change: state.Change{Put: map[string][]byte{}}}
	if s.order == nil || len(sets) == 0 {
		d.put(keyVersion, json.RawMessage(storeVersion))
	}
	if c.creation != nil {
		d.put(keyCreation, c.creation)
	}
	for name, n := range c.nodes {
		d.put(keyNode+name, n)
	}
	for stay, l := range c.lost {
		if key := keyLost + strconv.FormatUint(stay, 10); l != nil {
			d.put(key, l)
		} else {
			d.change.Drop = append(d.change.Drop, key)
		}
	}
	for _, set := range c.put {
		var old *Set
		if e := sets[set.ID]; e != nil {
			old = e.set
		}
		d.set(old, set)
	}
	for _, id := range c.drop {
		if e := sets[id]; e != nil {
			d.set(e.set, nil)
		}
	}
	return d
}

// A diff collects the records in which two tables differ.
type diff struct {
	store  *store
	change state.Change
	placed []string // keys that got a place
	err    error
}

func (d *diff) put(key string, v any) {
	b, err := json.Marshal(v)
	d.err = errors.Join(d.err, err)
	d.change.Put[key] = b
}

// place returns the place of a copy or a share, or gives it the next place if it has none.
func (d *diff) place(key string) int {
	s := d.store
	if s.order == nil {
		s.order = map[string]int{}
	}
	if _, ok := s.order[key]; !ok {
		s.order[key] = s.next
		s.next++
		d.placed = append(d.placed, key)
	}
	return s.order[key]
}

// set adds the difference between two states of a set; nil means that the set does not exist.
func (d *diff) set(old, set *Set) {
	if set == nil {
		d.change.Drop = append(d.change.Drop, setKey(old.ID))
		for i := range old.Copies {
			d.copy(old.ID, &old.Copies[i], nil)
		}
		return
	}
	if old == nil || storedOf(old) != storedOf(set) {
		d.put(setKey(set.ID), storedOf(set))
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
	if old == nil || old.Volume != c.Volume || old.Path != c.Path || old.Home != c.Home || !old.Created.Equal(c.Created) {
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
