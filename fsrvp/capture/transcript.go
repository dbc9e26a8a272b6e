package capture

import "github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"

// Exchange returns the call as what a transcript consists of, to be written by a
// [transcript.Writer] or played again by package replay. It returns nil for a call whose request
// could not be read (RequestErr): such a call has no place in a transcript. The messages are those
// of the Call.
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
