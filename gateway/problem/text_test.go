package problem

import "testing"

func TestIllegibleText(t *testing.T) {
	for _, s := range []string{"u-42", "a b", " a", "ü", "手机", "👩\u200d💻", "می\u200cخواهم", "é", "e\u0301", "1", "_", "#"} {
		if got := IllegibleText(s); got != "" {
			t.Errorf("%q: %s", s, got)
		}
	}
	const blank = "must have a visible character"
	for _, s := range []string{"", " ", "\u00a0", "\u3000", "\u200b", "\ufeff", "\u2003", "\u00ad", "\u2060", "\u200c\u200d", "\u2800", "\u3164",
		"\u115f", "\uffa0", "\u034f", "\ufe0f", "\u0301", "\U000e0041", "\u180e", " \u00a0 "} {
		if got := IllegibleText(s); got != blank {
			t.Errorf("%+q: %q", s, got)
		}
	}
	for s, want := range map[string]string{
		"a\xff": "must be UTF-8", "a\ufffd": "must not have U+FFFD: the text was read in a wrong encoding",
		"a\n": "must not have control characters", "a\x1b[2J": "must not have control characters", "a\u0085": "must not have control characters",
		"a\x7f": "must not have control characters", "a\u202eb": "must not have line separators or bidirectional controls",
		"a\u2066b": "must not have line separators or bidirectional controls", "a\u2028b": "must not have line separators or bidirectional controls",
		"\u200fa": "must not have line separators or bidirectional controls", "a\u061cb": "must not have line separators or bidirectional controls",
	} {
		if got := IllegibleText(s); got != want {
			t.Errorf("%+q: %q, want %q", s, got, want)
		}
	}
}
