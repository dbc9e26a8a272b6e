package tree

import "sync"

// A dataCopier copies and counts the contents of regular files.
type dataCopier struct {
	clone    bool
	progress func(files, bytes int64)

	mu           sync.Mutex
	files, bytes int64
}

// chunk is the number of bytes copied between two checks of the context.
const chunk = 4 << 20

// file counts a finished file.
func (d *dataCopier) file() { d.count(1, 0) }

func (d *dataCopier) count(files, bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files += files
	d.bytes += bytes
	d.progress(d.files, d.bytes)
}
