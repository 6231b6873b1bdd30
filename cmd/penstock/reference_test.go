package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/gateway/problem"
)

// TestReferenceIsGenerated: the pages of docs/reference match the code.
func TestReferenceIsGenerated(t *testing.T) {
	for name, page := range map[string]string{
		"commands.md": commandsPage(), "settings.md": settingsPage(), "problems.md": problemsPage(), "switches.md": switchesPage(),
	} {
		path := filepath.Join("..", "..", "docs", "reference", name)
		if *updatePages {
			if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != page {
			t.Errorf("docs/reference/%s is not what the code says (%v): go test ./cmd/penstock -run TestReferenceIsGenerated -update", name, err)
		}
	}
}

const generatedNote = "A test writes this page from the code and keeps it true:\n`go test ./cmd/penstock -run TestReferenceIsGenerated -update`.\n"

// commandsPage lists every command with its flags. Settings have a page of their own.
func commandsPage() string {
	var b strings.Builder
	b.WriteString("# Commands\n\n" + generatedNote + "The flags of a node (`serve`, `gateway`, `worker`, `demo`, `check`) are in\n[settings.md](settings.md).\n")
	settings := make(map[string]bool)
	for _, s := range allSettings() {
		settings[s.key] = true
	}
	walkCommands(rootCommand(), func(cmd *cobra.Command) {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", cmd.CommandPath(), fenceHelp(cmd))
		var rows []string
		cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
			if f.Hidden || settings[f.Name] || f.Name == "help" {
				return
			}
			rows = append(rows, fmt.Sprintf("| `--%s` | %s | %s |", f.Name, inCode(f.DefValue), inTable(f.Usage)))
		})
		if len(rows) > 0 {
			b.WriteString("\n| flag | default | meaning |\n| --- | --- | --- |\n" + strings.Join(rows, "\n") + "\n")
		}
	})
	return b.String()
}

// walkCommands visits a command and its visible subcommands.
func walkCommands(cmd *cobra.Command, visit func(*cobra.Command)) {
	if cmd.Hidden || cmd.Name() == "help" {
		return
	}
	visit(cmd)
	for _, sub := range cmd.Commands() {
		walkCommands(sub, visit)
	}
}

// fenceHelp returns a command's help text and usage, as code: its line breaks stay.
func fenceHelp(cmd *cobra.Command) string {
	text := cmd.Long
	if text == "" {
		text = cmd.Short
	}
	return "```\n" + cmd.UseLine() + "\n\n" + strings.TrimSpace(text) + "\n```"
}

func inCode(text string) string {
	if text == "" || text == "[]" {
		return ""
	}
	return "`" + strings.ReplaceAll(text, "|", "\\|") + "`"
}

func inTable(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "|", "\\|"), "\n", " ")
}

// settingsPage lists every setting of a node.
func settingsPage() string {
	var b strings.Builder
	b.WriteString("# Settings\n\n" + generatedNote + "\nA setting is a flag, an environment variable and a key of the file of `--config`. Flags win over\n" +
		"environment, environment over file. A secret has no flag: that would show in the list of processes.\n\n" +
		"| key | environment | default | meaning |\n| --- | --- | --- | --- |\n")
	config := defaultConfig()
	for _, s := range allSettings() {
		key := "`" + s.key + "`"
		if s.secret {
			key += " (no flag)"
		}
		value := reflect.ValueOf(s.value(&config)).Elem().Interface()
		text := fmt.Sprint(value)
		switch v := value.(type) {
		case []string:
			text = strings.Join(v, ",")
		case time.Duration:
			text = shortDuration(v)
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", key, s.env(), inCode(text), inTable(s.help))
	}
	return b.String()
}

// shortDuration leaves out the zeros at the end: 1h, not 1h0m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// problemsPage lists every error code.
func problemsPage() string {
	var b strings.Builder
	b.WriteString("# Problems\n\n" + generatedNote + "\nAn error is `application/problem+json` (RFC 9457). A listener explains each at `/problems/{code}`.\n\n" +
		"| code | status | retry | what a client does | what an operator looks at |\n| --- | --- | --- | --- | --- |\n")
	for _, e := range problem.Entries() {
		retry := "no"
		if e.Retryable {
			retry = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %d | %s | %s | %s |\n", e.Code, e.Status, retry, inTable(e.Client), inTable(e.Ops))
	}
	return b.String()
}

// switchesPage lists every switch.
func switchesPage() string {
	var b strings.Builder
	b.WriteString("# Switches\n\n" + generatedNote + "\n`penstock ctl switches set NAME VALUE` sets one ([degradation.md](../degradation.md)).\n\n" +
		"| switch | values | normal | meaning |\n| --- | --- | --- | --- |\n")
	for _, d := range degrade.Descriptions() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", d.Name, inTable(d.Values), inTable(d.Normal), inTable(d.Help))
	}
	return b.String()
}
