package krb5

// SendSequence and SetRecvSequence let a test send or take one message more than once.
func (c *Context) SendSequence() uint64     { return c.sendSeq }
func (c *Context) SetRecvSequence(n uint64) { c.recvSeq = n }
