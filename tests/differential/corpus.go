package main

import (
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// The corpus: scripts of sequences that are easy to get wrong, run before the random ones. Each runs on fresh servers.
func corpus() []sequence {
	return slices.Concat(rangeScripts(), writeScripts(), txnScripts(), historyScripts(), watchScripts(), leaseScripts(), otherScripts(), hostileScripts())
}

func script(name string, parts ...any) sequence {
	s := sequence{name: name}
	for _, part := range parts {
		switch part := part.(type) {
		case step:
			s.steps = append(s.steps, part)
		case []step:
			s.steps = append(s.steps, part...)
		default:
			panic(fmt.Sprintf("%s: a %T is no step", name, part))
		}
	}
	return s
}

// What most scripts are made of. An end of "" is none.

func put(key, value string) step {
	return putWith(&pb.PutRequest{Key: []byte(key), Value: []byte(value)})
}

func putLeased(key, value string, lease int64) step {
	return putWith(&pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease})
}

func putWith(request *pb.PutRequest) step            { return call("KV/Put", request) }
func ranged(request *pb.RangeRequest) step           { return call("KV/Range", request) }
func streamed(request *pb.RangeRequest) step         { return step{kind: stepRangeStream, message: request} }
func deleteWith(request *pb.DeleteRangeRequest) step { return call("KV/DeleteRange", request) }
func txnStep(request *pb.TxnRequest) step            { return call("KV/Txn", request) }
func statusCall() step                               { return call("Maintenance/Status", &pb.StatusRequest{}) }

func get(key, end string) step {
	return ranged(&pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end)})
}

func getAt(key, end string, revision int64) step {
	return ranged(&pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end), Revision: revision})
}

func remove(key, end string) step {
	return deleteWith(&pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end), PrevKv: true})
}

func compact(revision int64) step {
	return call("KV/Compact", &pb.CompactionRequest{Revision: revision, Physical: true})
}

func hashKV(revision int64) step {
	return call("Maintenance/HashKV", &pb.HashKVRequest{Revision: revision})
}

func grant(lease, seconds int64) step {
	return call("Lease/LeaseGrant", &pb.LeaseGrantRequest{ID: lease, TTL: seconds})
}

func revoke(lease int64) step { return call("Lease/LeaseRevoke", &pb.LeaseRevokeRequest{ID: lease}) }
func renew(lease int64) step  { return step{kind: stepKeepAlive, number: lease} }
func leases() step            { return call("Lease/LeaseLeases", &pb.LeaseLeasesRequest{}) }

func timeToLive(lease int64) step {
	return call("Lease/LeaseTimeToLive", &pb.LeaseTimeToLiveRequest{ID: lease, Keys: true})
}

func watch(stream int, key, end string, start int64, more ...func(*pb.WatchCreateRequest)) step {
	request := &pb.WatchCreateRequest{Key: []byte(key), RangeEnd: []byte(end), StartRevision: start}
	for _, change := range more {
		change(request)
	}
	return step{kind: stepWatchCreate, stream: stream, message: request}
}

func withNotify(request *pb.WatchCreateRequest)   { request.ProgressNotify = true }
func withPrevious(request *pb.WatchCreateRequest) { request.PrevKv = true }
func fragmented(request *pb.WatchCreateRequest)   { request.Fragment = true }
func withID(id int64) func(*pb.WatchCreateRequest) {
	return func(request *pb.WatchCreateRequest) { request.WatchId = id }
}
func without(filters ...pb.WatchCreateRequest_FilterType) func(*pb.WatchCreateRequest) {
	return func(request *pb.WatchCreateRequest) { request.Filters = filters }
}

func cancel(stream int, id int64) step {
	return step{kind: stepWatchCancel, stream: stream, number: id}
}
func progress(stream int) step { return step{kind: stepWatchProgress, stream: stream} }
func silence(stream int) step  { return step{kind: stepWatchSilence, stream: stream} }
func drain() step              { return step{kind: stepDrain} }
func restart() step            { return step{kind: stepRestart} }

func notified(stream int, id int64) step {
	return step{kind: stepWatchNotified, stream: stream, number: id}
}

// The script with more arguments for both servers.
func (s sequence) with(extra ...string) sequence {
	s.extra = extra
	return s
}

func repeat(count int, f func(i int) step) []step {
	var steps []step
	for i := range count {
		steps = append(steps, f(i))
	}
	return steps
}

// Everything at every revision from 1 to last, and one beyond.
func everyRevision(last int64) []step {
	return repeat(int(last)+1, func(i int) step { return getAt("\x00", "\x00", int64(i)+1) })
}

func everyHash(last int64) []step {
	return repeat(int(last)+2, func(i int) step { return hashKV(int64(i)) })
}

// A history with everything in it: overwrites, tombstones, keys that come again, txns of several operations, range deletes, leases. Ends at revision historyEnd.
const historyEnd = 16

func richHistory() []step {
	return []step{
		grant(7, leaseSeconds),
		put("a", "1"),            // 2
		put("b", "1"),            // 3
		put("a", "2"),            // 4
		remove("a", ""),          // 5
		put("a", "3"),            // 6: a new generation
		putLeased("l/1", "x", 7), // 7
		putLeased("l/2", "y", 7), // 8
		txnStep(&pb.TxnRequest{Success: []*pb.RequestOp{ // 9: several keys in one revision
			putOp(&pb.PutRequest{Key: []byte("t/1"), Value: []byte("one")}),
			putOp(&pb.PutRequest{Key: []byte("t/2"), Value: []byte("two")}),
			deleteOp(&pb.DeleteRangeRequest{Key: []byte("b")}),
			putOp(&pb.PutRequest{Key: []byte("t/3"), Value: []byte("three"), Lease: 7}),
		}}),
		remove("t/", "t0"), // 10: three tombstones in one revision
		txnStep(&pb.TxnRequest{Success: []*pb.RequestOp{ // 11: a range delete between puts
			putOp(&pb.PutRequest{Key: []byte("t/1"), Value: []byte("again")}),
			deleteOp(&pb.DeleteRangeRequest{Key: []byte("l/"), RangeEnd: []byte("l0")}),
			putOp(&pb.PutRequest{Key: []byte("b"), Value: []byte("2")}),
		}}),
		putLeased("l/3", "z", 7), // 12
		putLeased("l/1", "w", 7), // 13
		revoke(7),                // 14: two tombstones in key order
		put("a", "4"),            // 15
		remove("a", ""),          // 16: ends on a tombstone
	}
}
