package story_test

import (
	"bytes"
	"context"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/story"
)

// evil is a share's name that would be a script, were it not escaped.
const evil = `x"><script>document.title='evil'</script><img src=x onerror=alert(1)>`

// examples are one set that went well, one that timed out, and a refused attempt.
func examples(t *testing.T) []*story.Set {
	return play(t, func(s *stage) {
		s.actor(alice, "alice").to(story.Recovered, "share", "other").release()
		b := s.actor(bob, "bob").to(story.Committed, "share")
		s.status(fsrvp.ErrShadowCopySetInProgress, s.s.SetContext(s.actor(alice, "alice").ctx, fsrvp.ContextBackup))
		time.Sleep(200 * time.Second)
		s.status(fsrvp.ErrInvalidArg, s.s.ExposeShadowCopySet(b.ctx, b.set, wait))
		s.status(fsrvp.ErrInvalidArg, b.add(evil))
	})
}

func writePage(t *testing.T, sets []*story.Set) (name, page string) {
	var b bytes.Buffer
	require.NoError(t, story.WriteHTML(&b, "Sets of a capture", sets))
	name = filepath.Join(t.TempDir(), "page.html")
	require.NoError(t, os.WriteFile(name, b.Bytes(), 0o644))
	return name, b.String()
}

// TestHTML checks what the page says, and that it needs nothing else.
func TestHTML(t *testing.T) {
	sets := examples(t)
	_, page := writePage(t, sets)
	require.Contains(t, page, "3 shadow copy sets and attempts from ")
	require.Contains(t, page, "1 complete, 2 failed, 0 underway at the end")
	require.Equal(t, 3, strings.Count(page, "<details "))
	require.Equal(t, 2, strings.Count(page, " open>\n<summary>"), "those that failed are open")
	calls := 0
	for _, s := range sets {
		calls += len(s.Events)
	}
	require.Equal(t, calls, strings.Count(page, `<tr class="call `))
	require.Contains(t, page, "no call came for 3m0s after CommitShadowCopySet: the Message Sequence Timer ran out")
	for _, s := range []string{"<script", "<img", "http:", "https:", "@import", "url(", "<link", "ZgotmplZ"} {
		require.NotContains(t, page, s)
	}
	require.Contains(t, page, "&lt;script&gt;")

	_, empty := writePage(t, nil)
	require.Contains(t, empty, "0 shadow copy sets and attempts")
}

// chromium returns the browser, or skips the test.
func chromium(t *testing.T) string {
	for _, name := range []string{"chromium-headless-shell", "chromium"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("FSRVP_PEERS") == "require" {
		t.Fatal("FSRVP_PEERS=require, and there is no Chromium")
	}
	t.Skip("Chromium is not installed (Debian: apt install chromium-headless-shell)")
	return ""
}

// browse runs the browser on a file, without a network where it may have one of its own.
func browse(t *testing.T, file string, args ...string) string {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args = append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--host-resolver-rules=MAP * ~NOTFOUND",
		"--user-data-dir=" + t.TempDir(), "--enable-logging=stderr", "--log-level=0"}, args...)
	cmd := exec.CommandContext(ctx, chromium(t), append(args, "file://"+file)...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	require.NoError(t, cmd.Run(), stderr.String())
	require.NotContains(t, stderr.String(), "CONSOLE", "the page has errors")
	return out.String()
}

// TestChromium has a browser read the page: the chart and the tables are there, nothing that came
// of the recording is run, and what is drawn is to be seen.
func TestChromium(t *testing.T) {
	chromium(t)
	file, _ := writePage(t, examples(t))
	dom := browse(t, file, "--dump-dom")
	require.Contains(t, dom, "<title>Sets of a capture</title>", "no script of the recording's has run")
	require.Equal(t, 3, strings.Count(dom, `<g class="row `))
	require.Equal(t, 1, strings.Count(dom, `<circle class="mark event"`)-strings.Count(dom,
		`<circle class="mark event" cx="6"`))
	require.Contains(t, dom, "&lt;script&gt;")
	require.NotContains(t, dom, "<script")

	shot := filepath.Join(t.TempDir(), "page.png")
	browse(t, file, "--screenshot="+shot, "--window-size=1300,2000", "--hide-scrollbars")
	f, err := os.Open(shot)
	require.NoError(t, err)
	defer f.Close()
	img, err := png.Decode(f)
	require.NoError(t, err)
	if keep := os.Getenv("STORY_SCREENSHOT"); keep != "" {
		b, err := os.ReadFile(shot)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(keep, b, 0o644))
	}
	seen := map[color.NRGBA]int{}
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			seen[color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)]++
		}
	}
	for name, c := range map[string]color.NRGBA{
		"the bar of Committed":   {0x7f, 0x8f, 0xf4, 0xff},
		"the bar of Exposed":     {0x4b, 0xb5, 0x8a, 0xff},
		"the mark of the timer":  {0x82, 0x50, 0xdf, 0xff},
		"the mark of a failure":  {0xcf, 0x22, 0x2e, 0xff},
		"the row of a failure":   {0xff, 0xf5, 0xf4, 0xff},
		"the chart's background": {0xf6, 0xf8, 0xfa, 0xff},
	} {
		require.Greater(t, seen[c], 8, name)
	}
}
