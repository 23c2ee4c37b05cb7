package main

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func leaseScripts() []sequence {
	short := func(lease, seconds int64) step {
		return step{kind: stepShortLease, message: &pb.LeaseGrantRequest{ID: lease, TTL: seconds}}
	}
	gone := func(lease int64) step { return step{kind: stepAwaitExpiry, number: lease} }
	names := []string{"z", "a", "m\xff", "m", "\x00", "\xff", "b", "many/9", "many/10"}
	attach := repeat(len(names), func(i int) step { return putLeased(names[i], fmt.Sprint(i), 4) })
	return []sequence{
		script("lease grants", grant(1, leaseSeconds), grant(1, leaseSeconds), grant(2, 9_000_000_000), grant(3, 9_000_000_001), grant(4, 1<<60), grant(-5, leaseSeconds), grant(1<<62, leaseSeconds),
			short(6, 1), short(7, 0), short(8, -1), short(9, -9_000_000_000), short(10, 2), short(11, 3), step{kind: stepRandomLease, message: &pb.LeaseGrantRequest{TTL: leaseSeconds}}, leases(), timeToLive(2), timeToLive(-5), timeToLive(6), timeToLive(0), revoke(-5), leases(), revoke(-5), revoke(0)),
		script("keep-alive", grant(1, leaseSeconds), renew(1), renew(2), renew(0), renew(-1), renew(1), put("a", "1"), renew(1), renew(3), revoke(1), renew(1)),
		script("lease revocation deletes in key order in one revision", watch(0, "\x00", "\x00", 0, withPrevious), grant(4, leaseSeconds), attach, timeToLive(4), revoke(4), get("\x00", "\x00"), timeToLive(4), drain(), hashKV(0),
			grant(4, leaseSeconds), timeToLive(4), revoke(4), revoke(4), hashKV(0), watch(1, "\x00", "\x00", 1), drain()),
		script("keys that change leases", grant(1, leaseSeconds), grant(2, leaseSeconds), putLeased("a", "1", 1), putLeased("b", "1", 1), putLeased("c", "1", 1), putLeased("a", "2", 2), put("b", "2"), remove("c", ""),
			timeToLive(1), timeToLive(2), txnOf(putOp(&pb.PutRequest{Key: []byte("b"), Value: []byte("3"), Lease: 1}), putOp(&pb.PutRequest{Key: []byte("d"), Lease: 1}), deleteOp(&pb.DeleteRangeRequest{Key: []byte("a")})), timeToLive(1), timeToLive(2),
			putWith(&pb.PutRequest{Key: []byte("d"), Value: []byte("2"), IgnoreLease: true}), timeToLive(1), revoke(1), get("\x00", "\x00"), revoke(2), get("\x00", "\x00"), putLeased("a", "3", 1), putLeased("a", "3", 2), get("\x00", "\x00"), hashKV(0)),
		script("lease expiry", watch(0, "\x00", "\x00", 0, withPrevious), grant(4, 1), attach, grant(5, leaseSeconds), putLeased("kept", "1", 5), gone(4), get("\x00", "\x00"), revoke(4), renew(4), timeToLive(5), drain(), hashKV(0), everyHash(12)),
		script("lease expiry after a restart", grant(4, 1), attach, grant(5, leaseSeconds), putLeased("kept", "1", 5), restart(), gone(4), get("\x00", "\x00"), timeToLive(5), hashKV(0)),
		script("a lease of many keys", watch(0, "\x00", "\x00", 0), grant(4, leaseSeconds), repeat(1200, func(i int) step { return putLeased(fmt.Sprint("many/", (i*7919)%1200), "v", 4) }), timeToLive(4), revoke(4), get("\x00", "\x00"), hashKV(0), drain()),
		script("leases after a restart", grant(1, leaseSeconds), putLeased("a", "1", 1), putLeased("b", "1", 1), put("b", "2"), grant(2, leaseSeconds), grant(3, leaseSeconds), revoke(3), restart(), leases(), timeToLive(1), timeToLive(2), timeToLive(3), grant(1, leaseSeconds), renew(1), renew(3), revoke(1), get("\x00", "\x00")),
	}
}

func otherScripts() []sequence {
	alarm := func(action pb.AlarmRequest_AlarmAction, member uint64, kind pb.AlarmType) step {
		return call("Maintenance/Alarm", &pb.AlarmRequest{Action: action, MemberID: member, Alarm: kind})
	}
	const get_, activate, deactivate = pb.AlarmRequest_GET, pb.AlarmRequest_ACTIVATE, pb.AlarmRequest_DEACTIVATE
	everything := []step{
		put("a", "1"), putLeased("a", "1", 1), putWith(&pb.PutRequest{}), putLeased("a", "1", 99), get("a", ""), ranged(&pb.RangeRequest{Key: []byte("a"), Serializable: true}), streamed(&pb.RangeRequest{Key: []byte("a")}), remove("b", ""), remove("nothing", ""),
		txnOf(), txnOf(r("a", "")), txnOf(d("c", "")), txnOf(p("c", "1")), txnOf(taken(p("c", "2"))), txnOf(taken(r("a", ""))), txnStep(&pb.TxnRequest{Failure: []*pb.RequestOp{p("c", "3")}}),
		grant(2, leaseSeconds), renew(1), timeToLive(1), leases(), revoke(99), hashKV(0), statusCall(), call("Cluster/MemberList", &pb.MemberListRequest{}), call("Cluster/MemberList", &pb.MemberListRequest{Linearizable: true}),
		watch(0, "a", "", 0, withPrevious), watch(0, "a", "", 1), compact(current(-1)), compact(current(1)), drain(), revoke(2), alarm(get_, 0, 0),
	}
	between := []step{put("b", "1"), put("c", "1"), put("c", "2"), grant(1, leaseSeconds), put("a", "2")}
	under := func(kind pb.AlarmType) []step {
		var steps []step
		steps = append(steps, between...)
		steps = append(steps, alarm(activate, symbolMember, kind), alarm(activate, symbolMember, kind))
		steps = append(steps, everything...)
		steps = append(steps, restart(), alarm(get_, 0, 0), put("a", "no"), get("a", ""), alarm(deactivate, symbolMember, kind), alarm(deactivate, symbolMember, kind))
		return append(steps, everything...)
	}
	return []sequence{
		script("alarm requests", alarm(get_, 0, 0), alarm(get_, 0, 1), alarm(get_, 0, 2), alarm(activate, 0, 0), alarm(deactivate, 0, 0), alarm(deactivate, 0, 1), alarm(activate, symbolMember, 1), alarm(get_, 0, 0), alarm(get_, 0, 1), alarm(get_, 0, 2), alarm(get_, 5, 1),
			statusCall(), alarm(activate, 0, 1), alarm(activate, 12345, 2), alarm(get_, 0, 0), statusCall(), alarm(deactivate, symbolMember, 1), alarm(get_, 0, 0), put("a", "1"), alarm(deactivate, 0, 1), put("a", "1"), alarm(deactivate, 12345, 2), put("a", "1"), alarm(deactivate, 12345, 2),
			alarm(get_, 0, 0), alarm(activate, 0, 9), alarm(get_, 0, 0), alarm(deactivate, 0, 9), put("a", "1")),
		script("under a NOSPACE alarm", under(pb.AlarmType_NOSPACE)),
		script("under a CORRUPT alarm", under(pb.AlarmType_CORRUPT)),
		script("members", call("Cluster/MemberList", &pb.MemberListRequest{}), call("Cluster/MemberList", &pb.MemberListRequest{Linearizable: true}), statusCall(), call("Maintenance/HashKV", &pb.HashKVRequest{}), restart(), call("Cluster/MemberList", &pb.MemberListRequest{})),
	}
}
