package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTutorial runs the commands of docs/tutorial.md, one after another in one shell, and compares
// their output with the page. An … on the page stands for any text on its line.
func TestTutorial(t *testing.T) {
	page, err := os.ReadFile("../../../docs/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	steps := tutorialSteps(string(page))
	if len(steps) < 8 {
		t.Fatalf("the page has %d blocks of commands", len(steps))
	}
	dir := t.TempDir()
	n := start(t, "serve", "--data-dir", filepath.Join(dir, "data"))
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	const between = "-- end of a step --"
	var script strings.Builder
	for _, step := range steps {
		script.WriteString(step.commands + "\necho '" + between + "'\n")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-eu", "-o", "pipefail", "-c", script.String())
	shell.Dir = dir
	shell.Env = append(os.Environ(), "PENSTOCK_ADMIN_TOKEN="+adminToken, "PENSTOCK_PUBLIC="+n.public, "PENSTOCK_ADMIN="+n.private,
		"PATH="+filepath.Dir(path)+":"+os.Getenv("PATH"))
	var stderr bytes.Buffer
	shell.Stderr = &stderr
	out, err := shell.Output()
	printed := strings.Split(string(out), between+"\n")
	for i, step := range steps {
		if i >= len(printed)-1 {
			t.Fatalf("the shell ended (%v) in the step\n%s\n%s", err, step.commands, stderr.String())
		}
		if !step.answer.MatchString(strings.TrimSpace(printed[i])) {
			t.Errorf("the page says\n%s\nand the commands print\n%s", step.text, printed[i])
		}
	}
	if err != nil {
		t.Errorf("%v\n%s", err, stderr.String())
	}
}

// tutorialStep is a block of commands, and the block of output after it.
type tutorialStep struct {
	commands string
	text     string
	answer   *regexp.Regexp
}

var codeBlock = regexp.MustCompile("(?s)```(sh|text)\n(.*?)```\n")

// tutorialSteps returns the steps of a page. Commands without answers print nothing.
func tutorialSteps(page string) (steps []tutorialStep) {
	for _, m := range codeBlock.FindAllStringSubmatch(page, -1) {
		kind, text := m[1], m[2]
		if kind == "sh" {
			steps = append(steps, tutorialStep{commands: text, answer: regexp.MustCompile(`^$`)})
			continue
		}
		pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(text)), "…", ".*")
		last := &steps[len(steps)-1]
		last.text, last.answer = text, regexp.MustCompile("^"+pattern+"$")
	}
	return steps
}
