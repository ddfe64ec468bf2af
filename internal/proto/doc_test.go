package proto

import (
	"encoding/hex"
	"hash/crc32"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The messages of the page's example are messages, and fit each other.
func TestExampleOfThePage(t *testing.T) {
	b, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(b), "// # An example\n")
	example, _, _ = strings.Cut(example, "// # Connecting\n")
	example = strings.ReplaceAll(example, "\n//\t    ", "")
	var got []string
	sums := map[uint8]uint32{}
	for _, m := range regexp.MustCompile(`(?m)^//\t[CS]  (?:(\{.*)|([0-9a-f]{2} [0-9a-f ]+?)(?:  .*)?)$`).FindAllStringSubmatch(example, -1) {
		if m[1] != "" {
			c, err := ParseControl([]byte(m[1]))
			if err != nil {
				t.Errorf("%s: %v", m[1], err)
				continue
			}
			if o, ok := c.(*Open); ok && o.Start != nil && o.Start.Check() != nil {
				t.Errorf("%s: %v", m[1], o.Start.Check())
			}
			if o, ok := c.(*Opened); ok && o.CRC != sums[Stdin] {
				t.Errorf("%s: the checksum is %d", m[1], sums[Stdin])
			}
			got = append(got, typeOf(c))
			continue
		}
		raw, err := hex.DecodeString(strings.ReplaceAll(m[2], " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		f, err := ParseFrame(raw)
		if err != nil {
			t.Errorf("%s: %v", m[2], err)
		}
		sums[f.Stream] = crc32.Update(sums[f.Stream], crc32.MakeTable(crc32.Castagnoli), f.Payload)
		if f.Kind == End && f.CRC != sums[f.Stream] {
			t.Errorf("%s: the checksum is %08x", m[2], sums[f.Stream])
		}
		got = append(got, f.Kind.String())
	}
	const want = "open opened DATA END ACK DATA open opened END END END exit bye"
	if all := strings.Join(got, " "); all != want {
		t.Errorf("the example is %s, want %s", all, want)
	}
}
