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

// A Profile says how the agent answers in cases where servers differ from the text of the standard.
type Profile uint8

// The profiles.
const (
	// Windows answers as Windows servers were observed to answer.
	// - An unknown set is E_INVALIDARG, and so is an unknown copy or share in DeleteShareMapping,
	//   and a share of another host in AddToShadowCopySet.
	//   - Shares on one volume join one shadow copy.
	//   - GetShareMapping before the set is exposed is 0x80042311; it is allowed when the set is
	//     Recovered.
	//   - A creation ends with its set, even if DeleteShareMapping deletes the last mapping of an
	//     exposed set.
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
	// Failure applies when one of the methods fails or times out after it has stopped the timer,
	// and to an unfinished set that New finds: 180 s.
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

// Config configures an Agent. Snapshots, Shares and StorePath are required; for every other field
// its comment says what zero means. New copies the Config. The agent uses the backends until Close
// returns, but does not close them.
type Config struct {
	Snapshots Snapshots
	Shares    Shares

	// StorePath is the file that holds the table, see [state.Open]. If it does not exist, New makes
	// it with mode 0600; its directory must exist. Only one Agent at a time may have it open. It
	// holds the agent's id: everything that the agent makes carries that id, and the agent deletes
	// and exposes nothing else. An agent that has lost its store no longer knows its copies, so New
	// refuses to begin a new store while there are copies.
	//
	// If the file is in the bbolt format of older versions, New takes its content over and keeps
	// the old file with ".old" added to its name.
	StorePath string
	// State holds the table instead of the file at StorePath. The agent does not close it. Nil
	// means the file.
	State state.Store
	// AcceptState makes New continue where it would otherwise fail with [ErrStateLost]. If the
	// store is new, the lost store's copies count as another agent's from then on. If the store is
	// old, New forgets the sets that were in creation, and copies that the store does not know stay
	// as orphans. False means that New fails and deletes nothing.
	AcceptState bool
	// StoreWait is how long New waits for another Agent to close the store. Zero means 1 s.
	StoreWait time.Duration

	// Profile says how to answer where servers differ. Zero means Windows.
	Profile Profile

	// Names are the host names and addresses under which clients name this server in UNC paths,
	// ignoring case and a dot at the end of a name. Nil means the host's name, its first label,
	// "localhost", and the addresses that the machine's interfaces have at the time of each call.
	Names []string
	// Aliases are further names in addition to Names, such as a DNS name other than the host's own,
	// or the name of a cluster's file server role. If Shares is a ServerNamer, its names count in
	// addition.
	Aliases []string
	// Machine is the name that IsPathSupported tells clients to connect to. They must be able to
	// resolve it, and it needs a service principal. Empty means the file server's name if Shares is
	// a ServerNamer, else the first of Names, or if Names is nil, the name that the client used in
	// its path.
	Machine string
	// Owner, in a cluster, returns the machine that owns a share: the node that clients must
	// connect to. The argument host is the server's name as the client gave it. The results "" and
	// Machine (or the host's name, if Machine is empty) mean this machine. So does any other of
	// this machine's names and addresses, which IsPathSupported then returns; an address that moves
	// between nodes means the node that has it. IsPathSupported accepts a share that another
	// machine owns, but AddToShadowCopySet refuses it. Nil means that this machine owns all its
	// shares.
	Owner func(ctx context.Context, host string, share Share) (string, error)
	// PlainHiddenNames makes the agent always expose a hidden share as "vms$@{id}". False means
	// that the name is "vms$@{id}$", which is hidden too, if the client wrote a backslash after the
	// dollar sign (\\fs1\vms$\), as VSS writes paths (MS-FSRVP 3.1.4.6, note 9).
	PlainHiddenNames bool

	// Allow lists who may call, in addition to BUILTIN\Administrators, BUILTIN\Backup Operators and
	// holders of SeBackupPrivilege: SIDs ("S-1-5-21-...-512"), Kerberos principals
	// ("backup@EXAMPLE.COM") and accounts ("EXAMPLE\backup"). Principals and accounts ignore the
	// case of ASCII letters. In an Active Directory SIDs are best: a name can be given to another
	// account later, and domain controllers accept more spellings of a name than this list does.
	Allow []string
	// CaseSensitiveRealms are the Kerberos realms ("EXAMPLE.COM") whose account names respect case,
	// as those of MIT and Heimdal do. Entries of Allow in these realms are compared exactly. Nil
	// means none.
	CaseSensitiveRealms []string

	// Timers are the values of the Message Sequence Timer. Zero means the standard's values.
	Timers Timers
	// KeepExposed ends a creation when its set is exposed, as Samba's agent does, instead of with
	// RecoveryComplete. From then on no Message Sequence Timer, SetContext or StartShadowCopySet of
	// any client touches the set. It is for clients that never call RecoveryComplete, such as
	// rpcclient's fss_create_expose; sets that they forget stay until somebody deletes their
	// mappings. False means that an exposed set is in creation until RecoveryComplete, as MS-FSRVP
	// says.
	KeepExposed bool
	// MaxRetries is how often one client may start over with SetContext before the agent answers it
	// SHADOW_COPY_SET_IN_PROGRESS once (MS-FSRVP 3.1.4.2). Zero means 5, as in Windows Server 2012
	// R2. Negative means no limit.
	MaxRetries int
	// MaxSets limits the number of sets in the table, and MaxShares the number of shares in one
	// set; beyond them the agent answers E_OUTOFMEMORY. Zero means 512 and 256. Negative means no
	// limit.
	MaxSets, MaxShares int
	// RetryRemoval is how long the agent waits before it retries to delete what a backend failed to
	// delete. Zero means 1 minute.
	RetryRemoval time.Duration
	// CloseWait is how long Close waits for work that it has cancelled and for the deletion of
	// auto-release copies. It is also how long a failed ExposeShadowCopySet may take to remove what
	// it has exposed. Zero means 30 s.
	CloseWait time.Duration

	// Logger receives a record of every change, with the ids of the set and of the shadow copy. Nil
	// means no log.
	Logger *slog.Logger
	// Observe is called with every Event, for metrics. Events of one set come in order. It must
	// return at once and must not call the Agent. Nil means no calls.
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
