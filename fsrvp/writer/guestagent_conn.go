package writer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"time"
)

const (
	// maxAgentMessage bounds one message of an agent. The longest one used, guest-info, has some 10
	// KiB.
	maxAgentMessage = 256 << 10
	// maxAgentStale bounds the data that an earlier client may have left unread.
	maxAgentStale = 16 << 20
	// agentDelimiter never occurs in JSON: guest-sync-delimited puts it before its answer, and it
	// makes the agent drop an unfinished request.
	agentDelimiter = 0xFF
)

// An AgentError is a guest agent's answer to a command that failed, for example because a hook
// failed.
type AgentError struct {
	Command string
	Class   string
	Desc    string
}

func (e *AgentError) Error() string {
	return fmt.Sprintf("the guest's agent refused %s: %.500q (%.40s)", e.Command, e.Desc, e.Class)
}

// An agentConn is a connection to a guest's agent. An error ends it, unless it is an *AgentError,
// or the connection is out of step: then sync makes it usable again.
//
// Avoid closing a connection while an answer is outstanding: a qemu-ga that listens itself
// (unix-listen) ends when it cannot send the answer, and leaves the guest frozen.
type agentConn struct {
	conn net.Conn
	r    *bufio.Reader
	// outOfStep means that stale answers may come: to an earlier client, or to a command that took
	// too long.
	outOfStep bool
}

// dialAgent connects.
func dialAgent(ctx context.Context, socket string) (*agentConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("connect to the guest's agent: %w", err)
	}
	return &agentConn{conn: conn, r: bufio.NewReader(conn), outOfStep: true}, nil
}

func (c *agentConn) close() { c.conn.Close() }

// sync sends guest-sync-delimited, and reads up to its answer, unless the connection is in step.
func (c *agentConn) sync(ctx context.Context) (err error) {
	if !c.outOfStep {
		return nil
	}
	defer c.bound(ctx, &err)()
	id := rand.Int64N(1 << 53)
	const request = "\xff" + `{"execute":"guest-sync-delimited","arguments":{"id":%d}}` + "\n"
	if _, err := fmt.Fprintf(c.conn, request, id); err != nil {
		return explainContext(ctx, err)
	}
	for left := maxAgentStale; left > 0; {
		stale, err := c.r.ReadSlice(agentDelimiter)
		left -= len(stale)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return explainContext(ctx, err)
		}
		line, err := c.readLine()
		if err != nil {
			return explainContext(ctx, err)
		}
		left -= len(line)
		var answer struct {
			Return int64 `json:"return"`
		}
		if json.Unmarshal(line, &answer) == nil && answer.Return == id {
			c.outOfStep = false
			return nil
		}
	}
	c.outOfStep = false // it cannot be synchronized
	return errors.New("it keeps sending other data")
}

// execute runs one command, and stores what it returns in result.
func (c *agentConn) execute(ctx context.Context, command string, args, result any) (err error) {
	defer c.bound(ctx, &err)()
	if n := c.r.Buffered(); n > 0 {
		return fmt.Errorf("the guest's agent has sent %d unexpected bytes", n)
	}
	request, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, args})
	if err != nil {
		return err
	}
	if _, err := c.conn.Write(append(request, '\n')); err != nil {
		return fmt.Errorf("the guest's agent did not answer %s: %w", command, explainContext(ctx, err))
	}
	line, err := c.readLine()
	if err != nil {
		return fmt.Errorf("the guest's agent did not answer %s: %w", command, explainContext(ctx, err))
	}
	var answer struct {
		Return json.RawMessage `json:"return"`
		Error  *struct {
			Class string `json:"class"`
			Desc  string `json:"desc"`
		} `json:"error"`
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return fmt.Errorf("%s: the guest's agent sent no JSON object: %w", command, err)
	}
	if answer.Error != nil {
		return &AgentError{Command: command, Class: answer.Error.Class, Desc: answer.Error.Desc}
	}
	if err := json.Unmarshal(answer.Return, result); err != nil {
		return fmt.Errorf("%s: the guest's agent returned an unexpected result: %w", command, err)
	}
	return nil
}

// readLine returns one line, which is valid until the next read.
func (c *agentConn) readLine() ([]byte, error) {
	var line []byte
	for {
		part, err := c.r.ReadSlice('\n')
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
		if len(line) > maxAgentMessage {
			return nil, fmt.Errorf("a message of the guest's agent is longer than %d bytes", maxAgentMessage)
		}
	}
}

// bound makes the end of ctx interrupt reads and writes, until the returned function is called.
// That function marks the connection as out of step if ctx has caused *err.
func (c *agentConn) bound(ctx context.Context, err *error) func() {
	_ = c.conn.SetDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	return func() {
		stop()
		if errors.Is(*err, os.ErrDeadlineExceeded) {
			c.outOfStep = true
		}
	}
}

// explainContext adds the reason why ctx ended, if that interrupted a read or write.
func explainContext(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("no answer in time: %w (%w)", context.Cause(ctx), err)
	}
	return err
}
