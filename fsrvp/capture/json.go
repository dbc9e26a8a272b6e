package capture

import (
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// callJSON is the JSON form of a Call. Its names are stable.
type callJSON struct {
	Time           time.Time  `json:"time"`
	ResponseTime   *time.Time `json:"response_time"`
	Packet         uint64     `json:"packet"`
	ResponsePacket uint64     `json:"response_packet,omitempty"`
	Client         string     `json:"client"`
	Server         string     `json:"server"`
	Transport      string     `json:"transport"`
	Pipe           string     `json:"pipe,omitempty"`
	Association    uint64     `json:"association"`
	CallID         uint32     `json:"call_id"`
	User           string     `json:"user"`
	SessionUser    string     `json:"session_user,omitempty"`
	Mechanism      string     `json:"mechanism,omitempty"`
	AuthType       uint8      `json:"auth_type"`
	AuthLevel      uint8      `json:"auth_level"`
	SMBEncrypted   bool       `json:"smb_encrypted"`
	Syntax         string     `json:"syntax"`
	ResponseSyntax string     `json:"response_syntax"`
	SyntaxAssumed  bool       `json:"syntax_assumed,omitempty"`
	Tampered       bool       `json:"tampered,omitempty"`

	Opnum         uint16         `json:"opnum"`
	Method        string         `json:"method"`
	Request       fsrvp.Message  `json:"request"`
	RequestError  string         `json:"request_error,omitempty"`
	RequestStub   *string        `json:"request_stub,omitempty"`
	Response      fsrvp.Response `json:"response"`
	ResponseError string         `json:"response_error,omitempty"`
	ResponseStub  *string        `json:"response_stub,omitempty"`
	Status        *uint32        `json:"status"`
	StatusName    string         `json:"status_name,omitempty"`
	Fault         *faultJSON     `json:"fault,omitempty"`
}

type faultJSON struct {
	Status        uint32 `json:"status"`
	Name          string `json:"name"`
	DidNotExecute bool   `json:"did_not_execute"`
}

// MarshalJSON returns the call as an object with stable names and types: time, response_time (null
// without an answer), packet, response_packet, client, server, transport ("ncacn_np" or
// "ncacn_ip_tcp"), pipe, association, call_id, user, session_user (if it differs), mechanism,
// auth_type and auth_level (the numbers of MS-RPCE 2.2.1.1.7 and 2.2.1.1.8; 0 and 1 without
// security), smb_encrypted, syntax, response_syntax, syntax_assumed, tampered (true or absent),
// opnum, method, request and response (the parameters under their names in the IDL; null if they
// could not be read, with the reason in request_error and response_error), request_stub and
// response_stub (in hexadecimal, if there is a stub but no message), status (a number; null without
// a response), status_name, fault.
func (c *Call) MarshalJSON() ([]byte, error) {
	j := callJSON{
		Time:           c.Time,
		Packet:         c.Packet,
		ResponsePacket: c.ResponsePacket,
		Client:         c.Client.String(),
		Server:         c.Server.String(),
		Transport:      c.Transport(),
		Pipe:           c.Pipe,
		Association:    c.Association,
		CallID:         c.CallID,
		User:           c.User(),
		Mechanism:      c.Peer.Mechanism,
		AuthType:       uint8(c.Peer.AuthType),
		AuthLevel:      uint8(c.Peer.Level),
		SMBEncrypted:   c.Peer.SessionEncrypted,
		Syntax:         c.Syntax.String(),
		ResponseSyntax: c.ResponseSyntax.String(),
		SyntaxAssumed:  c.Assumed,
		Tampered:       c.Tampered,
		Opnum:          uint16(c.Opnum),
		Method:         c.Opnum.String(),
		Request:        c.Request,
		Response:       c.Response,
	}
	if c.Answered() {
		j.ResponseTime = &c.ResponseTime
	}
	if session := userName(&c.Peer.SessionIdentity); session != j.User {
		j.SessionUser = session
	}
	if c.RequestErr != nil {
		j.RequestError = c.RequestErr.Error()
		j.RequestStub = hexStub(c.RequestStub)
	}
	if c.ResponseErr != nil {
		j.ResponseError = c.ResponseErr.Error()
		j.ResponseStub = hexStub(c.ResponseStub)
	}
	if status, ok := c.Status(); ok {
		j.Status = (*uint32)(&status)
		j.StatusName = status.Name()
	}
	if f := c.Fault; f != nil {
		j.Fault = &faultJSON{uint32(f.Status), f.Status.String(), f.DidNotExecute}
	}
	return json.Marshal(&j)
}

func hexStub(stub []byte) *string {
	if stub == nil {
		return nil
	}
	s := hex.EncodeToString(stub)
	return &s
}
