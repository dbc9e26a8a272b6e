package writer_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/writer"
)

// A program is its own guard: its main function begins like this.
func ExampleGuardMain() {
	if len(os.Args) == 2 && os.Args[1] == "writer-guard" {
		if err := writer.GuardMain(); err != nil {
			log.Fatal(err)
		}
		return
	}
	fmt.Println("a backup program")
	// Output: a backup program
}

// guard is this program, if its main function begins as in the example of GuardMain.
func guard() writer.Guard {
	exe, err := os.Executable()
	if err != nil {
		log.Fatal(err)
	}
	return writer.Guard{Command: []string{exe, "writer-guard"}}
}

// Two programs freeze and thaw an application while the copies are taken.
func ExampleCommand() {
	app, err := writer.Command{
		Name:   "application",
		Freeze: []string{"sh", "-c", "echo the application holds still"},
		Thaw:   []string{"sh", "-c", "echo the application goes on"},
		Limit:  20 * time.Second,
		Guard:  guard(),
	}.Writer()
	if err != nil {
		log.Fatal(err)
	}
	server, err := fsrvptest.NewServer(nil) // a real one: Config.Client in place of Dial
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	cfg := &provider.Config{
		Dial: func(ctx context.Context, host string) (provider.Agent, error) {
			return server.Dial(ctx, fsrvptest.Operator)
		},
		Writers: []provider.Writer{app},
	}
	err = provider.Run(context.Background(), cfg, []string{`\\fs1\share`},
		func(_ context.Context, set *provider.Set) error {
			fmt.Println("copies:", len(set.Copies))
			return nil
		})
	if err != nil {
		log.Fatal(err)
	}
	// Output: copies: 1
}

// A virtual machine with a database in it, whose disk image is on the share: the database is first.
func ExampleQEMUGuestAgent() {
	db, err := sql.Open("postgres", "host=vm1 user=backup dbname=postgres") // with the driver that the program imports
	if err != nil {
		log.Print(err)
		return
	}
	database, err := writer.Postgres{DB: db}.Writer()
	if err != nil {
		log.Print(err)
		return
	}
	guest, err := writer.QEMUGuestAgent{Socket: "/run/vm1/qga.sock", Guard: guard()}.Writer()
	if err != nil {
		log.Print(err)
		return
	}
	guest.Group = 1
	cfg := &provider.Config{Client: &fsrvp.Config{}, Writers: []provider.Writer{database, guest}}
	err = provider.Run(context.Background(), cfg, []string{`\\fs1\vms`},
		func(context.Context, *provider.Set) error { return nil })
	log.Print(err)
}

// The label is kept beside the backup, for copies that are not of one moment.
func ExamplePostgres() {
	db, err := sql.Open("postgres", "host=/run/postgresql user=backup dbname=postgres")
	if err != nil {
		log.Print(err)
		return
	}
	w, err := writer.Postgres{
		DB: db,
		Label: func(_ context.Context, _ *provider.Set, l writer.PostgresLabel) error {
			return os.WriteFile("/backup/backup_label", []byte(l.BackupLabel), 0o600)
		},
	}.Writer()
	log.Print(w.Name, err)
}

// The position in the binary log is where a replica of the copy starts.
func ExampleMySQL() {
	db, err := sql.Open("mysql", "backup@unix(/run/mysqld/mysqld.sock)/")
	if err != nil {
		log.Print(err)
		return
	}
	w, err := writer.MySQL{
		DB:    db,
		Limit: 10 * time.Second,
		Position: func(_ context.Context, p writer.BinlogPosition) error {
			log.Print(p.File, p.Position, p.GTID)
			return nil
		},
	}.Writer()
	log.Print(w.Name, err)
}

// A file system in an image on the share, mounted here.
func ExampleFSFreeze() {
	w, err := writer.FSFreeze{Mounts: []string{"/srv/data"}, Guard: guard()}.Writer()
	log.Print(w.Name, err)
}

// A virtual machine that libvirt manages.
func ExampleLibvirt() {
	w, err := writer.Libvirt{Domain: "vm1", Connect: "qemu:///system", Guard: guard()}.Writer()
	log.Print(w.Name, err)
}
