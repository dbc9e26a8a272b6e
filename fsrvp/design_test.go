package fsrvp_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocuments looks up what the documents name in `code`: packages, files, exported identifiers,
// tests. Links between documents lead to files.
func TestDocuments(t *testing.T) {
	root := ".."
	names := declared(t, root)
	for _, doc := range []string{"README.md", "fsrvp/DESIGN.md", ".github/CONTRIBUTING.md", ".github/SECURITY.md",
		".github/CHANGELOG.md"} {
		b, err := os.ReadFile(filepath.Join(root, doc))
		require.NoError(t, err)
		text := regexp.MustCompile("(?s)```.*?```").ReplaceAllString(string(b), "")
		for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(text, -1) {
			name := m[1]
			switch {
			case strings.ContainsAny(name, " =$\\-("), strings.HasPrefix(name, "."), strings.HasSuffix(name, "..."), !strings.ContainsAny(name, "./") && !strings.HasPrefix(name, "Test"):
				continue // commands, settings, words
			}
			if name == "fs.FS" || name == "net.Conn" { // the standard library's
				continue
			}
			if !exists(root, name) && !names[name] {
				t.Errorf("%s names `%s`, which does not exist", doc, name)
			}
		}
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(text, -1) {
			require.FileExists(t, filepath.Join(root, filepath.Dir(doc), m[1]), doc)
		}
	}
	b, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	require.LessOrEqual(t, strings.Count(string(b), "\n"), 120, "README.md is the first screen, not the manual")
}

// exists reports whether name is a folder or a file of the module, from its root or below fsrvp or dcerpc.
func exists(root, name string) bool {
	for _, below := range []string{"", "fsrvp", "dcerpc"} {
		if _, err := os.Stat(filepath.Join(root, below, filepath.FromSlash(name))); err == nil {
			return true
		}
	}
	return false
}

// declared returns what the module declares: "package.Name" of exported names, and the names of tests.
func declared(t *testing.T, root string) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && p != root) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				if strings.HasPrefix(decl.Name.Name, "Test") {
					names[decl.Name.Name] = true
				}
				if decl.Recv == nil {
					names[path.Base(f.Name.Name)+"."+decl.Name.Name] = true
				}
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						names[f.Name.Name+"."+spec.Name.Name] = true
					case *ast.ValueSpec:
						for _, n := range spec.Names {
							names[f.Name.Name+"."+n.Name] = true
						}
					}
				}
			}
		}
		return nil
	})
	require.NoError(t, err)
	return names
}
