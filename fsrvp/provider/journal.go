package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/boltfile"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/recordfile"
)

// A Journal is a small file that says which servers hold sets of unfinished runs. It is on stable
// storage before a server is asked to make anything. A Journal may serve any number of concurrent
// runs in the process that has it open.
type Journal struct {
	file *recordfile.File

	mu   sync.Mutex
	live map[string]bool // runs of this process, which Recover ignores
}

// A record is one server's part of one run, the value of a key "run server".
type record struct {
	Run    string        `json:"run"`
	Server string        `json:"server"`
	State  string        `json:"state"` // "starting" or "started"
	Set    fsrvp.SetID   `json:"set,omitzero"`
	Shares []recordShare `json:"shares"`
	Time   time.Time     `json:"time"`
}

type recordShare struct {
	Share string       `json:"share"`
	Copy  fsrvp.CopyID `json:"copy,omitzero"`
}

func recordKey(run, server string) string { return run + " " + server }

// check returns an error for an invalid record, on which Recover must not act.
func (r *record) check(key string) error {
	if recordKey(r.Run, r.Server) != key || r.Run == "" || r.Server == "" {
		return fmt.Errorf("it is that of run %q on server %q", r.Run, r.Server)
	}
	if r.State != "starting" && r.State != "started" {
		return fmt.Errorf("unknown state %q", r.State)
	}
	return nil
}

const journalKind = "backup journal"

// OpenJournal opens a journal. If there is none, it makes the file, with mode 0600; next to it is
// another file, PATH.id. The directory must exist, and other users must not be able to write to it.
// Only one process can have a journal open at a time: OpenJournal fails after a second if another
// one has. A journal in bbolt's format, as written by older versions, is converted, and kept with
// ".old" at the end of its name.
//
// If any byte of the file was changed, lost or repeated, OpenJournal fails, and the error says what
// is known. It also refuses a copy of a journal, since Recover would end the runs of the process
// that uses the original.
func OpenJournal(path string) (*Journal, error) {
	file, err := recordfile.Open(path, &recordfile.Options{
		Kind: journalKind, Wait: time.Second, Convert: readBoltJournal,
		Advice: "no server was asked to delete anything. Put a backup of it in its place, or move it and " + path + ".id away: " +
			"then nobody removes the sets of unfinished runs, and the servers' administrators must do it",
	})
	if errors.Is(err, recordfile.ErrInUse) {
		return nil, fmt.Errorf("provider: journal %s is in use by another process", path)
	}
	if err != nil {
		return nil, fmt.Errorf("provider: journal: %w", err)
	}
	switch origin, from := file.Origin(); origin {
	case recordfile.Copied:
		err = fmt.Errorf("provider: journal %s is a copy of that at %s, whose runs may not have ended; "+
			"where that is gone for good, remove %[1]s.id to use this one", path, from)
	case recordfile.Original:
	default:
		err = file.Adopt()
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &Journal{file: file, live: make(map[string]bool)}, nil
}

// readBoltJournal reads the file of an older version: a bucket "runs v1" with records by their
// keys.
func readBoltJournal(data []byte) (map[string][]byte, error) {
	if len(data) == 0 {
		return nil, errors.New("it is empty")
	}
	file, err := boltfile.Read(data)
	if err != nil {
		return nil, err
	}
	if len(file) > 0 && file["runs v1"] == nil {
		return nil, errors.New("it is not a journal of a provider")
	}
	for key, value := range file["runs v1"] {
		if _, err := parseRecord(key, value); err != nil {
			return nil, err
		}
	}
	return file["runs v1"], nil
}

func parseRecord(key string, value []byte) (rec record, err error) {
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields() // of a later version, which may mean something by them
	if err = d.Decode(&rec); err == nil {
		err = rec.check(key)
	}
	if err != nil {
		return rec, fmt.Errorf("record %q: %w", key, err)
	}
	return rec, nil
}

// Close closes the file. No run may be using it.
func (j *Journal) Close() error { return j.file.Close() }

func (j *Journal) begin() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("provider: journal: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.live[id.String()] = true
	return id.String(), nil
}

func (j *Journal) end(run string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.live, run)
}

// note records what may exist on a server from now on; with stateNone, nothing.
func (j *Journal) note(run string, s *server, to state) error {
	key := recordKey(run, s.name)
	change := recordfile.Change{Drop: []string{key}}
	if to != stateNone {
		rec := record{Run: run, Server: s.name, State: "starting", Time: time.Now().UTC()}
		if to == stateStarted {
			rec.State, rec.Set = "started", s.set
		}
		for _, sh := range s.shares {
			rec.Shares = append(rec.Shares, recordShare{Share: sh.unc, Copy: sh.copy})
		}
		b, err := json.Marshal(rec)
		if err != nil {
			return fmt.Errorf("provider: journal: %w", err)
		}
		change = recordfile.Change{Put: map[string][]byte{key: b}}
	}
	if err := j.file.Write(change); err != nil {
		return fmt.Errorf("provider: journal: %w", err)
	}
	return nil
}

// left returns the records of runs of other processes.
func (j *Journal) left() ([]record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var recs []record
	for key, value := range j.file.Load() {
		rec, err := parseRecord(key, value)
		if err != nil {
			return nil, fmt.Errorf("provider: journal %s: %w", j.file.Path(), err)
		}
		if !j.live[rec.Run] {
			recs = append(recs, rec)
		}
	}
	slices.SortFunc(recs, func(x, y record) int {
		return strings.Compare(recordKey(x.Run, x.Server), recordKey(y.Run, y.Server))
	})
	return recs, nil
}
