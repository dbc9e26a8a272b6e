package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture"
)

// printLine prints a call as one line:
//
//	time client > server user protection Method {request} = STATUS {response} (duration)
func printLine(w io.Writer, c *capture.Call) error {
	user := c.User()
	if user == "" {
		user = "-"
	}
	_, err := fmt.Fprintf(w, "%s %v > %v %s %s %v %s = %s\n", c.Time.UTC().Format("2006-01-02 15:04:05.000000"),
		c.Client, c.Server, user, protection(c), c.Opnum, request(c), answer(c))
	return err
}

// protection describes the protection of a call by RPC, and by SMB under it.
func protection(c *capture.Call) string {
	s := "unprotected"
	switch c.Peer.Level {
	case dcerpc.LevelInsecureConnect:
		s = "connect"
	case dcerpc.LevelPacket, dcerpc.LevelIntegrity:
		s = "signed"
	case dcerpc.LevelPrivacy:
		s = "sealed"
	}
	if c.Peer.SessionEncrypted {
		s += "+smb3"
	}
	return s
}

func request(c *capture.Call) string {
	if c.RequestErr != nil {
		return "?(" + reason(c.RequestErr) + ")"
	}
	return parameters(c.Request)
}

func answer(c *capture.Call) string {
	var s string
	switch {
	case c.Fault != nil:
		s = "FAULT " + c.Fault.Status.String()
	case c.ResponseErr != nil:
		s = "?(" + reason(c.ResponseErr) + ")"
	default:
		s = status(c.Response.Status()) + " " + parameters(c.Response)
	}
	if c.Tampered {
		s += " TAMPERED"
	}
	if c.Answered() {
		s += fmt.Sprintf(" (%v)", c.ResponseTime.Sub(c.Time).Round(time.Microsecond))
	}
	return s
}

func status(s fsrvp.Status) string {
	if name := s.Name(); name != "" {
		return name
	}
	return fmt.Sprintf("0x%08X", uint32(s))
}

// parameters returns the JSON form of a message.
func parameters(m fsrvp.Message) string {
	b, err := json.Marshal(m)
	if err != nil {
		return "?(" + err.Error() + ")"
	}
	return string(b)
}

func reason(err error) string { return strings.TrimPrefix(err.Error(), "capture: ") }
