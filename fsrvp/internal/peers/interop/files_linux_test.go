package interop

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// hostFiles reads and writes files of a file server's shares, with smbclient.
type hostFiles struct {
	host     *peers.Host
	password string
}

// smbFile runs one command of smbclient on a share, as the administrator.
func (f hostFiles) smbFile(share, command string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := f.host.Command(ctx, "smbclient", "//localhost/"+share, "-U", peers.Domain+`\Administrator%`+f.password,
		"-c", command).CombinedOutput()
	if err != nil || strings.Contains(string(out), "NT_STATUS_") {
		return fmt.Errorf("smbclient %s: %s: %w", share, out, err)
	}
	return nil
}

// ReadFile reads a file over SMB.
func (f hostFiles) ReadFile(share, name string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "fsrvp-read-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	local := filepath.Join(dir, "file")
	if err := f.smbFile(share, fmt.Sprintf(`get "%s" "%s"`, name, local)); err != nil {
		return nil, err
	}
	return os.ReadFile(local)
}

// WriteFile writes a file over SMB.
func (f hostFiles) WriteFile(share, name string, data []byte) error {
	dir, err := os.MkdirTemp("", "fsrvp-write-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	local := filepath.Join(dir, "file")
	if err := os.WriteFile(local, data, 0o644); err != nil {
		return err
	}
	return f.smbFile(share, fmt.Sprintf(`put "%s" "%s"`, local, name))
}
