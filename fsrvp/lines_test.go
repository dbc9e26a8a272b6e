package fsrvp_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

var updateLongLines = flag.Bool("update-long-lines", false, "write the list of files with lines that are too long")

// The columns that a line may have, where a tab has four.
const (
	commentColumns = 100
	codeColumns    = 120
)

// longLinesFile lists the files that have lines that are too long, each with their number. It may
// only get shorter.
const longLinesFile = "testdata/long-lines.txt"

// TestLineLengths holds that comments wrap at 100 columns and code at 120. Layouts in comments,
// strings, and rows of tables may be longer.
func TestLineLengths(t *testing.T) {
	found := map[string][]string{}
	require.NoError(t, filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && (name == "testdata" || strings.HasPrefix(name, ".") && name != "..") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator)))
		if lines := longLines(t, path, src); len(lines) > 0 {
			found[name] = lines
		}
		return nil
	}))
	if *updateLongLines {
		var b strings.Builder
		for _, name := range slices.Sorted(maps.Keys(found)) {
			fmt.Fprintf(&b, "%d %s\n", len(found[name]), name)
		}
		require.NoError(t, os.WriteFile(longLinesFile, []byte(b.String()), 0o644))
		return
	}
	list, err := os.ReadFile(longLinesFile)
	require.NoError(t, err)
	listed := map[string]int{}
	for line := range strings.Lines(string(list)) {
		var name string
		var count int
		_, err := fmt.Sscan(line, &count, &name)
		require.NoError(t, err, line)
		listed[name] = count
	}
	for name, lines := range found {
		if len(lines) > listed[name] {
			t.Errorf("%s has %d lines that are too long, and %s allows %d:\n%s", name, len(lines), longLinesFile,
				listed[name], strings.Join(lines, "\n"))
		}
	}
}

var quoted = regexp.MustCompile("\"(\\\\.|[^\"\\\\])*\"|`[^`]*`")

// longLines returns the lines of a file that are too long, each with its number in front.
func longLines(t *testing.T, path string, src []byte) (list []string) {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, src, parser.SkipObjectResolution)
	require.NoError(t, err)
	text := map[int]bool{} // lines of a string with several
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.BasicLit); ok && s.Kind == token.STRING {
			for l := files.Position(s.Pos()).Line; l < files.Position(s.End()).Line; l++ {
				text[l], text[l+1] = true, true
			}
		}
		return true
	})
	number := 0
	for line := range strings.Lines(string(src)) {
		number++
		line = strings.ReplaceAll(strings.TrimRight(line, "\r\n"), "\t", "    ")
		limit, code := codeColumns, strings.TrimSpace(line)
		row := strings.HasPrefix(code, "{") || strings.HasPrefix(code, `"`) || strings.HasSuffix(code, "},")
		if strings.HasPrefix(code, "//") {
			limit, row = commentColumns, strings.HasPrefix(code, "//    ") || strings.HasPrefix(code, "//go:")
		} else if utf8.RuneCountInString(quoted.ReplaceAllString(line, "")) <= commentColumns {
			row = true // but for its strings
		}
		if utf8.RuneCountInString(line) > limit && !row && !text[number] {
			list = append(list, fmt.Sprintf("%d: %s", number, code))
		}
	}
	return list
}
