package writer

import (
	"errors"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// Libvirt is a virtual machine that libvirt manages, whose file systems the QEMU guest agent
// freezes: [Command] with virsh domfsfreeze and domfsthaw.
type Libvirt struct {
	// Domain is the machine's name, id or UUID.
	Domain string
	// Connect is libvirt's URI. Empty means virsh's default.
	Connect string
	// Mounts are mount points in the guest. Nil means all.
	Mounts []string
	// Virsh is the program, with arguments. Nil means virsh.
	Virsh []string
	// Limit is the longest time from freeze to thaw. Zero means [DefaultLimit].
	Limit time.Duration
	// Guard runs virsh, and thaws if this program cannot.
	Guard Guard
}

// Writer returns the writer, which serves one run at a time.
func (l Libvirt) Writer() (provider.Writer, error) {
	if l.Domain == "" || l.Domain[0] == '-' {
		return provider.Writer{}, errors.New("writer: Libvirt has no Domain")
	}
	if l.Mounts != nil && len(l.Mounts) == 0 {
		return provider.Writer{}, errors.New("writer: Libvirt.Mounts is empty; nil means all")
	}
	virsh := l.Virsh
	if virsh == nil {
		virsh = []string{"virsh"}
	}
	command := func(args ...string) []string {
		c := append([]string{}, virsh...)
		if l.Connect != "" {
			c = append(c, "--connect", l.Connect)
		}
		return append(c, args...)
	}
	freeze := command("domfsfreeze", "--domain", l.Domain)
	for _, m := range l.Mounts {
		freeze = append(freeze, "--mountpoint", m)
	}
	return Command{
		Name:   "guest " + l.Domain,
		Freeze: freeze,
		Thaw:   command("domfsthaw", "--domain", l.Domain),
		Limit:  l.Limit,
		Guard:  l.Guard,
	}.Writer()
}
