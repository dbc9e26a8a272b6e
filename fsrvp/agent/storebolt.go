package agent

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/boltfile"
)

// Old versions of the agent had a store in bbolt's format:
//
//	bucket "fsrvp"  key "version"    "1"
//	                key "creation"   a creation in JSON
//	bucket "sets"   key: set id, 16 bytes in the order of its string form;  value: a Set in JSON
//
// readBolt reads such a store, to take it over.
func readBolt(data []byte) (c creation, sets []*Set, err error) {
	if len(data) == 0 {
		return c, nil, errors.New("it is empty")
	}
	file, err := boltfile.Read(data)
	if err != nil {
		return c, nil, err
	}
	main := file["fsrvp"]
	switch {
	case main == nil && len(file) > 0:
		return c, nil, errors.New("it is not a store of this agent")
	case main == nil: // its making was cut short
		return c, nil, nil
	case string(main["version"]) != "1":
		return c, nil, fmt.Errorf("it has version %q, 1 and %s are known", main["version"], storeVersion)
	case file["sets"] == nil:
		return c, nil, errors.New("it has no table")
	}
	if b := main["creation"]; b != nil {
		if err := json.Unmarshal(b, &c); err != nil {
			return c, nil, fmt.Errorf("creation: %w", err)
		}
	}
	exposed := 0
	for k, v := range file["sets"] {
		set := new(Set)
		if err := json.Unmarshal(v, set); err != nil {
			return c, nil, fmt.Errorf("set %x: %w", k, err)
		}
		if k != string(set.ID[:]) {
			return c, nil, fmt.Errorf("set %x: it has id %s", k, set.ID)
		}
		if err := set.check(); err != nil {
			return c, nil, fmt.Errorf("set %s: %w", set.ID, err)
		}
		if set.Status != Recovered && !set.Removing {
			exposed++
		}
		sets = append(sets, set)
	}
	// Only one set at a time can be in creation. If there are more, or there is no creation, the
	// exposed sets were kept.
	for _, set := range sets {
		if set.Status == Exposed && !set.Removing && (!c.ContextSet || exposed > 1) {
			set.Kept = true
		}
	}
	return c, sets, nil
}
