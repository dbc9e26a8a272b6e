package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

// A Profile says what the agent answers where servers differ from the text of the standard.
type Profile uint8

// The profiles.
const (
	// Windows answers as Windows servers were seen to.
	//   - An unknown set is E_INVALIDARG, and so is an unknown copy or share in DeleteShareMapping,
	//     and a share of another host in AddToShadowCopySet.
	//   - Shares on one volume join one shadow copy.
	//   - GetShareMapping before the set is exposed is 0x80042311; it is allowed when the set is
	//     Recovered.
	//   - A creation ends with its set, also where DeleteShareMapping deletes the last mapping of
	//     an exposed set.
	Windows Profile = iota
	// Strict answers as MS-FSRVP is written.
	Strict
)

// String returns "Windows" or "Strict".
func (p Profile) String() string {
	switch p {
	case Windows:
		return "Windows"
	case Strict:
		return "Strict"
	}
	return fmt.Sprintf("Profile(%d)", uint8(p))
}

// Timers are the values of the Message Sequence Timer (MS-FSRVP 3.1.2, 3.1.4): how long a client
// may be silent after each method. Zero means the standard's value.
type Timers struct {
	SetContext      time.Duration // 180 s
	Start           time.Duration // 180 s
	Add             time.Duration // 1800 s
	Prepare         time.Duration // 1800 s
	Commit          time.Duration // 180 s
	Expose          time.Duration // 180 s
	GetShareMapping time.Duration // 1800 s
	// Failure is used when one of the methods fails or times out after it had stopped the timer,
	// and for an unfinished set that New found: 180 s.
	Failure time.Duration
}

// The two values of the standard.
const (
	shortSequence = 180 * time.Second
	longSequence  = 1800 * time.Second
)

func (t Timers) withDefaults() Timers {
	for d, standard := range map[*time.Duration]time.Duration{
		&t.SetContext: shortSequence, &t.Start: shortSequence, &t.Add: longSequence, &t.Prepare: longSequence,
		&t.Commit: shortSequence, &t.Expose: shortSequence, &t.GetShareMapping: longSequence, &t.Failure: shortSequence,
	} {
		if *d == 0 {
			*d = standard
		}
	}
	return t
}

// Config is what an Agent is made of. Snapshots, Shares and StorePath are required; a zero value of
// anything else means what its comment says. New copies the Config; the backends stay the caller's,
// are used until Close returns, and are not closed.
type Config struct {
	Snapshots Snapshots
	Shares    Shares

	// StorePath is the file that holds the table, see [state.Open]. It is made, with mode 0600,
	// where there is none; its directory has to exist. One Agent at a time may have it open. The
	// agent's id is in it: what the agent makes carries that id, and the agent deletes and exposes
	// nothing else. An agent that has lost its store has lost its copies too, so New refuses to
	// begin another one at the same place while there are copies.
	//
	// A store in bbolt's format, as older versions wrote it, is taken over and kept beside the new
	// one, with ".old" at its name's end.
	StorePath string
	// State holds the table instead of the file at StorePath. It stays the caller's, and is not
	// closed. Nil: the file.
	State state.Store
	// AcceptState makes New go on where it would fail with ErrStateLost. Of a new store, the copies
	// of the lost one are another agent's from then on; an old store forgets the sets that were in
	// creation, and what it does not know stays as orphans. False: New fails, and nothing is
	// deleted.
	AcceptState bool
	// StoreWait is how long New waits for another Agent to leave the store. Zero: 1 s.
	StoreWait time.Duration

	// Profile is what to answer where servers differ. Zero: Windows.
	Profile Profile

	// Names are the host names and addresses under which clients name this server in UNC paths,
	// without regard to case; a dot at the end of a name is nothing. Nil: the host's name, its
	// first label, "localhost" and the addresses of the machine's interfaces as they are at the
	// time of each call.
	Names []string
	// Aliases are more of them, besides Names: a name in the DNS that is not the host's own, or
	// that of a cluster's file server role. Where Shares is a ServerNamer, its names count besides
	// these.
	Aliases []string
	// Machine is the name that IsPathSupported tells clients to connect to: one that they can
	// resolve, and for which there is a service principal. Empty: that of the file server, where
	// Shares is a ServerNamer; else the first of Names; where they are nil too, the name that the
	// client used in its path.
	Machine string
	// Owner, in a cluster, says which machine owns a share: the node that clients have to connect
	// to. Host is the server's name as the client gave it. "" or Machine, or where that is empty
	// the host's name, is this machine. A share that another machine owns is supported, but refused
	// by AddToShadowCopySet. Nil: this machine owns all its shares.
	Owner func(ctx context.Context, host string, share Share) (string, error)
	// PlainHiddenNames exposes a hidden share always as "vms$@{id}". False: as "vms$@{id}$", which
	// is hidden too, where the client named it with a backslash after the dollar, \\fs1\vms$\, as
	// VSS writes paths (MS-FSRVP 3.1.4.6, note 9).
	PlainHiddenNames bool

	// Allow lists who may call besides BUILTIN\Administrators, BUILTIN\Backup Operators and holders
	// of SeBackupPrivilege: SIDs ("S-1-5-21-...-512"), Kerberos principals ("backup@EXAMPLE.COM")
	// and accounts ("EXAMPLE\backup"), these without regard to the case of ASCII's letters. In an
	// Active Directory SIDs are best: names can be given anew, and its controllers take more
	// spellings of them than this.
	Allow []string
	// CaseSensitiveRealms are Kerberos realms whose names of accounts have case, as MIT's and
	// Heimdal's do ("EXAMPLE.COM"): Allow's entries of these are compared exactly. Nil means none.
	CaseSensitiveRealms []string

	// Timers are the values of the Message Sequence Timer. Zero: the standard's.
	Timers Timers
	// KeepExposed ends a creation when its set is exposed, as Samba's agent does, and not with
	// RecoveryComplete: from then on no Message Sequence Timer, SetContext or StartShadowCopySet of
	// any client touches the set. It is for clients that do without RecoveryComplete, such as
	// rpcclient's fss_create_expose; what they forget stays until somebody deletes its mappings.
	// False: an exposed set is in creation until RecoveryComplete, as MS-FSRVP has it.
	KeepExposed bool
	// MaxRetries is how often one client may start over with SetContext before it is answered
	// SHADOW_COPY_SET_IN_PROGRESS once (MS-FSRVP 3.1.4.2). Zero: 5, as Windows Server 2012 R2.
	// Negative: no limit.
	MaxRetries int
	// MaxSets limits the sets in the table, MaxShares the shares of one set; beyond them the answer
	// is E_OUTOFMEMORY. Zero: 512 and 256. Negative: no limit.
	MaxSets, MaxShares int
	// RetryRemoval is how long the agent waits before it tries again to delete what a backend
	// failed to delete. Zero: 1 minute.
	RetryRemoval time.Duration
	// CloseWait is how long Close waits for backends: for work that it has cancelled, and for the
	// deletion of auto-release copies; and how long an ExposeShadowCopySet that failed may take to
	// remove what it has exposed. Zero: 30 s.
	CloseWait time.Duration

	// Logger gets a record of every change, with the ids of the set and of the shadow copy. Nil:
	// none.
	Logger *slog.Logger
	// Observe is called with every Event, for metrics. Events of one set come in order. It must
	// return at once and must not call the Agent. Nil: none.
	Observe func(Event)
}

// Defaults of Config.
const (
	defaultStoreWait    = time.Second
	defaultMaxRetries   = 5
	defaultMaxSets      = 512
	defaultMaxShares    = 256
	defaultRetryRemoval = time.Minute
	defaultCloseWait    = 30 * time.Second
)

// withDefaults checks the Config and returns a copy without zero values.
func (c *Config) withDefaults() (Config, error) {
	if c == nil || c.Snapshots == nil || c.Shares == nil || (c.StorePath == "" && c.State == nil) {
		return Config{}, errors.New("agent: Config needs Snapshots, Shares and StorePath")
	}
	d := *c
	if d.Profile > Strict {
		return Config{}, fmt.Errorf("agent: unknown profile %d", d.Profile)
	}
	if d.StorePath != "" {
		d.StorePath = filepath.Clean(d.StorePath)
	}
	d.Timers = d.Timers.withDefaults()
	for _, t := range []time.Duration{
		d.StoreWait, d.RetryRemoval, d.CloseWait, d.Timers.SetContext, d.Timers.Start, d.Timers.Add,
		d.Timers.Prepare, d.Timers.Commit, d.Timers.Expose, d.Timers.GetShareMapping, d.Timers.Failure,
	} {
		if t < 0 {
			return Config{}, fmt.Errorf("agent: negative duration %v in Config", t)
		}
	}
	if d.StoreWait == 0 {
		d.StoreWait = defaultStoreWait
	}
	if d.RetryRemoval == 0 {
		d.RetryRemoval = defaultRetryRemoval
	}
	if d.CloseWait == 0 {
		d.CloseWait = defaultCloseWait
	}
	if d.MaxRetries == 0 {
		d.MaxRetries = defaultMaxRetries
	}
	if d.MaxSets == 0 {
		d.MaxSets = defaultMaxSets
	}
	if d.MaxShares == 0 {
		d.MaxShares = defaultMaxShares
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	if d.Observe == nil {
		d.Observe = func(Event) {}
	}
	return d, nil
}
