package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// read reads the recording, and checks that it has one server.
func (o *options) read(stdin io.Reader, stderr io.Writer) ([]*transcript.Exchange, error) {
	in := stdin
	if o.in != "-" {
		f, err := os.Open(o.in)
		if err != nil {
			return nil, fmt.Errorf("-in: %w", err)
		}
		defer f.Close()
		in = f
	}
	b := bufio.NewReader(in)
	first, err := b.Peek(1)
	if err != nil {
		return nil, fmt.Errorf("-in: %s is empty, or cannot be read: %w", o.in, err)
	}
	var recording []*transcript.Exchange
	if first[0] == '{' {
		recording, err = transcript.ReadAll(b)
	} else {
		recording, err = o.readCapture(b, stderr)
	}
	if err != nil {
		return nil, err
	}
	return o.oneServer(recording)
}

// readCapture takes the calls of a packet capture whose requests can be read.
func (o *options) readCapture(in io.Reader, stderr io.Writer) ([]*transcript.Exchange, error) {
	sum := new(capture.Summary)
	cfg := &capture.Config{Summary: sum}
	if o.inKeytab != "" {
		var err error
		if cfg.Keytab, err = krb5.LoadKeytab(o.inKeytab); err != nil {
			return nil, fmt.Errorf("-in-keytab: %w", err)
		}
	}
	var recording []*transcript.Exchange
	var unreadable error
	lost := 0
	for call, err := range capture.Calls(in, cfg) {
		switch {
		case errors.Is(err, capture.ErrNotCapture):
			return nil, fmt.Errorf("-in: %s is neither a transcript nor a packet capture: record one with tcpdump -w, or with transcript.Recorder", o.in)
		case err != nil && len(recording) == 0:
			return nil, err
		case err != nil:
			fmt.Fprintf(stderr, "the capture is damaged, and replayed as far as it was read: %v\n", err)
		case call.RequestErr != nil:
			lost++
			if unreadable == nil {
				unreadable = call.RequestErr
			}
		default:
			recording = append(recording, call.Exchange())
		}
	}
	if lost > 0 {
		fmt.Fprintf(stderr, "%d calls cannot be read and are left out: %v\n", lost, unreadable)
		if o.inKeytab == "" {
			fmt.Fprintln(stderr, "  -in-keytab with the keys of the recorded server reads what Kerberos has encrypted")
		}
	}
	if len(recording) == 0 {
		for _, p := range sum.Problems {
			fmt.Fprintln(stderr, p)
		}
	}
	return recording, nil
}

// oneServer returns the calls of the chosen server, or of the only one.
func (o *options) oneServer(recording []*transcript.Exchange) ([]*transcript.Exchange, error) {
	var servers []string
	for _, e := range recording {
		if s := host(e.Server); !slices.Contains(servers, s) {
			servers = append(servers, s)
		}
	}
	if o.inServer != "" {
		recording = slices.DeleteFunc(recording,
			func(e *transcript.Exchange) bool { return host(e.Server) != host(o.inServer) })
	}
	switch {
	case len(servers) == 0:
		return nil, fmt.Errorf("-in: %s has no calls that can be replayed; examples/fsrvp-decode says what is in a capture", o.in)
	case len(recording) == 0:
		return nil, fmt.Errorf("-in-server: %s has no calls to %s, but to %s", o.in, o.inServer,
			strings.Join(servers, ", "))
	case o.inServer == "" && len(servers) > 1:
		return nil, fmt.Errorf("-in: %s has calls to several servers: choose one with -in-server: %s", o.in,
			strings.Join(servers, ", "))
	}
	return recording, nil
}

// host returns an address without its port.
func host(address string) string {
	if h, _, err := net.SplitHostPort(address); err == nil {
		return h
	}
	return address
}
