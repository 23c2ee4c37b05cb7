package main

import (
	"bytes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

func (g *generator) leaseStep() {
	lease := g.lease()
	switch n := g.IntN(20); {
	case n < 7:
		g.add(call("Lease/LeaseGrant", &pb.LeaseGrantRequest{ID: lease, TTL: leaseSeconds + g.Int64N(leaseSeconds)}))
	case n < 8: // from here on too large
		g.add(call("Lease/LeaseGrant", &pb.LeaseGrantRequest{ID: lease + smallLeasesMax, TTL: 9_000_000_001 + g.Int64N(10)}))
	case n < 9:
		g.add(step{kind: stepShortLease, message: &pb.LeaseGrantRequest{ID: smallLeasesMax + lease, TTL: g.Int64N(6) - 3}})
	case n < 10:
		g.add(step{kind: stepRandomLease, message: &pb.LeaseGrantRequest{TTL: leaseSeconds}})
	case n < 12:
		g.add(call("Lease/LeaseRevoke", &pb.LeaseRevokeRequest{ID: lease}))
	case n < 14:
		g.add(step{kind: stepKeepAlive, number: lease})
	case n < 18:
		g.add(call("Lease/LeaseTimeToLive", &pb.LeaseTimeToLiveRequest{ID: lease, Keys: g.chance(70)}))
	default:
		g.add(call("Lease/LeaseLeases", &pb.LeaseLeasesRequest{}))
	}
}

func (g *generator) watchCreate() {
	request := &pb.WatchCreateRequest{PrevKv: g.chance(50), ProgressNotify: g.chance(10), Fragment: g.chance(20)}
	request.Key, request.RangeEnd = g.span()
	switch n := g.IntN(20); {
	case n < 8: // the present
	case n < 13:
		request.StartRevision = readable(g.Int64N(symbolSpan))
	case n < 15:
		request.StartRevision = compacted(g.Int64N(3))
	case n < 17:
		request.StartRevision = history(g.Int64N(symbolSpan))
	case n < 19:
		request.StartRevision = current(1 + g.Int64N(20))
	default:
		request.StartRevision = -1 - g.Int64N(3)
	}
	if g.chance(20) {
		request.WatchId = 1 + g.Int64N(8)
	}
	if g.chance(2) {
		request.WatchId = -2 - g.Int64N(3)
	}
	if g.chance(15) {
		request.Filters = append(request.Filters, pb.WatchCreateRequest_FilterType(g.IntN(2)))
	}
	if g.chance(2) {
		request.Filters = append(request.Filters, pb.WatchCreateRequest_FilterType(g.IntN(4)))
	}
	if g.chance(3) {
		request.Key = nil
	}
	g.add(step{kind: stepWatchCreate, stream: g.IntN(streamsMax), message: request})
}

func (g *generator) watchCancel() {
	g.add(step{kind: stepWatchCancel, stream: g.IntN(streamsMax), number: int64(g.IntN(12)) - 1})
}

func (g *generator) watchProgress() {
	g.add(step{kind: stepWatchProgress, stream: g.IntN(streamsMax)})
}

var unaryMethods = []string{"KV/Range", "KV/Put", "KV/DeleteRange", "KV/Txn", "KV/Compact", "Lease/LeaseGrant", "Lease/LeaseRevoke", "Lease/LeaseTimeToLive",
	"Maintenance/HashKV", "Maintenance/Alarm"}

func (g *generator) badInput() {
	switch n := g.IntN(24); {
	case n < 2: // larger than a request may be
		g.add(call("KV/Put", &pb.PutRequest{Key: g.key(), Value: make([]byte, maxRequestBytes+g.IntN(1000))}))
	case n < 3: // larger than a message may be
		g.add(call("KV/Put", &pb.PutRequest{Key: g.key(), Value: make([]byte, maxMessageBytes+1000)}))
	case n < 11:
		g.add(step{kind: stepRaw, method: unaryMethods[g.IntN(len(unaryMethods))], raw: [][]byte{g.garbage()}})
	case n < 13:
		methods := []string{"Watch/Watch", "Lease/LeaseKeepAlive", "KV/RangeStream"}
		g.add(step{kind: stepRaw, method: methods[g.IntN(len(methods))], raw: [][]byte{g.garbage()}})
	case n < 15:
		methods := []string{"KV/Nothing", "KV/", "Nothing/Range", "/no.such.Service/Method", "/etcdserverpb.KV/Range/more", "/nothing"}
		g.add(step{kind: stepRaw, method: methods[g.IntN(len(methods))], raw: [][]byte{{}}})
	case n < 18:
		g.add(call("KV/Txn", g.largeTxn()))
	case n < 20:
		g.add(call("KV/Put", &pb.PutRequest{Key: g.key(), Value: []byte("x"), IgnoreValue: true}))
	case n < 22:
		g.add(call("KV/Put", &pb.PutRequest{Key: g.key(), Lease: 3, IgnoreLease: true}))
	default:
		g.add(call("KV/Put", &pb.PutRequest{Value: g.value()}))
	}
}

// Bytes that no message begins with: a field of an impossible type, a length past the end, an endless number, or a message cut short.
func (g *generator) garbage() []byte {
	switch g.IntN(5) {
	case 0:
		return []byte{0x0f, 0x01}
	case 1:
		return []byte{0x0a, 0x7f, 'x'}
	case 2:
		return bytes.Repeat([]byte{0xff}, 1+g.IntN(30))
	case 3:
		return []byte{0x00, 0x00}
	}
	valid, _ := proto.Marshal(&pb.PutRequest{Key: []byte("cut"), Value: []byte("short")})
	return valid[:len(valid)-1-g.IntN(3)]
}

// Near and beyond the greatest number of operations.
func (g *generator) largeTxn() *pb.TxnRequest {
	txn := &pb.TxnRequest{}
	count := 127 + g.IntN(3)
	for i := range count {
		key := []byte{'l', 'a', byte(i)}
		switch g.IntN(3) {
		case 0:
			txn.Compare = append(txn.Compare, &pb.Compare{Key: key, Target: pb.Compare_VERSION, Result: pb.Compare_NOT_EQUAL, TargetUnion: &pb.Compare_Version{Version: -1}})
			fallthrough
		default:
			txn.Success = append(txn.Success, rangeOp(&pb.RangeRequest{Key: key, CountOnly: true}))
		}
	}
	return txn
}
