package problem

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// IllegibleText returns the mistake in a text that names or explains something, or "". Both
// listeners take such texts from programs, and people read them later in tables, terminals and
// logs.
//
//   - A text without a visible character is most likely missing in the program. All buyers without
//     a name would be one buyer.
//   - U+FFFD stands for bytes that a program couldn't decode. Different names would become the
//     same.
//   - Control characters, line separators and bidirectional controls change how the text around
//     them is shown.
func IllegibleText(s string) string {
	visible := false
	for i, r := range s {
		switch {
		case r == utf8.RuneError:
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return "must be UTF-8"
			}
			return "must not have U+FFFD: the text was read in a wrong encoding"
		case unicode.IsControl(r):
			return "must not have control characters"
		case Reorders(r):
			return "must not have line separators or bidirectional controls"
		}
		visible = visible || isVisible(r)
	}
	if !visible {
		return "must have a visible character"
	}
	return ""
}

// Reorders reports whether a character breaks the line, or changes the order in which the text
// around it is shown.
func Reorders(r rune) bool {
	switch {
	case r < 0x061C:
		return false
	case r == 0x061C, r >= 0x200E && r <= 0x200F, r >= 0x2028 && r <= 0x202E, r >= 0x2066 && r <= 0x2069:
		return true
	}
	return false
}

// isVisible reports whether a character is visible by itself.
func isVisible(r rune) bool {
	if r < 0x80 {
		return r > ' ' && r != 0x7f
	}
	for i := 0; i < len(blank); i += 2 {
		if r <= blank[i+1] {
			return r < blank[i]
		}
	}
	return true
}

// blank is the first and the last of each range of characters beyond ASCII that are invisible:
// spaces, accents without a letter, joiners and fillers, variation selectors, and tags. The
// contracts of both listeners have the same ranges in their patterns.
var blank = [...]rune{
	0xA0, 0xA0, 0xAD, 0xAD, 0x300, 0x36F, 0x61C, 0x61C, 0x115F, 0x1160, 0x1680, 0x1680, 0x17B4, 0x17B5, 0x180B, 0x180F,
	0x2000, 0x200F, 0x2028, 0x202F, 0x205F, 0x206F, 0x2800, 0x2800, 0x3000, 0x3000, 0x3164, 0x3164, 0xFE00, 0xFE0F,
	0xFEFF, 0xFEFF, 0xFFA0, 0xFFA0, 0xFFF0, 0xFFFB, 0x1BCA0, 0x1BCA3, 0x1D173, 0x1D17A, 0xE0000, 0xE0FFF,
}

// LoneSurrogate reports whether valid JSON has an escaped UTF-16 surrogate without its other half:
// it is no valid text, and parsers read it in different ways.
func LoneSurrogate(body []byte) bool {
	for {
		i := bytes.IndexByte(body, '\\')
		if i < 0 {
			return false
		}
		escape := body[i+1]
		body = body[i+2:]
		if escape != 'u' {
			continue
		}
		unit := hexUnit(body)
		body = body[4:]
		if unit < 0xd800 || unit > 0xdfff {
			continue
		}
		if unit > 0xdbff || len(body) < 6 || body[0] != '\\' || body[1] != 'u' {
			return true
		}
		if low := hexUnit(body[2:]); low < 0xdc00 || low > 0xdfff {
			return true
		}
		body = body[6:]
	}
}

// hexUnit reads the four hex digits that b, out of valid JSON, starts with.
func hexUnit(b []byte) (unit uint16) {
	for _, c := range b[:4] {
		digit := uint16(c - '0')
		if c >= 'A' {
			digit = uint16(c|0x20-'a') + 10
		}
		unit = unit<<4 | digit
	}
	return unit
}
