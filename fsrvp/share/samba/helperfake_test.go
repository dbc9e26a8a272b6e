//go:build unix

package samba

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// fakeRelease is what the fakes say they are.
const fakeRelease = "4.17.12-Fake"

// fakeHelper is the helper on the fakes' state: the test binary is linked as python3 into their
// directory. Faults of commands "helper OP" have modes of their own, before and after it has done
// what it was asked for:
//
//	die     it ends
//	hang    it does not answer
//	garble  it answers what is no JSON
//	other   it answers as if to another call
//	long    it answers a line that does not end
//	refuse  it answers an error
//	late    it answers rightly, after the deadline
//	half    it answers half a line, and no more
//	half-die  it answers half a line, and ends
//	twice   it answers rightly, and once too often
//	no-id, kinds, empty, nothing, list  it answers without an id, with values of other kinds, {}, an
//	        empty line, no object
//	more    it answers rightly, with more than it was asked for
func fakeHelper() int {
	home := filepath.Dir(os.Args[0])
	in := bufio.NewReader(os.Stdin)
	script, err := in.ReadString('\n')
	if err != nil || !strings.HasPrefix(script, `"# The helper of`) {
		fmt.Fprintln(os.Stderr, "no script")
		return 1
	}
	fmt.Printf(`{"id": 0, "version": %q, "conf": %q, "statedir": %q}`+"\n", fakeRelease,
		filepath.Join(home, "smb.conf"), home)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return 0
		}
		var r helperRequest
		if err := json.Unmarshal(line, &r); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if err := note(home, "helper "+r.Op); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fault, err := hit(home, "helper "+r.Op)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		when, how, _ := strings.Cut(fault, " ")
		answer := map[string]any{"id": r.ID}
		if when != "before" {
			if err := fakeOperation(home, r, answer); err != nil {
				answer["error"] = err.Error()
			}
		}
		b, err := json.Marshal(answer)
		if err != nil {
			return 1
		}
		out := string(b) + "\n"
		switch how {
		case "die":
			return 1
		case "hang":
			time.Sleep(time.Hour) // until it is killed
		case "garble":
			out = "{\"id\": \n"
		case "other":
			out = fmt.Sprintf(`{"id": %d}`+"\n", r.ID+1)
		case "long":
			out = strings.Repeat("x", maxAnswer+1)
		case "refuse":
			out = fmt.Sprintf(`{"id": %d, "error": "no luck"}`+"\n", r.ID)
		}
		switch how {
		case "late":
			time.Sleep(time.Second)
		case "half", "half-die":
			os.Stdout.WriteString(out[:len(out)/2])
			if how == "half-die" {
				return 1
			}
			time.Sleep(time.Hour)
		case "twice":
			out += out
		case "no-id":
			out = `{"shares": [], "smbd": 3}` + "\n"
		case "kinds":
			out = fmt.Sprintf(`{"id": "%d", "shares": {}, "smbd": "many"}`+"\n", r.ID)
		case "empty":
			out = "{}\n"
		case "nothing":
			out = "\n"
		case "list":
			out = "[]\n"
		case "more":
			out = out[:len(out)-2] + `, "warnings": ["none"], "pid": null}` + "\n"
		}
		if _, err := os.Stdout.WriteString(out); err != nil {
			return 1
		}
	}
}

func fakeOperation(home string, r helperRequest, answer map[string]any) error {
	var s fakeState
	if err := load(home, "state", &s); err != nil {
		return err
	}
	switch r.Op {
	case "get":
		list := []*helperShare{}
		for _, name := range r.Names {
			have, ok := s.find(name)
			if !ok {
				list = append(list, nil)
				continue
			}
			share := &helperShare{Name: have}
			for line := range strings.Lines(s.Registry[have]) {
				key, value, _ := strings.Cut(strings.TrimSpace(line), " =")
				share.Params = append(share.Params, [2]string{key, strings.TrimPrefix(value, " ")})
			}
			list = append(list, share)
		}
		answer["shares"] = list
		return nil
	case "define":
		for _, d := range r.Shares {
			if have, ok := s.find(d.Name); ok {
				answer["there"] = have
				return nil
			}
		}
		for _, d := range r.Shares {
			s.Registry[d.Name] = ""
			for _, p := range d.Params {
				s.Registry[d.Name] += fmt.Sprintf("\t%s = %s\n", p[0], p[1])
			}
		}
	case "set":
		for _, d := range r.Shares {
			if _, ok := s.Registry[d.Name]; !ok {
				return errors.New("no such share")
			}
			for _, p := range d.Params {
				if err := fakeNet(&s, []string{"conf", "setparm", d.Name, p[0], p[1]}); err != nil {
					return err
				}
			}
		}
	case "end":
		for _, name := range r.Delete {
			delete(s.Registry, name)
		}
		answer["smbd"] = 3
	default:
		return errors.New("what?")
	}
	return store(home, "state", s)
}
