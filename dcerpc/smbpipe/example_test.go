package smbpipe_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A client of a Windows or Samba file server asks over the pipe of the standard whether it can copy
// a share. One Kerberos login serves the SMB session and, within it, the calls, which are sealed.
func Example() {
	ctx := context.Background()
	keytab, err := krb5.LoadKeytab("/etc/backup.keytab")
	if err != nil {
		log.Fatal(err)
	}
	auth, err := krb5.NewInitiatorWithKeytab("backup@EXAMPLE.COM", keytab, nil)
	if err != nil {
		log.Fatal(err)
	}
	dialer := &smbpipe.Dialer{Auth: auth}
	defer dialer.Close()
	client, err := fsrvp.Dial(ctx, "fs1.example.com", &fsrvp.Config{Transport: dialer, Auth: auth})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	support, err := client.IsPathSupported(ctx, `\\fs1.example.com\vms`)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(support.Supported, support.Owner)
}

// The files of a share, such as one that exposes a copy, are an fs.FS.
func ExampleDialer_OpenShare() {
	ctx := context.Background()
	auth, err := krb5.NewInitiatorFromCCache("/tmp/krb5cc_0", nil)
	if err != nil {
		log.Fatal(err)
	}
	dialer := &smbpipe.Dialer{Auth: auth, Encrypt: true}
	defer dialer.Close()
	share, closer, err := dialer.OpenShare(ctx, `\\fs1.example.com\vms@{f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff}`)
	if err != nil {
		log.Fatal(err)
	}
	defer closer.Close()
	err = fs.WalkDir(share, ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			fmt.Println(path)
		}
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}
