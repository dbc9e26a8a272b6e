package sharefs_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/sharefs"
)

// A run of the provider, and the files of each copy over the same sessions: contents, descriptors,
// alternate streams.
func Example() {
	keys, err := krb5.LoadKeytab("backup.keytab")
	if err != nil {
		log.Fatal(err)
	}
	auth, err := krb5.NewInitiatorWithKeytab("backup@EXAMPLE.COM", keys, nil)
	if err != nil {
		log.Fatal(err)
	}
	pipe := &smbpipe.Dialer{Auth: auth}
	defer pipe.Close()
	cfg := &provider.Config{Client: &fsrvp.Config{Transport: pipe, Auth: auth}}
	err = provider.Run(context.Background(), cfg, []string{`\\fs1.example.com\vms`},
		func(ctx context.Context, set *provider.Set) error {
			for _, c := range set.Copies {
				share, err := sharefs.Open(ctx, pipe, c.Path, nil)
				if err != nil {
					return err
				}
				defer share.Close()
				if err := list(share.WithContext(ctx)); err != nil {
					return err
				}
			}
			return nil
		})
	if err != nil {
		log.Fatal(err)
	}
}

func list(share *sharefs.FS) error {
	return fs.WalkDir(share, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := share.OpenFile(path, nil)
		if err != nil {
			return err
		}
		defer f.Close()
		streams, err := f.Streams()
		if err != nil {
			return err
		}
		fmt.Println(path, len(streams), "alternate streams")
		_, err = f.WriteTo(os.Stdout)
		return err
	})
}
