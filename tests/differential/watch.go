package main

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// etcd buffers 128 responses of a stream; a live watch that finds no room falls behind, and catches up under a later header.
// With more watches than this on a stream, one revision could fill the buffer, so the headers of live watches are not checked there.
const liveWatchesMax = 60

// One watch stream of one server. A goroutine sorts what arrives by watch id; the sequence of each id is what is compared.
type watchStream struct {
	client grpc.BidiStreamingClient[pb.WatchRequest, pb.WatchResponse]

	mu       sync.Mutex
	changed  chan struct{}             // closed and replaced at every arrival
	items    map[int64][]proto.Message // by watch id: created and canceled responses without events, and single events
	created  []*pb.WatchResponse       // answers to create requests, in order
	asked    []bool                    // by create request, in order: starts it at the present? Then its headers are checked
	live     map[int64]bool            // by watch id: started at the present, so every response must be of one revision and say it
	last     map[int64]int64           // by watch id: the last event's revision
	open     map[int64]bool            // by watch id: the last response was a fragment with more to come
	claimed  map[int64]int64           // by watch id: the highest revision that progress has claimed
	progress []int64                   // revisions of answers for the whole stream
	pieces   map[int64]int             // by watch id: responses that were fragments with more to come
	faults   []string
	ended    error
}

func (c *session) watch(number int) (*watchStream, error) {
	if stream := c.watches[number]; stream != nil {
		return stream, nil
	}
	client, err := pb.NewWatchClient(c.connection).Watch(c.context)
	if err != nil {
		return nil, err
	}
	w := &watchStream{client: client, changed: make(chan struct{}), items: map[int64][]proto.Message{}, live: map[int64]bool{},
		last: map[int64]int64{}, open: map[int64]bool{}, claimed: map[int64]int64{}, pieces: map[int64]int{}}
	c.watches[number] = w
	go w.receive(&c.normaliser)
	return w, nil
}

func (w *watchStream) receive(n *normaliser) {
	// Ids are compared with those of the first header; a copy keeps this goroutine apart from the session's calls.
	own := *n
	for {
		response, err := w.client.Recv()
		w.mu.Lock()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("ended without an error")
			}
			w.ended = err
		} else {
			w.take(response, &own)
		}
		close(w.changed)
		w.changed = make(chan struct{})
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (w *watchStream) fault(format string, arguments ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, arguments...))
}

func (w *watchStream) take(response *pb.WatchResponse, n *normaliser) {
	n.headers(response.ProtoReflect())
	if response.GetHeader().GetMemberId() != idsAsBefore || response.GetHeader().GetClusterId() != idsAsBefore {
		w.fault("watch %d: a header without the server's ids: %s", response.WatchId, show(response.Header))
	}
	id := response.WatchId
	switch {
	case response.Created:
		w.takeCreated(response)
	case response.Canceled:
		w.items[id] = append(w.items[id], response)
	case len(response.Events) == 0:
		w.takeProgress(response)
	default:
		w.takeEvents(response)
	}
}

func (w *watchStream) takeCreated(response *pb.WatchResponse) {
	id := response.WatchId
	if len(response.Events) != 0 {
		w.fault("watch %d: events in the created response", id)
	}
	w.items[id] = append(w.items[id], response)
	live := len(w.created) < len(w.asked) && w.asked[len(w.created)]
	w.created = append(w.created, response)
	if !response.Canceled {
		w.live[id], w.open[id], w.last[id], w.claimed[id] = live, false, 0, 0
	}
}

func (w *watchStream) takeProgress(response *pb.WatchResponse) {
	revision := response.GetHeader().GetRevision()
	claim := func(id int64) { w.claimed[id] = max(w.claimed[id], revision) }
	if response.WatchId == -1 {
		w.progress = append(w.progress, revision)
		for id := range w.claimed {
			claim(id)
		}
		return
	}
	if _, known := w.claimed[response.WatchId]; !known {
		w.fault("watch %d: progress of a watch that was never created", response.WatchId)
	}
	claim(response.WatchId)
}

func (w *watchStream) takeEvents(response *pb.WatchResponse) {
	id := response.WatchId
	if _, known := w.claimed[id]; !known {
		w.fault("watch %d: events before the created response", id)
	}
	for i, event := range response.Events {
		revision := event.GetKv().GetModRevision()
		switch {
		case revision < w.last[id]:
			w.fault("watch %d: revision %d after %d", id, revision, w.last[id])
		case i == 0 && revision == w.last[id] && !w.open[id]:
			w.fault("watch %d: revision %d is split over two responses", id, revision)
		case revision <= w.claimed[id]:
			w.fault("watch %d: revision %d after progress had claimed %d", id, revision, w.claimed[id])
		case revision > response.GetHeader().GetRevision():
			w.fault("watch %d: revision %d under a header of revision %d", id, revision, response.GetHeader().GetRevision())
		case w.live[id] && len(w.created) <= liveWatchesMax && revision != response.GetHeader().GetRevision():
			w.fault("watch %d: a live event of revision %d under a header of revision %d", id, revision, response.GetHeader().GetRevision())
		}
		w.last[id] = revision
		w.items[id] = append(w.items[id], event)
	}
	w.open[id] = response.Fragment
	if response.Fragment {
		w.pieces[id]++
	}
}

// Waits until the condition, which is called with the lock held, is true. False: the stream ended or the limit passed before.
func (w *watchStream) await(limit time.Duration, condition func() bool) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		w.mu.Lock()
		holds, ended, changed := condition(), w.ended, w.changed
		w.mu.Unlock()
		if holds {
			return true
		}
		if ended != nil {
			return false
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		}
	}
}

func (w *watchStream) send(request *pb.WatchRequest) error {
	return withDeadline(callDeadline, func() error { return w.client.Send(request) })
}

// Creates a watch and waits for the answer to the request.
func (c *session) createWatch(number int, request *pb.WatchCreateRequest) answer {
	var a answer
	w, err := c.watch(number)
	if err != nil {
		a.fail(err)
		return a
	}
	w.mu.Lock()
	w.asked = append(w.asked, request.StartRevision == 0)
	before := len(w.created)
	w.mu.Unlock()
	err = w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}})
	if err != nil {
		a.fail(err)
		return a
	}
	if !w.await(callDeadline, func() bool { return len(w.created) > before }) {
		a.notes = append(a.notes, w.why("no created response"))
		return a
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	a.messages = append(a.messages, w.created[before])
	return a
}

// Cancels a watch, and waits for the answer if there is to be one. It arrives in the sequence of the watch.
func (c *session) cancelWatch(number int, id int64, answered bool) answer {
	var a answer
	w, err := c.watch(number)
	if err != nil {
		a.fail(err)
		return a
	}
	w.mu.Lock()
	before := len(w.items[id])
	w.mu.Unlock()
	request := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}}
	if err := w.send(request); err != nil {
		a.fail(err)
		return a
	}
	if answered && !w.await(callDeadline, func() bool { return len(w.items[id]) > before }) {
		a.notes = append(a.notes, w.why("no canceled response"))
	}
	return a
}

const (
	progressAttempts = 40
	progressPatience = 100 * time.Millisecond // per attempt: etcd drops a request while a watch is not synced, and syncs every 100 ms
	silencePatience  = 300 * time.Millisecond
)

func progressRequest() *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
}

// Asks for progress until it is answered, and tells the revision of the answer.
func (c *session) requestProgress(number int) answer {
	var a answer
	w, err := c.watch(number)
	if err != nil {
		a.fail(err)
		return a
	}
	w.mu.Lock()
	before := len(w.progress)
	w.mu.Unlock()
	for range progressAttempts {
		if err := w.send(progressRequest()); err != nil {
			a.fail(err)
			return a
		}
		if w.await(progressPatience, func() bool { return len(w.progress) > before }) {
			w.mu.Lock()
			defer w.mu.Unlock()
			a.notes = append(a.notes, fmt.Sprint("progress of revision ", w.progress[len(w.progress)-1]))
			return a
		}
	}
	a.notes = append(a.notes, w.why("no answer to a progress request"))
	return a
}

// Asks for progress once; an answer is wrong.
func (c *session) requestNoProgress(number int) answer {
	var a answer
	w, err := c.watch(number)
	if err != nil {
		a.fail(err)
		return a
	}
	w.mu.Lock()
	before := len(w.progress)
	w.mu.Unlock()
	if err := w.send(progressRequest()); err != nil {
		a.fail(err)
		return a
	}
	answered := w.await(silencePatience, func() bool { return len(w.progress) > before })
	a.notes = append(a.notes, fmt.Sprint("progress answered: ", answered))
	return a
}

// Waits for a progress notification of one watch, which comes by itself every so often.
func (c *session) awaitNotification(number int, id, revision int64) answer {
	var a answer
	w, err := c.watch(number)
	if err != nil {
		a.fail(err)
		return a
	}
	done := w.await(callDeadline, func() bool { return w.claimed[id] >= revision })
	w.mu.Lock()
	defer w.mu.Unlock()
	a.notes = append(a.notes, fmt.Sprintf("notified: %t, of revision %d", done, w.claimed[id]))
	return a
}

func (c *session) lostStream() bool {
	for _, w := range c.watches {
		w.mu.Lock()
		ended := w.ended
		w.mu.Unlock()
		if ended != nil {
			return true
		}
	}
	return false
}

func (w *watchStream) why(text string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended != nil {
		return fmt.Sprintf("%s; the stream has ended: %v", text, w.ended)
	}
	return text + " in time"
}
