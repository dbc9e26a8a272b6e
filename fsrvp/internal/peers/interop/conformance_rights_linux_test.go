package interop

import (
	"context"
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// hostRights changes and shows the security descriptors of a file server's shares. The suite's
// marks are UUIDs; a mark is an ACE for the account whose SID, S-1-5-21-a-b-c-d, has the UUID's 128
// bits.
type hostRights struct{ host *peers.Host }

// Mark adds an ACE.
func (r hostRights) Mark(ctx context.Context, share, mark string) error {
	return r.change(ctx, share, "-a", mark)
}

// Unmark removes it.
func (r hostRights) Unmark(ctx context.Context, share, mark string) error {
	return r.change(ctx, share, "-r", mark)
}

func (r hostRights) change(ctx context.Context, share, how, mark string) error {
	id, err := uuid.Parse(mark)
	if err != nil {
		return err
	}
	sid := "S-1-5-21"
	for i := 0; i < len(id); i += 4 {
		sid += fmt.Sprintf("-%d", binary.BigEndian.Uint32(id[i:]))
	}
	_, err = r.sharesec(ctx, share, how, sid+":ALLOWED/0x0/READ")
	return err
}

var markACE = regexp.MustCompile(`S-1-5-21-(\d+)-(\d+)-(\d+)-(\d+):ALLOWED/0x0/READ`)

// Marks shows such ACEs.
func (r hostRights) Marks(ctx context.Context, share string) ([]string, error) {
	out, err := r.sharesec(ctx, share, "--view")
	if err != nil {
		return nil, err
	}
	var marks []string
	for _, m := range markACE.FindAllStringSubmatch(out, -1) {
		var id uuid.UUID
		for i, digits := range m[1:] {
			part, err := strconv.ParseUint(digits, 10, 32)
			if err != nil {
				return nil, err
			}
			binary.BigEndian.PutUint32(id[4*i:], uint32(part))
		}
		marks = append(marks, id.String())
	}
	return marks, nil
}

func (r hostRights) sharesec(ctx context.Context, share string, args ...string) (string, error) {
	out, err := r.host.Command(ctx, "sharesec", append([]string{share}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("sharesec %s: %w: %s", share, err, out)
	}
	return string(out), nil
}
