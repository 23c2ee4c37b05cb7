package main

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// This program judges a server, so what could make it blind is tested here without one. That it raises no false alarm is shown by `-server self`.

func TestSymbolicNumbers(t *testing.T) {
	m := meaning{current: 10, compacted: 4, member: 99}
	for symbol, expected := range map[int64]int64{current(0): 10, current(-3): 7, current(5): 15, compacted(-1): 3, history(12): 3, readable(7): 4, 0: 0, -5: -5, 123: 123, leaseSeconds: leaseSeconds} {
		if got := m.number(symbol); got != expected {
			t.Errorf("%s is %d, not %d", nameSymbols(fmt.Sprint(symbol)), got, expected)
		}
	}
	for choice := range int64(100) {
		if r := m.number(readable(choice)); r < 4 || r > 10 {
			t.Errorf("readable revision %d", r)
		}
	}
	nested := &pb.TxnRequest{Success: []*pb.RequestOp{txnOp(&pb.TxnRequest{Failure: []*pb.RequestOp{rangeOp(&pb.RangeRequest{Key: []byte("a"), Revision: current(-1)})}})}}
	resolved := m.resolve(nested).(*pb.TxnRequest)
	if r := resolved.Success[0].GetRequestTxn().Failure[0].GetRequestRange().Revision; r != 9 {
		t.Errorf("a nested symbol is %d", r)
	}
	alarm := m.resolve(&pb.AlarmRequest{MemberID: symbolMember}).(*pb.AlarmRequest)
	if alarm.MemberID != 99 {
		t.Errorf("the member is %d", alarm.MemberID)
	}
}

func TestSequencesAreRepeatable(t *testing.T) {
	show := func(seed uint64) string {
		var text strings.Builder
		for _, step := range generate(seed, 500) {
			fmt.Fprintln(&text, strings.ReplaceAll(step.String(), "  ", " ")) // prototext varies its spaces from build to build
		}
		return text.String()
	}
	if show(3) != show(3) || show(3) == show(4) {
		t.Error("a seed must give the same sequence each time, and another one another")
	}
}

func TestShrinkingFindsTheFewStepsThatMatter(t *testing.T) {
	// The fault needs step 17, later step 120, and a txn with a put of "x" at the end.
	var steps []step
	for i := range 200 {
		steps = append(steps, step{kind: stepKeepAlive, number: int64(i)})
	}
	steps[180] = txnOf(p("w", ""), p("x", ""), taken(p("y", "")), r("z", ""))
	runs := 0
	run := func(steps []step) (*difference, error) {
		runs++
		state := 0
		for i, step := range steps {
			switch {
			case step.kind == stepKeepAlive && step.number == 17:
				state = 1
			case step.kind == stepKeepAlive && step.number == 120 && state == 1:
				state = 2
			case step.kind == stepCall && state == 2 && strings.Contains(step.String(), `"x"`):
				return &difference{index: i, step: step}, nil
			}
		}
		return nil, nil
	}
	found, _ := run(steps)
	shortest, _ := shrink(run, steps, found, 200, time.Minute)
	if len(shortest) != 3 || len(shortest[2].message.(*pb.TxnRequest).Success) != 1 {
		t.Errorf("%d steps are left: %v", len(shortest), shortest)
	}
	if runs > 150 {
		t.Errorf("it took %d runs", runs)
	}
	runs = 0
	if shrink(run, steps, found, 5, time.Minute); runs > 5 {
		t.Errorf("%d runs, of 5 allowed", runs)
	}
}

func newTestStream(live bool) *watchStream {
	w := &watchStream{changed: make(chan struct{}), items: map[int64][]proto.Message{}, live: map[int64]bool{}, last: map[int64]int64{}, open: map[int64]bool{}, claimed: map[int64]int64{}, pieces: map[int64]int{}, asked: []bool{live}}
	w.feed(&pb.WatchResponse{Header: header(5), Created: true})
	return w
}

func header(revision int64) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: 7, MemberId: 8, Revision: revision}
}

func (w *watchStream) feed(response *pb.WatchResponse) {
	w.take(response, &normaliser{cluster: 7, member: 8})
}

func events(headerRevision int64, revisions ...int64) *pb.WatchResponse {
	response := &pb.WatchResponse{Header: header(headerRevision)}
	for _, revision := range revisions {
		response.Events = append(response.Events, &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte("k"), ModRevision: revision}})
	}
	return response
}

func TestFaultsOfWatchesAreSeen(t *testing.T) {
	fragment := func(response *pb.WatchResponse) *pb.WatchResponse {
		response.Fragment = true
		return response
	}
	other := events(6, 6)
	other.Header.MemberId = 99
	unknown := events(6, 6)
	unknown.WatchId = 3
	for name, one := range map[string]struct {
		live      bool
		responses []*pb.WatchResponse
		fault     string
	}{
		"in order":                 {true, []*pb.WatchResponse{events(6, 6, 6), events(7, 7)}, ""},
		"caught up":                {false, []*pb.WatchResponse{events(9, 6, 7, 8), events(10, 10)}, ""},
		"fragments of a revision":  {false, []*pb.WatchResponse{fragment(events(9, 6, 7)), events(9, 7, 8)}, ""},
		"a split revision":         {true, []*pb.WatchResponse{events(6, 6), events(6, 6)}, "split"},
		"back in time":             {false, []*pb.WatchResponse{events(9, 7, 8), events(9, 6)}, "after 8"},
		"under an older header":    {false, []*pb.WatchResponse{events(6, 7)}, "under a header"},
		"live under a later":       {true, []*pb.WatchResponse{events(8, 7)}, "live event"},
		"progress, then older":     {false, []*pb.WatchResponse{{Header: header(8), WatchId: -1}, events(9, 8)}, "after progress"},
		"progress, then newer":     {false, []*pb.WatchResponse{{Header: header(8), WatchId: -1}, events(9, 9)}, ""},
		"own progress, then older": {false, []*pb.WatchResponse{{Header: header(8)}, events(9, 7)}, "after progress"},
		"another member's header":  {true, []*pb.WatchResponse{other}, "server's ids"},
		"events of no watch":       {true, []*pb.WatchResponse{unknown}, "before the created"},
	} {
		w := newTestStream(one.live)
		for _, response := range one.responses {
			w.feed(response)
		}
		switch faults := strings.Join(w.faults, "; "); {
		case one.fault == "" && faults != "":
			t.Errorf("%s: %s", name, faults)
		case !strings.Contains(faults, one.fault):
			t.Errorf("%s: no fault is seen", name)
		}
	}
}

func TestTheModelCountsWhatWatchesMustDeliver(t *testing.T) {
	event := func(kind mvccpb.Event_EventType, key string, revision int64) *mvccpb.Event {
		return &mvccpb.Event{Type: kind, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: revision}}
	}
	m := newModel()
	m.journal = []*mvccpb.Event{event(mvccpb.PUT, "a", 2), event(mvccpb.PUT, "b", 3), event(mvccpb.PUT, "a", 4), event(mvccpb.DELETE, "a", 4), event(mvccpb.DELETE, "c", 5), event(mvccpb.PUT, "c", 5), event(mvccpb.PUT, "b", 6)}
	m.count()
	const currentRevision, compactedRevision = 6, 4
	for i, one := range []struct {
		request  *pb.WatchCreateRequest
		expected int // beside the created response
	}{
		{&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: 3}, 1},                                                 // that it is compacted
		{&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: 4}, 1},                                                 // of the two changes in the compacted revision the last
		{&pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte{0}, StartRevision: 4}, 4},                            // from a on
		{&pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("c"), StartRevision: 4}, 2},                          // not c
		{&pb.WatchCreateRequest{RangeEnd: []byte("z"), StartRevision: 5}, 3},                                            // from the first key on
		{&pb.WatchCreateRequest{Key: []byte("b")}, 0},                                                                   // from now on
		{&pb.WatchCreateRequest{Key: []byte("c"), StartRevision: 5, Filters: []pb.WatchCreateRequest_FilterType{0}}, 1}, // no puts
	} {
		at := watchKey{0, int64(i)}
		m.add(at, newWatchModel(one.request, currentRevision, compactedRevision), compactedRevision)
		if got := m.expected[at] - 1; got != one.expected {
			t.Errorf("watch %d: %d, not %d", i, got, one.expected)
		}
	}
	if got := m.safeCompaction(5); got != 4 {
		t.Errorf("a compaction at a revision of a delete and a put of one key goes to %d", got)
	}
	if got := m.safeCompaction(4); got != 4 {
		t.Errorf("a compaction at a revision of a put and a delete of one key goes to %d", got)
	}
	if m.answersProgress(0, currentRevision) {
		t.Error("a stream with a compacted watch answers progress")
	}
	delete(m.watches, watchKey{0, 0})
	if !m.answersProgress(0, currentRevision) || m.answersProgress(1, currentRevision) {
		t.Error("progress")
	}
}

func TestTiesAreSettledOnlyWhereOrderIsFree(t *testing.T) {
	reply := func(names string) *pb.RangeResponse {
		reply := &pb.RangeResponse{Count: int64(len(names))}
		for _, name := range names {
			version := int64(1)
			if name > 'm' {
				version = 2
			}
			reply.Kvs = append(reply.Kvs, &mvccpb.KeyValue{Key: []byte(string(name)), Version: version})
		}
		return reply
	}
	request := &pb.RangeRequest{SortTarget: pb.RangeRequest_VERSION}
	same := func(left, right *pb.RangeResponse) bool {
		settleTies(request, left)
		settleTies(request, right)
		return proto.Equal(left, right)
	}
	if !same(reply("abcdefghzyxwvu"), reply("hgfedcbauvwxyz")) {
		t.Error("the order of equal ones counts")
	}
	if same(reply("abcdefghzyxwvu"), reply("abcdefgzhyxwvu")) {
		t.Error("the order of unequal ones does not count")
	}
	if same(reply("abc"), reply("acb")) {
		t.Error("the order of a few equal ones does not count")
	}
	cut := func(names string) *pb.RangeResponse {
		r := reply(names)
		r.Count, r.More = 100, true
		return r
	}
	if !same(cut("abuv"), cut("bawx")) {
		t.Error("which of the equal ones the limit leaves counts")
	}
	if same(cut("abuv"), cut("bcuv")) {
		t.Error("which ones come before the last group does not count")
	}
}

func TestAnswersThatDifferAreSeen(t *testing.T) {
	answerOf := func(message proto.Message) answer { return answer{messages: []proto.Message{message}} }
	kv := &mvccpb.KeyValue{Key: []byte("a"), Lease: 3}
	for expected, pair := range map[string][2]answer{
		"code":              {{code: 3, text: "x"}, {code: 4, text: "x"}},
		"error text":        {{code: 3, text: "x"}, {code: 3, text: "y"}},
		"kvs[0].lease":      {answerOf(&pb.RangeResponse{Kvs: []*mvccpb.KeyValue{kv}}), answerOf(&pb.RangeResponse{Kvs: []*mvccpb.KeyValue{{Key: []byte("a")}}})},
		"header: unset":     {answerOf(&pb.PutResponse{Header: &pb.ResponseHeader{}}), answerOf(&pb.PutResponse{})},
		"TTL":               {answerOf(&pb.LeaseTimeToLiveResponse{TTL: 10}), answerOf(&pb.LeaseTimeToLiveResponse{TTL: 20})},
		"1 messages, not 0": {{}, answerOf(&pb.PutResponse{})},
		"responses[0].response_put.prev_kv": {answerOf(&pb.TxnResponse{Responses: []*pb.ResponseOp{{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{PrevKv: kv}}}}}),
			answerOf(&pb.TxnResponse{Responses: []*pb.ResponseOp{{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{}}}}})},
	} {
		if why := differ(pair[0], pair[1]); !strings.Contains(why, expected) {
			t.Errorf("%q is not seen, but %q", expected, why)
		}
	}
	if why := differ(answerOf(&pb.LeaseTimeToLiveResponse{TTL: 10}), answerOf(&pb.LeaseTimeToLiveResponse{TTL: 9})); why != "" {
		t.Errorf("a second passes: %s", why)
	}
}

func TestNoTxnThatEndsEtcdIsSent(t *testing.T) {
	for seed := range uint64(30) {
		for _, step := range generate(seed, 1000) {
			txn, ok := step.message.(*pb.TxnRequest)
			if !ok {
				continue
			}
			open, ignoring := false, false
			visitOperations(txn, func(operation *pb.RequestOp) {
				open = open || bytes.Equal(operation.GetRequestDeleteRange().GetRangeEnd(), []byte{0})
				ignoring = ignoring || operation.GetRequestPut().GetIgnoreValue() || operation.GetRequestPut().GetIgnoreLease()
			})
			if open && ignoring {
				t.Fatalf("seed %d: %s", seed, step)
			}
		}
	}
}

func TestSeeds(t *testing.T) {
	got, err := parseSeeds("1,3,9-12")
	if err != nil || !reflect.DeepEqual(got, []uint64{1, 3, 9, 10, 11, 12}) {
		t.Error(got, err)
	}
	for _, text := range []string{"x", "3-1", "1-99999999"} {
		if _, err := parseSeeds(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
