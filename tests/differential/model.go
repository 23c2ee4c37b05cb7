package main

import (
	"bytes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// The model of watches says how many items each watch must have received by now, so that the program knows what to wait for, in place of sleeping.
// It learns all events from one watch of the whole space on the peer, opened before the first write: the journal.

type watchKey struct {
	stream int
	id     int64
}

type watchModel struct {
	key, end  []byte // end nil: one key; end empty: all keys from key on
	start     int64  // first revision it may deliver
	asked     int64  // the start revision of the request
	noPut     bool
	noDelete  bool
	compacted bool // it was answered "compacted"; it delivers nothing, but holds its id until it is canceled
}

type model struct {
	journal  []*mvccpb.Event
	taken    int                      // items of the journal's watch that are in it
	reached  int64                    // the last revision that it is known to hold
	counted  int                      // events of the journal that the expectations include
	watches  map[watchKey]*watchModel // those that hold their id
	expected map[watchKey]int         // items that must have arrived, over all uses of the id
	compared map[watchKey]int         // items that have been compared

	mayBeBehind bool // some watch started in the past, and may not have caught up
}

func newModel() *model {
	return &model{watches: map[watchKey]*watchModel{}, expected: map[watchKey]int{}, compared: map[watchKey]int{}, reached: 1}
}

func newWatchModel(request *pb.WatchCreateRequest, currentRevision, compactedRevision int64) *watchModel {
	w := &watchModel{key: request.Key, end: request.RangeEnd, start: request.StartRevision, asked: request.StartRevision}
	if len(w.key) == 0 {
		w.key = []byte{0}
	}
	switch {
	case len(w.end) == 0:
		w.end = nil
	case len(w.end) == 1 && w.end[0] == 0:
		w.end = []byte{}
	}
	for _, filter := range request.Filters {
		w.noPut = w.noPut || filter == pb.WatchCreateRequest_NOPUT
		w.noDelete = w.noDelete || filter == pb.WatchCreateRequest_NODELETE
	}
	if w.start == 0 {
		w.start = currentRevision + 1
	}
	w.compacted = w.start < compactedRevision
	return w
}

func (w *watchModel) wants(event *mvccpb.Event) bool {
	key := event.Kv.Key
	inRange := bytes.Compare(key, w.key) >= 0 && (len(w.end) == 0 || bytes.Compare(key, w.end) < 0)
	if w.end == nil {
		inRange = bytes.Equal(key, w.key)
	}
	filtered := w.noPut && event.Type == mvccpb.PUT || w.noDelete && event.Type == mvccpb.DELETE
	return inRange && !filtered && !w.compacted && event.Kv.ModRevision >= w.start
}

// Counts a new watch: its created response, and what it must deliver of the past.
func (m *model) add(at watchKey, w *watchModel, compactedRevision int64) {
	m.watches[at] = w
	m.mayBeBehind = m.mayBeBehind || w.asked != 0
	m.expected[at]++
	if w.compacted {
		m.expected[at]++
		return
	}
	for i, event := range m.journal[:m.counted] {
		if w.wants(event) && m.isRetained(i, compactedRevision) {
			m.expected[at]++
		}
	}
}

// Of several changes of one key in the compacted revision only the last is kept.
func (m *model) isRetained(i int, compactedRevision int64) bool {
	event := m.journal[i]
	if event.Kv.ModRevision != compactedRevision {
		return true
	}
	for _, later := range m.journal[i+1:] {
		if later.Kv.ModRevision != compactedRevision {
			break
		}
		if bytes.Equal(later.Kv.Key, event.Kv.Key) {
			return false
		}
	}
	return true
}

// The revision, or the nearest before it, in which no key was deleted and then put again. (A txn can do that through a hole in the duplicate-key rules.)
// A compaction at exactly such a revision makes etcd 3.7.1 throw the put away but keep it in the index; the next read of the key ends the process.
func (m *model) safeCompaction(revision int64) int64 {
	for i := len(m.journal) - 1; i >= 0 && m.journal[i].Kv.ModRevision >= revision; i-- {
		if m.journal[i].Kv.ModRevision == revision && m.journal[i].Type == mvccpb.PUT && m.isDeletedBefore(i) {
			revision--
		}
	}
	return revision
}

// Whether the key of event number i was deleted earlier in the same revision.
func (m *model) isDeletedBefore(i int) bool {
	put := m.journal[i].Kv
	for i--; i >= 0 && m.journal[i].Kv.ModRevision == put.ModRevision; i-- {
		if m.journal[i].Type == mvccpb.DELETE && bytes.Equal(m.journal[i].Kv.Key, put.Key) {
			return true
		}
	}
	return false
}

// Counts the events that the journal has and the expectations have not.
func (m *model) count() {
	for ; m.counted < len(m.journal); m.counted++ {
		for at, w := range m.watches {
			if w.wants(m.journal[m.counted]) {
				m.expected[at]++
			}
		}
	}
}

// Whether etcd answers a progress request on the stream: it has watches, all of them synced, none waits for a future revision.
func (m *model) answersProgress(stream int, currentRevision int64) bool {
	some := false
	for at, w := range m.watches {
		if at.stream != stream {
			continue
		}
		if w.compacted || w.isWaiting(currentRevision) {
			return false
		}
		some = true
	}
	return some
}

// Whether the watch was asked to start at a revision that is not yet there.
func (w *watchModel) isWaiting(currentRevision int64) bool { return w.asked > currentRevision }

// Takes new items of the journal's watch.
func (m *model) extend(items []proto.Message) {
	for _, item := range items[m.taken:] {
		if event, ok := item.(*mvccpb.Event); ok {
			m.journal = append(m.journal, event)
			m.reached = event.Kv.ModRevision
		}
	}
	m.taken = len(items)
}

// A restart ends all watches. The journal goes on in a new watch.
func (m *model) forgetWatches() {
	kept := newModel()
	kept.journal, kept.counted, kept.reached = m.journal, m.counted, m.reached
	*m = *kept
}
