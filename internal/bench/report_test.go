//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

// The first table of docs/performance.md is that of the run whose samples are in
// docs/performance.json, with a figure in each place but one.
func TestSummaryOfTheDocs(t *testing.T) {
	js, err := os.ReadFile("../../docs/performance.json")
	if err != nil {
		t.Fatal(err)
	}
	var rep Report
	if err := json.Unmarshal(js, &rep); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	again, err := withDocs("../../docs/performance.md", rep.summary())
	if err != nil {
		t.Fatal(err)
	}
	if again != string(page) {
		t.Errorf("docs/performance.md has not this summary of docs/performance.json:\n%s", rep.summary())
	}
	if n := strings.Count(rep.summary(), "| –"); n != 1 { // nothing was measured of sessions over one connection
		t.Errorf("%d figures are missing, want one:\n%s", n, rep.summary())
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rep.Results {
		if r.Name != "true" {
			continue
		}
		ours, _ := r.median(wsexec, "time")
		theirs, _ := r.median(ssh, "time")
		shared, _ := r.median(sshShared, "time")
		want := fmt.Sprintf("A start takes about %.0f ms; ssh takes %.0f ms, or %.0f ms over", ours, theirs, shared)
		if !strings.Contains(strings.Join(strings.Fields(string(readme)), " "), want) {
			t.Errorf("the README does not say %q", want)
		}
	}
	if _, err := withDocs("../../docs/performance-goals.md", ""); err != nil {
		t.Error(err)
	}
}
