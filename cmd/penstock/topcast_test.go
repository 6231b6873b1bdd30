package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestTopRecording: docs/top/top.cast is a small asciicast of a terminal of 80 by 24. It shows
// every screen, and restores the terminal at the end. docs/top/record makes it.
func TestTopRecording(t *testing.T) {
	text := readDeploy(t, "../docs/top/top.cast")
	if len(text) > 64<<10 {
		t.Errorf("it has %d bytes", len(text))
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	var header struct{ Version, Width, Height int }
	if err := json.Unmarshal([]byte(lines[0]), &header); err != nil || header != struct{ Version, Width, Height int }{2, 80, 24} {
		t.Errorf("header %+v, %v", header, err)
	}
	shown, last := "", 0.0
	for i, line := range lines[1:] {
		var at float64
		var kind, data string
		if err := json.Unmarshal([]byte(line), &[]any{&at, &kind, &data}); err != nil || kind != "o" || at < last || at > 60 {
			t.Fatalf("line %d: %v: %s", i+2, err, line)
		}
		last = at
		shown += data
	}
	for _, want := range []string{"NOT NORMAL", "ACTIVITIES", "demo-sale", "SERVER", "1 header", "2 tonight", "3 machines", "4 limits"} {
		if !strings.Contains(shown, want) {
			t.Errorf("it doesn't show %q", want)
		}
	}
	entered, left := strings.Index(shown, "\x1b[?1049h"), strings.LastIndex(shown, "\x1b[?1049l")
	if entered < 0 || left < entered {
		t.Error("the terminal isn't given back")
	}
}
