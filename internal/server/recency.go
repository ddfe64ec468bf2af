package server

import "container/list"

// A recency is a table of strings with a value each, in the order in which they were
// last put. It has no bound of its own.
type recency[V any] struct {
	order   *list.List // of *recent, the oldest first
	entries map[string]*list.Element
}

type recent[V any] struct {
	key   string
	value V
}

func newRecency[V any]() recency[V] {
	return recency[V]{list.New(), map[string]*list.Element{}}
}

func (t *recency[V]) len() int { return t.order.Len() }

func (t *recency[V]) get(key string) (v V, ok bool) {
	e := t.entries[key]
	if e == nil {
		return v, false
	}
	return e.Value.(*recent[V]).value, true
}

// put gives the key that value, and makes it the newest.
func (t *recency[V]) put(key string, v V) {
	e := t.entries[key]
	if e == nil {
		t.entries[key] = t.order.PushBack(&recent[V]{key, v})
		return
	}
	e.Value.(*recent[V]).value = v
	t.order.MoveToBack(e)
}

// oldest is the value of the oldest key. There must be one.
func (t *recency[V]) oldest() V { return t.order.Front().Value.(*recent[V]).value }

func (t *recency[V]) removeOldest() {
	delete(t.entries, t.order.Remove(t.order.Front()).(*recent[V]).key)
}
