package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
)

const captures = "../../testdata/captures/"

func decodeFile(t *testing.T, args ...string) (stdout, stderr string) {
	var out, errs bytes.Buffer
	require.NoError(t, run(t.Context(), args, strings.NewReader(""), &out, &errs))
	return out.String(), errs.String()
}

func TestLines(t *testing.T) {
	out, summary := decodeFile(t, "-keytab", captures+"all.keytab", captures+"03_rpcclient_np_krb5_seal.pcapng")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 15)
	require.Equal(t, `2026-11-22 20:21:26.411478 10.99.0.3:39448 > 10.99.0.2:445 backup@FSRVP.TEST sealed GetSupportedVersion {} = `+
		`ZERO {"MinVersion":1,"MaxVersion":1,"Return":0} (3.095ms)`, lines[0])
	require.Contains(t, lines[12],
		`IsPathShadowCopied {"ShareName":"\\\\FS.FSRVP.TEST\\fsrvp_share\\"} = FSRVP_E_NOT_SUPPORTED `)
	require.Equal(t, captures+`03_rpcclient_np_krb5_seal.pcapng: 149 packets, 1 connection with SMB or RPC, 7 RPC associations with FSRVP.
15 calls: 1 failed, 0 ended in a fault, 0 unanswered; 0 could not be decoded in full.
  75 SMB signatures checked; 0 calls tampered with.
  Packets without TCP: UDP port 88 (4).
`, summary)
}

func TestUnreadable(t *testing.T) {
	out, summary := decodeFile(t, captures+"03_rpcclient_np_krb5_seal.pcapng",
		captures+"13_rpcclient_np_smb311_aes128gcm.pcapng")
	require.Contains(t, out,
		"- sealed GetSupportedVersion ?(stub is sealed and there is no key: no keytab was given) = ?(")
	require.Contains(t, summary, "15 could not be decoded in full.")
	require.Contains(t, summary,
		"SMB 3 encryption without the session's key: no keytab was given (22, first in packet 12, "+
			"10.99.0.3:56644 to 10.99.0.2:445). The file server's keytab (-keytab) opens")
}

// TestKeys reads one capture with every kind of key.
func TestKeys(t *testing.T) {
	const sealed = "../../fsrvp/capture/testdata/sealed/"
	dir := t.TempDir()
	write := func(name, content string) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
		return name
	}
	hash := fmt.Sprintf("%X", ntlm.NTHash("Backup.Passw0rd1"))
	password := write("password", "another one\r\nBackup.Passw0rd1\n")
	hashes := write("hashes", hash+"\n")
	users := write("users", "FSRVP\\backup\t"+hash+"\n")
	for name, args := range map[string][]string{
		"smb311-aes256gcm-krb5": {"-ccache", sealed + "ccache"},
		"smb311-aes256gcm-ntlm": {"-password-file", password},
		"smb311-gmac-ntlm":      {"-nt-hash-file", hashes},
		"smb210-hmac-ntlm":      {"-ntlm-users", users},
	} {
		out, summary := decodeFile(t, append(args, sealed+name+".pcap")...)
		require.Contains(t, out, " GetSupportedVersion {} = ZERO ", name)
		require.Contains(t, summary, "2 calls: 0 failed, ", name)
		require.NotContains(t, out, "TAMPERED")
	}
	var out, errs bytes.Buffer
	err := run(t.Context(), []string{"-nt-hash-file", password, "x"}, nil, &out, &errs)
	require.ErrorContains(t, err, password+":1: it is not 32 hexadecimal digits")
	require.NotContains(t, err.Error(), "another")
}

func TestJSON(t *testing.T) {
	files, err := filepath.Glob(captures + "0*.pcapng")
	require.NoError(t, err)
	out, _ := decodeFile(t, append([]string{"-json", "-keytab", captures + "all.keytab"}, files...)...)
	n := 0
	for line := range strings.Lines(out) {
		var call struct {
			Method, Client, Server, User, Syntax *string
			Opnum, Status                        *uint32
			AuthLevel                            *uint8 `json:"auth_level"`
			Request, Response                    map[string]any
		}
		require.NoError(t, json.Unmarshal([]byte(line), &call))
		for i, missing := range []bool{call.Method == nil, call.Client == nil, call.Server == nil, call.User == nil,
			call.Syntax == nil,
			call.Opnum == nil, call.Status == nil, call.AuthLevel == nil, call.Request == nil, call.Response == nil} {
			require.False(t, missing, "field %d of %s", i, line)
		}
		require.Equal(t, float64(*call.Status), call.Response["Return"])
		n++
	}
	require.Equal(t, 214, n)
}

func TestStandardInput(t *testing.T) {
	f, err := os.Open(captures + "12_smbtorture_tcp_5555_anon_dummy.pcapng")
	require.NoError(t, err)
	defer f.Close()
	var out, errs bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-"}, f, &out, &errs))
	require.Contains(t, out.String(), " - unprotected GetSupportedVersion {} = ZERO ")
}

// TestErrors checks that an error is a sentence that says which file and what to try.
func TestErrors(t *testing.T) {
	whole, err := os.ReadFile(captures + "01_rpcclient_np_norpcauth.pcapng")
	require.NoError(t, err)
	cut := filepath.Join(t.TempDir(), "cut.pcapng")
	require.NoError(t, os.WriteFile(cut, whole[:20000], 0o600))
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "no capture was named; name a pcap or pcapng file, or - for standard input"},
		{[]string{"-frob"}, "flag provided but not defined: -frob; fsrvp-decode -h lists the flags"},
		{[]string{"nowhere.pcap"}, "there is no file nowhere.pcap; check the name"},
		{[]string{"../../LICENSE"}, "../../LICENSE is not a packet capture: "},
		{[]string{"../../LICENSE"}, "record with tcpdump -w or Wireshark, or convert it with editcap"},
		{[]string{"-keytab", "../../LICENSE", "x"}, "the keytab ../../LICENSE cannot be used: "},
		{[]string{"-keytab", "nowhere.keytab", "x"}, "nowhere.keytab"},
		{[]string{cut}, cut + " ends in the middle of a packet: "},
	} {
		var out, errs bytes.Buffer
		err := run(t.Context(), tt.args, strings.NewReader(""), &out, &errs)
		require.ErrorContains(t, err, tt.want)
	}
	var out, errs bytes.Buffer
	require.ErrorIs(t, run(t.Context(), []string{"-help"}, nil, &out, &errs), flag.ErrHelp)
	require.Contains(t, out.String(), "usage: fsrvp-decode")
}

// TestInterrupted ends in the middle of a packet, of a pipe and of a file, which is no error.
func TestInterrupted(t *testing.T) {
	file, err := os.ReadFile("../../testdata/captures/01_rpcclient_np_norpcauth.pcapng")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	in := io.MultiReader(bytes.NewReader(file[:20001]), readerFunc(func([]byte) (int, error) {
		cancel()
		<-ctx.Done()
		return 0, io.EOF
	}))
	var out, errs bytes.Buffer
	require.NoError(t, run(ctx, []string{"-"}, in, &out, &errs))
	require.NotEmpty(t, out.String())
	require.Contains(t, errs.String(), " calls: ")

	out.Reset()
	require.NoError(t, run(ctx, []string{captures + "01_rpcclient_np_norpcauth.pcapng"}, nil, &out, &errs))
	require.Empty(t, out.String())
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// TestLive reads a capture that is still being written: each call is printed when it has ended, and
// Ctrl-C ends it with whole lines and the summary.
func TestLive(t *testing.T) {
	file, err := os.ReadFile("../../testdata/captures/01_rpcclient_np_norpcauth.pcapng")
	require.NoError(t, err)
	in, feed, err := os.Pipe()
	require.NoError(t, err)
	defer in.Close()
	defer feed.Close()
	lines, out := io.Pipe()
	var errs bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"-"}, in, out, &errs)
		out.Close()
		ended <- err
	}()
	go func() { _, _ = feed.Write(file) }() // and no end
	scan := bufio.NewScanner(lines)
	for range 15 {
		require.True(t, scan.Scan(), "each call while the capture goes on")
		require.Contains(t, scan.Text(), " = ")
	}
	cancel()
	require.False(t, scan.Scan())
	require.NoError(t, <-ended)
	require.Contains(t, errs.String(), "15 calls: ")
}
