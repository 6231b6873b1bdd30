package problem

import (
	"unicode"
	"unicode/utf8"
)

// IllegibleText says what is wrong with a text that names or explains something, or returns "".
// Both listeners take such texts from programs, and people read them later in tables, terminals and
// logs.
//
//   - A text without a visible character is a value that the program didn't have. All buyers without
//     a name would be one buyer.
//   - U+FFFD is what a program has made of bytes that it couldn't read. Different names become one.
//   - Control characters, line separators and bidirectional controls change how what is around them
//     is shown.
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

// Reorders reports whether a character breaks the line, or changes the order in which what is
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

// isVisible reports whether a character leaves ink by itself.
func isVisible(r rune) bool {
	if r < 0x80 {
		return r > ' ' && r != 0x7f
	}
	const brailleBlank = 0x2800
	return r != brailleBlank && unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S) &&
		!unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
}
