//go:build linux

package main

import "testing"

func TestQuantile(t *testing.T) {
	for _, tt := range []struct {
		xs      []float64
		q, want float64
	}{
		{[]float64{7}, 0.99, 7},
		{[]float64{1, 2}, 0.5, 1.5},
		{[]float64{1, 2, 3}, 0.5, 2},
		{[]float64{1, 2, 3, 4, 5}, 0.25, 2},
		{[]float64{1, 2, 3}, 1, 3},
	} {
		if got := quantile(tt.xs, tt.q); got != tt.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", tt.xs, tt.q, got, tt.want)
		}
	}
}

func TestJudge(t *testing.T) {
	m := metric{"x", "x", "ms"}
	r := &Result{metrics: []metric{m}, Subjects: []SubjectResult{
		{Name: wsexec, Metrics: []MetricResult{summarise(m, []float64{6, 1, 4})}},
		{Name: ssh, Metrics: []MetricResult{summarise(m, []float64{8})}},
		{Name: sshGCM, Missing: "it is not here"},
	}}
	for _, tt := range []struct {
		g     goal
		times float64
		met   bool
	}{
		{goal{metric: "x", atMost: true, factor: 0.5, than: ssh}, 1, true},
		{goal{metric: "x", atMost: true, factor: 0.25, than: ssh}, 0.5, false},
		{goal{metric: "x", factor: 0.25, than: ssh}, 2, true},
		{goal{metric: "x", factor: 1, than: ssh}, 0.5, false},
		{goal{metric: "x", atMost: true, bound: 8}, 2, true},
		{goal{metric: "x", subject: ssh, atMost: true, bound: 4}, 0.5, false},
		{goal{metric: "x", factor: 1, than: sshGCM}, 0, false},
		{goal{metric: "y", factor: 1, than: ssh}, 0, false},
	} {
		got := r.judge(tt.g)
		if got.Times != tt.times || got.Met != tt.met || (got.Missing == "") != (tt.times != 0) {
			t.Errorf("%+v: got %+v, want %v times as good, met %v", tt.g, got, tt.times, tt.met)
		}
	}
}
