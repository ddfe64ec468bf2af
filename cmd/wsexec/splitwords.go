package main

import "strings"

// splitWords splits a command line into words, as POSIX's sh splits one that has no
// expansion and no operator (XCU 2.2, 2.3):
//
//   - Blanks and newlines separate words.
//   - Between ' and ' every character stands for itself.
//   - Between " and " too, but for a backslash before ", \, $, ` or a newline.
//   - Elsewhere a backslash makes the character after it stand for itself.
//   - A backslash and a newline are nothing.
//
// There is no shell, and no expansion. What would be an operator, or the beginning of
// an expansion, of a shell is an error where it is not quoted: $ and ` also between
// " and ". The characters * ? [ # = stand for themselves, and ~ but at the beginning
// of a word. There is at least one word, and the first one is not empty.
func splitWords(line string) (words []string, err error) {
	var word strings.Builder
	begun := false // there is a word, which may be empty
	quote := byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == 0:
			return nil, errNulInCommand
		case quote == '\'' && c != quote:
			word.WriteByte(c)
		case c == '\\':
			if i++; i == len(line) {
				return nil, errLastBackslash
			}
			switch c = line[i]; {
			case c == 0:
				return nil, errNulInCommand
			case c == '\n':
				continue
			case quote == '"' && !strings.ContainsRune("\"\\$`", rune(c)):
				word.WriteByte('\\')
			}
			begun = true
			word.WriteByte(c)
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, begun = c, true
		case strings.IndexByte("$`", c) >= 0, quote == 0 && strings.IndexByte("|&;<>()", c) >= 0, quote == 0 && c == '~' && !begun:
			return nil, noShellFor(c)
		case quote == 0 && strings.IndexByte(" \t\n", c) >= 0:
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			begun = true
			word.WriteByte(c)
		}
	}
	if quote != 0 {
		return nil, unclosedQuote(quote)
	}
	if begun {
		words = append(words, word.String())
	}
	if len(words) == 0 || words[0] == "" {
		return nil, errNoTokenCommand
	}
	return words, nil
}
