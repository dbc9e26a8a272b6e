package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A Journal is a small file that says which servers hold sets of runs that have not ended. It is written ahead
// of what it describes and is on stable storage when the server is asked. A Journal may
// serve any number of runs at once, all in the process that has it open.
type Journal struct {
	db *bbolt.DB

	mu   sync.Mutex
	live map[string]bool // runs of this process, which Recover leaves alone
}

var runsBucket = []byte("runs v1")

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

// OpenJournal opens a journal, making the file where there is none. One process has it open at a time: where another
// has, OpenJournal fails after a second.
func OpenJournal(path string) (*Journal, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, fmt.Errorf("provider: journal %s is in use by another process", path)
	}
	if err != nil {
		return nil, fmt.Errorf("provider: journal %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(runsBucket)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("provider: journal %s: %w", path, err), db.Close())
	}
	return &Journal{db: db, live: make(map[string]bool)}, nil
}

// Close closes the file. No run may be using it.
func (j *Journal) Close() error { return j.db.Close() }

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

// note writes what may exist on a server from now on; with stateNone, that nothing does.
func (j *Journal) note(run string, s *server, to state) error {
	key := []byte(run + " " + s.name)
	err := j.db.Update(func(tx *bbolt.Tx) error {
		if to == stateNone {
			return tx.Bucket(runsBucket).Delete(key)
		}
		rec := record{Run: run, Server: s.name, State: "starting", Time: time.Now().UTC()}
		if to == stateStarted {
			rec.State, rec.Set = "started", s.set
		}
		for _, sh := range s.shares {
			rec.Shares = append(rec.Shares, recordShare{Share: sh.unc, Copy: sh.copy})
		}
		b, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		return tx.Bucket(runsBucket).Put(key, b)
	})
	if err != nil {
		return fmt.Errorf("provider: journal: %w", err)
	}
	return nil
}

// left returns the records of runs that are not this process's.
func (j *Journal) left() ([]record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var recs []record
	err := j.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(runsBucket).ForEach(func(k, v []byte) error {
			var rec record
			if err := json.Unmarshal(v, &rec); err != nil {
				return fmt.Errorf("record %q: %w", k, err)
			}
			if !j.live[rec.Run] {
				recs = append(recs, rec)
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("provider: journal: %w", err)
	}
	return recs, nil
}
