package smb2_test

import (
	"context"
	"fmt"
	"log"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
)

// A session, a share, a file: with backup intent, by which Backup Operators read what an ACL
// forbids them. Package sharefs makes an fs.FS of it.
func Example() {
	auth, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "EXAMPLE", User: "backup", Password: "secret"})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	session, err := smb2.Dial(ctx, "fs1.example.com", &smb2.Config{Auth: auth})
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close()
	share, err := session.TreeConnect(ctx, "vms")
	if err != nil {
		log.Fatal(err)
	}
	defer share.Close()
	file, err := share.Open(ctx, `disks\a.vhdx`, nil)
	if err != nil {
		log.Fatal(err) // says what to do: "log in again", "the share is gone"
	}
	defer file.Close(ctx)
	head := make([]byte, 4096)
	if _, err := file.ReadAt(ctx, head, 0); err != nil {
		log.Fatal(err)
	}
	fmt.Println(session.Dialect(), session.Signing(), file.Info().EndOfFile)
}

// The codec by itself: a capture's bytes to a message.
func ExampleParseHeader() {
	req := smb2.CloseRequest{ID: smb2.FileID{1, 2, 3}}
	h := smb2.Header{Command: smb2.CommandClose, MessageID: 7}
	msg, err := h.AppendBinary(nil)
	if err != nil {
		log.Fatal(err)
	}
	if msg, err = req.AppendBinary(msg); err != nil {
		log.Fatal(err)
	}
	got, err := smb2.ParseHeader(msg)
	if err != nil {
		log.Fatal(err)
	}
	closing, err := smb2.ParseCloseRequest(msg)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(got.Command, got.MessageID, closing.ID[:3])
	// Output: CLOSE 7 [1 2 3]
}
