package settings

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestRecorded_HasNoSecrets(t *testing.T) {
	const before = `{"webhooks":[{"name":"a","secret":"first secret"},{"name":"b","secret":"second secret"}],"n":12345678901234567890}`
	const after = `{"webhooks":[{"name":"a","secret":"first secret"},{"name":"b","secret":"third secret"}],"n":12345678901234567890}`
	was, is, err := Recorded([]byte(before), []byte(after))
	if err != nil {
		t.Fatal(err)
	}
	marks := func(text string) (out []string) {
		t.Helper()
		if strings.Contains(text, " secret\"") || !strings.Contains(text, "12345678901234567890") {
			t.Errorf("recorded: %s", text)
		}
		var d struct{ Webhooks []struct{ Secret string } }
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			t.Fatal(err)
		}
		for _, h := range d.Webhooks {
			out = append(out, h.Secret)
		}
		return out
	}
	one, two := marks(was), marks(is)
	if one[0] != two[0] || one[1] == two[1] || one[0] == one[1] {
		t.Errorf("marks %v and %v", one, two)
	}
	again, _, err := Recorded([]byte(before), []byte(after))
	if err != nil || marks(again)[0] == one[0] {
		t.Errorf("%v: another record has the same mark, by which a secret can be guessed", err)
	}
}

func TestRecorded_LeavesOthersAsTheyAre(t *testing.T) {
	const text = `{ "policies": [ {"name":"x"} ] }`
	was, is, err := Recorded(nil, []byte(text))
	if was != "" || is != text || err != nil {
		t.Errorf("%q, %q, %v", was, is, err)
	}
	if _, _, err := Recorded([]byte(`{"secret":`), nil); err == nil {
		t.Error("half a document is recorded")
	}
}
