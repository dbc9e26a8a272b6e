package sambapipe

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/logs"
)

// A Config says which pipe to serve, and where. A nil Config is the zero Config, for FssagentRpc
// with Debian's paths.
type Config struct {
	// Dir is Samba's "ncalrpc dir" ("testparm -s --parameter-name='ncalrpc dir'"), in whose
	// subdirectory np smbd looks for pipes' sockets. Empty means /run/samba/ncalrpc.
	Dir string
	// Pipe is the name of the pipe, without \pipe\. Empty means FssagentRpc, MS-FSRVP's (MS-FSRVP
	// 2.1).
	Pipe string
	// LibexecDirs are the directories in which to look for rpcd_fsrvp, to warn of it. Nil means
	// those in which distributions and Samba install it; an empty slice means none.
	LibexecDirs []string
	// Logger gets warnings of a rival for the pipe, of a socket that had to be taken back, and of
	// refused connections. Nil means none.
	Logger *slog.Logger
}

// defaultLibexecDirs are those of Debian and Arch, Ubuntu, Fedora, SUSE, Alpine and Samba's own
// build.
var defaultLibexecDirs = []string{
	"/usr/libexec/samba",
	"/usr/lib/samba",
	"/usr/lib/samba/samba",
	"/usr/lib64/samba",
	"/usr/lib/*/samba",
	"/usr/local/libexec/samba",
	"/usr/local/samba/libexec",
	"/usr/local/samba/libexec/samba",
}

// filled returns a copy of c with its defaults set.
func (c *Config) filled() Config {
	var f Config
	if c != nil {
		f = *c
	}
	if f.Dir == "" {
		f.Dir = "/run/samba/ncalrpc"
	}
	if f.Pipe == "" {
		f.Pipe = "FssagentRpc"
	}
	if f.LibexecDirs == nil {
		f.LibexecDirs = defaultLibexecDirs
	}
	f.Logger = logs.OrDiscard(f.Logger)
	return f
}

// rivals returns the executables with which samba-dcerpcd would serve FssagentRpc: it runs all
// programs named rpcd_*.
func rivals(dirs []string) []string {
	var found []string
	for _, dir := range dirs {
		names, _ := filepath.Glob(filepath.Join(dir, "rpcd_*")) // fails only for a bad pattern
		for _, name := range names {
			if !strings.Contains(filepath.Base(name), "fsrvp") {
				continue
			}
			if fi, err := os.Stat(name); err != nil || !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0 {
				continue
			}
			if real, err := filepath.EvalSymlinks(name); err == nil {
				name = real // two directories may be the same
			}
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}
