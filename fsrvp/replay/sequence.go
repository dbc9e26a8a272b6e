package replay

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// A step is one recorded call.
type step struct {
	*transcript.Exchange
	index   int     // in its sequence
	key     stepKey // what a call must have in common with it
	asked   bool    // set when it has answered a call
	skipped bool    // set when it was left out
}

// A stepKey is what a recorded call and a call that it answers have in common: the method, and the
// parameters that do not depend on today's ids. Steps with the same key need not match the same
// calls.
type stepKey struct {
	op     fsrvp.Opnum
	number uint32 // the context, or the level
	share  string // the bare name, folded, without the id of an exposed share
}

// keyOf returns the key of a request in today's names.
func keyOf(m fsrvp.Message) stepKey {
	k := stepKey{op: m.Opnum()}
	switch m := m.(type) {
	case *fsrvp.SetContextRequest:
		k.number = uint32(m.Context)
	case *fsrvp.GetShareMappingRequest:
		k.number = m.Level
	}
	if share := transcript.ShareOf(m); share != "" {
		k.share = foldShare(share)
	}
	return k
}

// foldShare returns the same string for all names that fsrvp.ShareName.Equal may consider equal, on
// any host.
func foldShare(unc string) string {
	n, err := fsrvp.ParseShareName(unc)
	if err != nil {
		return "\x00" + unc
	}
	base, _, _ := strings.Cut(n.Share, "@{")
	return strings.Map(foldRune, base)
}

// foldRune returns the smallest of the runes that differ only in case.
func foldRune(r rune) rune {
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	return least
}

// A sequence is a list of recorded calls that are answered in order. Past steps are not visited
// again, so the cost of a call in its turn does not depend on the length of the sequence.
type sequence struct {
	steps     []*step
	first     int             // the first that is neither asked nor skipped
	mandatory int             // the first that may not be left out and is not asked
	left      map[stepKey]int // the number of steps of a key that are neither asked nor skipped
	// mappings are the GetShareMapping steps that were asked, by their keys; they may be repeated.
	mappings map[stepKey][]*step
}

func (q *sequence) add(st *step) {
	st.index = len(q.steps)
	q.steps = append(q.steps, st)
	if q.left == nil {
		q.left, q.mappings = map[stepKey]int{}, map[stepKey][]*step{}
	}
	q.left[st.key]++
}

// ask records that a step has answered a call.
func (q *sequence) ask(st *step) {
	if st.asked {
		return
	}
	st.asked = true
	q.left[st.key]--
	if st.Opnum() == fsrvp.OpGetShareMapping {
		q.mappings[st.key] = append(q.mappings[st.key], st)
	}
}

// skip leaves out the optional steps before a step.
func (q *sequence) skip(before int) {
	for _, st := range q.steps[q.first:before] {
		if !st.asked && !st.skipped && st.optional() {
			st.skipped = true
			q.left[st.key]--
		}
	}
}

// expected returns the first step that the client must not leave out, or nil.
func (q *sequence) expected() *step {
	for ; q.mandatory < len(q.steps); q.mandatory++ {
		if st := q.steps[q.mandatory]; !st.asked && !st.optional() {
			return st
		}
	}
	return nil
}

// again returns the last GetShareMapping step before a step that was asked and matches a call, or
// nil.
func (q *sequence) again(key stepKey, before int, matches func(*step) bool) *step {
	var last *step
	for _, st := range q.mappings[key] {
		if st.index < before && (last == nil || st.index > last.index) && matches(st) {
			last = st
		}
	}
	return last
}

// next finds the step that answers a call. With an error it returns the first step that the client
// must not leave out, if any.
func (q *sequence) next(req fsrvp.Message, matches func(*step) bool) (found, expected *step, err error) {
	key, end := keyOf(req), len(q.steps)
	err = errNoMatch
	for q.first < end && (q.steps[q.first].asked || q.steps[q.first].skipped) {
		q.first++
	}
	if q.left[key] > 0 {
		blocked := false // by expected, or by another of the same kind
		for i := q.first; i < end; i++ {
			st := q.steps[i]
			if st.asked || st.skipped {
				continue
			}
			match := st.key == key && matches(st)
			if match && !blocked {
				q.ask(st)
				if st.Succeeded() && st.Opnum() != fsrvp.OpGetShareMapping {
					q.skip(i)
				}
				return st, nil, nil
			}
			if match {
				err = fmt.Errorf("%v must come first", expected.Opnum())
				end = i
				break
			}
			if st.optional() {
				continue
			}
			if expected == nil {
				expected = st
			}
			blocked = blocked || st.Opnum() != req.Opnum()
		}
	}
	if key.op == fsrvp.OpGetShareMapping {
		if st := q.again(key, end, matches); st != nil {
			return st, nil, nil
		}
	}
	return nil, q.expected(), err
}

// optional reports whether a client may leave out the call.
func (st *step) optional() bool {
	return st.Opnum() == fsrvp.OpGetShareMapping || !st.Succeeded()
}

// queries are recorded calls that change nothing, by their keys.
type queries map[stepKey]*querySteps

// querySteps are the queries of one key.
type querySteps struct {
	steps []*step
	first int // the first that was not asked
}

func (q queries) add(st *step) {
	list := q[st.key]
	if list == nil {
		list = new(querySteps)
		q[st.key] = list
	}
	list.steps = append(list.steps, st)
}

// next finds the answer to a call that changes nothing: the next one, or the last again.
func (q queries) next(req fsrvp.Message, matches func(*step) bool) (*step, error) {
	list := q[keyOf(req)]
	if list == nil {
		return nil, errNoMatch
	}
	for list.first < len(list.steps) && list.steps[list.first].asked {
		list.first++
	}
	for _, st := range list.steps[list.first:] {
		if !st.asked && matches(st) {
			st.asked = true
			return st, nil
		}
	}
	for i := len(list.steps) - 1; i >= 0; i-- {
		if st := list.steps[i]; st.asked && matches(st) {
			return st, nil
		}
	}
	return nil, errNoMatch
}
