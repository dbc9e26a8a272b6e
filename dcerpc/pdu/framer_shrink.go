package pdu

// shrunkSize holds the usual request, and so is what a connection that may be idle keeps.
const shrunkSize = 1 << 10

// Shrink gives back the buffer where it is larger than 1 KiB and nothing is buffered; it grows
// again with what comes. A server does it for connections whose peer it does not know yet. Where it
// did, the bytes that Next returned last stay valid and are from then on the caller's; otherwise
// they are as before.
func (f *Framer) Shrink() {
	if len(f.buf) > shrunkSize && f.start == f.end {
		f.buf, f.start, f.end = make([]byte, shrunkSize), 0, 0
	}
}
