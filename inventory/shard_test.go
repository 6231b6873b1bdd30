package inventory

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Every script begins with a description of its input and output.
func TestScriptsCarryTheirContracts(t *testing.T) {
	files, err := luaFiles.ReadDir("lua")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := luaFiles.ReadFile("lua/" + file.Name())
		if err != nil {
			t.Fatal(err)
		}
		text := string(source)
		words := []string{"-- " + file.Name() + " ", "\n-- Cost: ", "Invariant"}
		if file.Name() == "shard.lua" {
			words = append(words, "KEYS[5]", "ARGV[4]", "\n-- Replies begin with a code.")
		} else if file.Name() != "books.lua" {
			words = append(words, "\n-- Reply: {OK, seq, length of log")
		}
		for _, word := range words {
			if !strings.Contains(text, word) {
				t.Errorf("%s doesn't say %q", file.Name(), word)
			}
		}
		for _, word := range []string{"'TIME'", "math.random", "os.time", "os.clock", "KEYS[6]", "struct.", "cmsgpack", "bit."} {
			if strings.Contains(text, word) {
				t.Errorf("%s has %q", file.Name(), word)
			}
		}
	}
	scripts, err := loadScripts()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 15 || scripts.open.sha == scripts.load.sha || len(scripts.open.sha) != 40 {
		t.Errorf("%d files, %+v", len(files), scripts.open.sha)
	}
}

func FuzzParseValue(f *testing.F) {
	const head, tail = "head of a name", "0123456789abcdef"
	for _, value := range []string{
		"F1 2;" + tail + "=7 u1", "S10 0;" + tail + "V1 3;fedcba9876543210=7 ", "O1 99999999999999999999;" + tail + "=1 x",
		"D 1;" + tail + "=1 x", "N1 1;" + tail + "=1 x", "", "=1 x", "V2000000000 1;" + tail + "=1 x", "F1 2;" + tail, "F1 2;=7 u",
		"F0 2;" + tail + "=7 u1", "F1 2;" + tail + "=0 u1", "F1 2;" + tail + "=99999999999 u1", "O1 1;=1 x;=1 x;=1 x;=1 =1 x",
	} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		holds, err := parseValue(nil, head, value)
		if err != nil {
			if holds != nil || !errors.Is(err, errReply) {
				t.Fatalf("%+v, %v", holds, err)
			}
			return
		}
		for _, h := range holds {
			if h.State == None || h.Validate() != nil && len(h.Buyer) <= maxName || !strings.HasSuffix(value, h.Buyer) || h.Item != holds[0].Item {
				t.Fatalf("%q is %+v", value, h)
			}
		}
		var again strings.Builder
		for _, h := range holds {
			fmt.Fprintf(&again, "%c%d %d;%s", stateLetters[h.State], h.Quantity, h.touch, h.ID[len(head):])
		}
		fmt.Fprintf(&again, "=%d %s", holds[0].Item, holds[0].Buyer)
		if reread, err := parseValue(nil, head, again.String()); err != nil || !slices.Equal(reread, holds) {
			t.Fatalf("%q reads as %+v, %v; want %+v", again.String(), reread, err, holds)
		}
	})
}

func FuzzParseCrossings(f *testing.F) {
	for _, message := range []string{
		"1 2 3", "1 2 3 4+", "1 2 3 4+ 5-", "", "1 2", "1 2 3 4", "1 2 3 +", "x 2 3 5+", "1 -2 3 5+", "99999 1 1 1+", "1 2 3  4+", "1 2 3 0-",
	} {
		f.Add(message)
	}
	f.Fuzz(func(t *testing.T, message string) {
		ref, seq, crossings, ok := parseMessage(message)
		if !ok {
			if ref != (Ref{}) || seq != 0 || crossings != nil {
				t.Fatal("half an answer")
			}
			return
		}
		again := fmt.Sprintf("%d %d %d", ref.Shard, ref.Epoch, seq)
		for _, c := range crossings {
			sign := "-"
			if c.has {
				sign = "+"
			}
			again += fmt.Sprintf(" %d%s", c.item, sign)
		}
		if r, s, c, ok := parseMessage(again); !ok || r != ref || s != seq || !slices.Equal(c, crossings) {
			t.Fatalf("%q reads otherwise than %q", again, message)
		}
	})
}

// FuzzLog gives any element of the log to a view: the view applies it or reports an error.
func FuzzLog(f *testing.F) {
	for _, element := range []string{"", "N", "N12345678", "N1234567", "C", "C1", "C1 2+ 3-", "C1 2", "X", "C1 4294967296+"} {
		f.Add(element)
	}
	f.Fuzz(func(t *testing.T, element string) {
		s := &Stock{cfg: Config{}.WithDefaults(), events: make(chan event, 10)}
		v := &view{ref: Ref{1, 1}, stock: s}
		v.items.Store(newItemTable(minItems))
		if err := v.applyOne(element); err != nil && !errors.Is(err, errReply) {
			t.Fatal(err)
		}
	})
}

func TestParseTotals(t *testing.T) {
	for value, want := range map[string]string{
		"5 2": "5 2 ok", "-1 0": "-1 0 ok", "": "0 0 bad", "5": "0 0 bad", "5 x": "0 0 bad", "5 2 1": "0 0 bad",
	} {
		total, sold, err := parseTotals(value)
		got := fmt.Sprintf("%d %d ok", total, sold)
		if err != nil {
			got = fmt.Sprintf("%d %d bad", total, sold)
		}
		if got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}
