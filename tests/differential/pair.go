package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

const (
	journalStream = -1 // the number of the stream that carries the journal
	probeStream   = -2 // the number of a stream that tells when watches have caught up
	drainDeadline = callDeadline
	lostPatience  = 2 * time.Second // how long after a lost stream a server may take to be gone
)

// A real etcd and the server under test, fed with the same steps.
type pair struct {
	peer, candidate *session
	meaning         meaning // of symbolic numbers; from the peer's answers
	model           *model
	hashes          bool // the server under test has HashKV
	trace           bool // print etcd's answers
}

// The first step at which the two differ.
type difference struct {
	step             step
	index            int
	sent             string // the request with its symbolic numbers resolved
	expected, actual string
	why              string
}

func newPair(peer, candidate *server) (*pair, error) {
	p := &pair{model: newModel(), meaning: meaning{current: 1, compacted: -1}}
	return p, p.connect(peer, candidate)
}

func (p *pair) connect(peer, candidate *server) (err error) {
	if p.peer, err = connect(peer); err != nil {
		return err
	}
	if p.candidate, err = connect(candidate); err != nil {
		p.peer.close()
		return err
	}
	whole := &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true}
	if d := p.createWatch(step{kind: stepWatchCreate, stream: journalStream, message: whole}); d != nil {
		p.close()
		return fmt.Errorf("the journal's watch is created differently: %s", d.why)
	}
	return nil
}

func (p *pair) close() {
	p.peer.close()
	p.candidate.close()
}

// Does the same on both sides at once and compares.
func (p *pair) both(s step, request proto.Message, do func(c *session, request proto.Message) answer) (answer, *difference) {
	meant := p.meaning
	own := func(c *session) proto.Message {
		if request == nil {
			return nil
		}
		meant := meant
		meant.member = c.normaliser.member
		return meant.resolve(request)
	}
	actual := make(chan answer, 1)
	go func() { actual <- do(p.candidate, own(p.candidate)) }()
	forPeer := own(p.peer)
	expected := do(p.peer, forPeer)
	got := <-actual
	if p.trace {
		fmt.Fprintf(os.Stderr, "      etcd: %s\n", indent(expected.String()))
	}
	sent := ""
	if forPeer != nil {
		sent = show(forPeer)
	}
	if why := differ(expected, got); why != "" {
		return expected, &difference{step: s, sent: sent, expected: expected.String(), actual: got.String(), why: why}
	}
	if d := p.checkAlive(s); d != nil {
		d.sent = sent
		return expected, d
	}
	p.learn(expected)
	return expected, nil
}

// Takes the current revision out of the peer's answer.
func (p *pair) learn(a answer) {
	for _, message := range a.messages {
		fields := message.ProtoReflect().Descriptor().Fields()
		field := fields.ByName("header")
		if field == nil {
			continue
		}
		if header, ok := message.ProtoReflect().Get(field).Message().Interface().(*pb.ResponseHeader); ok {
			p.meaning.current = max(p.meaning.current, header.GetRevision())
		}
	}
}

func (p *pair) checkAlive(s step) *difference {
	for _, c := range []*session{p.peer, p.candidate} {
		if c.server.isGone() || c.lostStream() && c.server.endsWithin(lostPatience) {
			return &difference{step: s, why: c.server.kind.name + " has ended by itself:\n" + c.server.recentLog()}
		}
	}
	return nil
}

func (p *pair) do(s step) *difference {
	switch s.kind {
	case stepCall:
		return p.call(s)
	case stepRangeStream:
		_, d := p.both(s, s.message, func(c *session, request proto.Message) answer { return c.rangeStream(request.(*pb.RangeRequest)) })
		return d
	case stepKeepAlive:
		_, d := p.both(s, nil, func(c *session, _ proto.Message) answer { return c.renew(s.number) })
		return d
	case stepRaw:
		_, d := p.both(s, nil, func(c *session, _ proto.Message) answer { return c.raw(s.method, s.raw) })
		return d
	case stepShortLease, stepRandomLease:
		_, d := p.both(s, s.message, func(c *session, request proto.Message) answer {
			return c.grantAndRevoke(request.(*pb.LeaseGrantRequest))
		})
		return d
	case stepAwaitExpiry:
		_, d := p.both(s, nil, func(c *session, _ proto.Message) answer { return c.awaitExpiry(s.number) })
		return d
	case stepWatchCreate:
		return p.createWatch(s)
	case stepWatchCancel:
		return p.cancelWatch(s)
	case stepWatchProgress, stepWatchSilence:
		return p.progress(s)
	case stepWatchNotified:
		_, d := p.both(s, nil, func(c *session, _ proto.Message) answer {
			return c.awaitNotification(s.stream, s.number, p.meaning.current)
		})
		return d
	case stepDrain:
		return p.drain(s)
	case stepRestart:
		return p.restart(s)
	}
	panic("unknown step")
}

func (p *pair) call(s step) *difference {
	if request, ok := s.message.(*pb.CompactionRequest); ok {
		return p.compact(s, request)
	}
	_, d := p.both(s, s.message, func(c *session, request proto.Message) answer { return c.call(s.method, request) })
	return d
}

func (p *pair) compact(s step, request *pb.CompactionRequest) *difference {
	// What is in flight when a compaction comes is a matter of time: whether a watch still gets its events, and the previous values with them.
	if d := p.drain(s); d != nil {
		return d
	}
	if d := p.catchUp(s); d != nil {
		return d
	}
	revision := p.model.safeCompaction(p.meaning.number(request.Revision))
	request = &pb.CompactionRequest{Revision: revision, Physical: request.Physical}
	a, d := p.both(s, request, func(c *session, request proto.Message) answer { return c.call(s.method, request) })
	if d != nil || a.code != codes.OK {
		return d
	}
	p.meaning.compacted = revision
	if revision < 0 {
		return nil
	}
	_, d = p.both(s, nil, func(c *session, _ proto.Message) answer {
		if c == p.candidate && !p.hashes {
			return answer{notes: []string{compactionSettled}}
		}
		return answer{notes: []string{c.awaitCompaction(revision)}}
	})
	return d
}

func (p *pair) createWatch(s step) *difference {
	if d := p.drain(s); d != nil {
		return d
	}
	request := p.meaning.resolve(s.message).(*pb.WatchCreateRequest)
	a, d := p.both(s, s.message, func(c *session, request proto.Message) answer {
		return c.createWatch(s.stream, request.(*pb.WatchCreateRequest))
	})
	if d != nil || len(a.messages) == 0 {
		return d
	}
	created := a.messages[0].(*pb.WatchResponse)
	at := watchKey{s.stream, created.WatchId}
	if created.Canceled {
		p.model.expected[at]++
		return nil
	}
	p.model.add(at, newWatchModel(request, p.meaning.current, p.meaning.compacted), p.meaning.compacted)
	return nil
}

// A watch from the past that has nothing to deliver still counts as behind, until the server next looks after such watches; a compaction before that cancels it.
// The server looks after all of them together, so when a probe that was created later has caught up, all have.
func (p *pair) catchUp(s step) *difference {
	if !p.model.mayBeBehind {
		return nil
	}
	request := &pb.WatchCreateRequest{Key: []byte("probe"), StartRevision: max(p.meaning.compacted, 1)}
	_, d := p.both(s, request, func(c *session, request proto.Message) answer {
		a := c.createWatch(probeStream, request.(*pb.WatchCreateRequest))
		if len(a.messages) == 0 {
			return a
		}
		id := a.messages[0].(*pb.WatchResponse).WatchId
		progress := c.requestProgress(probeStream)
		canceled := c.cancelWatch(probeStream, id, true)
		return answer{notes: append(progress.notes, canceled.notes...)}
	})
	p.model.mayBeBehind = false
	return d
}

func (p *pair) cancelWatch(s step) *difference {
	// Events in flight when the cancel comes may or may not arrive; so let them arrive first.
	if d := p.drain(s); d != nil {
		return d
	}
	at := watchKey{s.stream, s.number}
	_, known := p.model.watches[at]
	_, d := p.both(s, nil, func(c *session, _ proto.Message) answer { return c.cancelWatch(s.stream, s.number, known) })
	if known {
		p.model.expected[at]++
		delete(p.model.watches, at)
	}
	return d
}

func (p *pair) progress(s step) *difference {
	if d := p.drain(s); d != nil {
		return d
	}
	answered := p.model.answersProgress(s.stream, p.meaning.current)
	if s.kind == stepWatchProgress && answered {
		_, d := p.both(s, nil, func(c *session, _ proto.Message) answer { return c.requestProgress(s.stream) })
		return d
	}
	if s.kind == stepWatchSilence && !answered {
		_, d := p.both(s, nil, func(c *session, _ proto.Message) answer { return c.requestNoProgress(s.stream) })
		return d
	}
	return nil
}

// Waits until every watch on both sides has received what it must, then compares the sequences of each watch.
func (p *pair) drain(s step) *difference {
	if _, ok := p.model.watches[watchKey{journalStream, 0}]; !ok {
		return nil
	}
	if d := p.readJournal(s); d != nil {
		return d
	}
	p.model.count()
	keys := slices.SortedFunc(maps.Keys(p.model.expected), func(a, b watchKey) int {
		if a.stream != b.stream {
			return a.stream - b.stream
		}
		return int(min(max(a.id-b.id, -1), 1))
	})
	for _, at := range keys {
		if d := p.compareWatch(s, at); d != nil {
			return d
		}
	}
	for _, c := range []*session{p.peer, p.candidate} {
		if d := p.checkAlive(s); d != nil {
			return d
		}
		if d := checkFaults(s, c); d != nil {
			return d
		}
	}
	return nil
}

// Every revision has events, so the journal is complete when its last event is of the current revision. etcd never splits a revision.
func (p *pair) readJournal(s step) *difference {
	w := p.peer.watches[journalStream]
	done := w.await(drainDeadline, func() bool {
		p.model.extend(w.items[0])
		return p.model.reached >= p.meaning.current
	})
	if !done {
		return &difference{step: s, why: w.why("the journal on the peer did not reach the current revision: this program is wrong; not")}
	}
	return nil
}

func (p *pair) compareWatch(s step, at watchKey) *difference {
	expected := p.model.expected[at]
	var received [2][]proto.Message
	var fragmented [2]bool
	for i, c := range []*session{p.peer, p.candidate} {
		w := c.watches[at.stream]
		if w == nil {
			return &difference{step: s, why: fmt.Sprintf("%s has no stream %d", c.server.kind.name, at.stream)}
		}
		w.await(drainDeadline, func() bool { return len(w.items[at.id]) >= expected })
		w.mu.Lock()
		received[i], fragmented[i] = slices.Clone(w.items[at.id]), w.pieces[at.id] > 0
		w.mu.Unlock()
	}
	from := p.model.compared[at]
	name := fmt.Sprintf("watch %d of stream %d", at.id, at.stream)
	for i := from; i < max(len(received[0]), len(received[1]), expected); i++ {
		left, right := "nothing", "nothing"
		if i < len(received[0]) {
			left = show(received[0][i])
		}
		if i < len(received[1]) {
			right = show(received[1][i])
		}
		if i < min(len(received[0]), len(received[1])) && proto.Equal(received[0][i], received[1][i]) {
			continue
		}
		why := fmt.Sprintf("%s: item %d", name, i)
		if i >= len(received[0]) && i >= len(received[1]) {
			why += " is expected but came from neither side: this program is wrong"
		}
		return &difference{step: s, expected: left, actual: right, why: why}
	}
	p.model.compared[at] = len(received[0])
	if fragmented[0] != fragmented[1] {
		return &difference{step: s, why: fmt.Sprintf("%s: some response came in fragments: %t, not %t", name, fragmented[1], fragmented[0])}
	}
	return nil
}

func checkFaults(s step, c *session) *difference {
	for _, number := range slices.Sorted(maps.Keys(c.watches)) {
		w := c.watches[number]
		w.mu.Lock()
		faults, ended := w.faults, w.ended
		w.mu.Unlock()
		if len(faults) > 0 {
			return &difference{step: s, why: fmt.Sprintf("%s, stream %d: %s", c.server.kind.name, number, faults[0])}
		}
		if ended != nil {
			return &difference{step: s, why: fmt.Sprintf("%s, stream %d has ended: %v", c.server.kind.name, number, ended)}
		}
	}
	return nil
}

// Stops both servers as a service manager would, and starts them again on the same data.
func (p *pair) restart(s step) *difference {
	if d := p.drain(s); d != nil {
		return d
	}
	p.close()
	ended := make(chan error, 2)
	again := func(server *server) {
		err := server.terminate()
		if err == nil {
			err = server.launch()
		}
		ended <- err
	}
	go again(p.peer.server)
	go again(p.candidate.server)
	for range 2 {
		if err := <-ended; err != nil {
			return &difference{step: s, why: err.Error()}
		}
	}
	p.model.forgetWatches()
	if err := p.connect(p.peer.server, p.candidate.server); err != nil {
		return &difference{step: s, why: err.Error()}
	}
	return nil
}
