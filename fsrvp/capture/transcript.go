package capture

import "github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"

// Exchange returns the call in the form of a transcript, for a [transcript.Writer] or package
// replay. It returns nil if the request could not be read (RequestErr), since a transcript cannot
// express such a call. It shares the messages with the Call.
func (c *Call) Exchange() *transcript.Exchange {
	if c.RequestErr != nil || c.Request == nil {
		return nil
	}
	e := &transcript.Exchange{
		Time:         c.Time,
		ResponseTime: c.ResponseTime,
		Connection: transcript.Connection{
			Client: c.Client.String(), Server: c.Server.String(),
			User: c.User(), Mechanism: c.Peer.Mechanism, Level: c.Peer.Level,
		},
		Request:  c.Request,
		Response: c.Response,
		Fault:    c.Fault,
	}
	if c.ResponseErr != nil {
		e.Error = c.ResponseErr.Error()
	}
	return e
}
