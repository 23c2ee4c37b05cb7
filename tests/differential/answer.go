package main

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// What a server said to one step: messages, then a status; and, of steps that check something themselves, what was wrong.
type answer struct {
	code     codes.Code
	text     string
	messages []proto.Message
	notes    []string // observations that must be equal on both sides as well
}

func (a answer) String() string {
	var lines []string
	for _, message := range a.messages {
		lines = append(lines, show(message))
	}
	if a.code != codes.OK {
		lines = append(lines, fmt.Sprintf("error %s %q", a.code, a.text))
	}
	lines = append(lines, a.notes...)
	if len(lines) == 0 {
		return "nothing"
	}
	return strings.Join(lines, "\n")
}

func (a *answer) fail(err error) {
	problem := status.Convert(err)
	a.code, a.text = problem.Code(), stableText(problem.Message())
}

// The protobuf library's errors hold, on purpose, sometimes a space and sometimes a no-break space.
func stableText(text string) string { return strings.ReplaceAll(text, "\u00a0", " ") }

// Takes out of the messages what may differ between two servers: ids, terms, sizes, URLs, and the order of what has none.
type normaliser struct {
	cluster, member uint64 // as first seen in a header
}

const ( // what stands for the ids of a header: the same as in all headers of this server before, or others
	idsAsBefore = 1
	idsChanged  = 2
)

func (n *normaliser) headers(message protoreflect.Message) {
	if header, ok := message.Interface().(*pb.ResponseHeader); ok {
		n.header(header)
		return
	}
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Message() == nil || field.IsMap():
		case field.IsList():
			for i := range value.List().Len() {
				n.headers(value.List().Get(i).Message())
			}
		default:
			n.headers(value.Message())
		}
		return true
	})
}

func (n *normaliser) header(header *pb.ResponseHeader) {
	stand := func(id uint64, first *uint64) uint64 {
		switch {
		case id == 0:
			return 0
		case *first == 0 || *first == id:
			*first = id
			return idsAsBefore
		}
		return idsChanged
	}
	header.ClusterId = stand(header.ClusterId, &n.cluster)
	header.MemberId = stand(header.MemberId, &n.member)
	if header.RaftTerm != 0 {
		header.RaftTerm = 1
	}
}

func (n *normaliser) message(request, reply proto.Message) {
	n.headers(reply.ProtoReflect())
	switch reply := reply.(type) {
	case *pb.RangeResponse:
		if request, ok := request.(*pb.RangeRequest); ok {
			settleTies(request, reply)
		}
	case *pb.TxnResponse:
		if request, ok := request.(*pb.TxnRequest); ok {
			settleTiesInTxn(request, reply)
		}
	case *pb.LeaseTimeToLiveResponse:
		slices.SortFunc(reply.Keys, bytes.Compare)
	case *pb.LeaseLeasesResponse:
		slices.SortFunc(reply.Leases, func(a, b *pb.LeaseStatus) int { return int(min(max(a.ID-b.ID, -1), 1)) })
	case *pb.AlarmResponse:
		for _, alarm := range reply.Alarms {
			alarm.MemberID = n.standIn(alarm.MemberID)
		}
		slices.SortFunc(reply.Alarms, func(a, b *pb.AlarmMember) int {
			return 4*int(min(max(int64(a.MemberID-b.MemberID), -1), 1)) + int(a.Alarm-b.Alarm)
		})
	case *pb.StatusResponse:
		n.status(reply)
	case *pb.MemberListResponse:
		for _, member := range reply.Members {
			member.ID = n.standIn(member.ID)
			for i := range member.PeerURLs {
				member.PeerURLs[i] = "http://peer"
			}
			for i := range member.ClientURLs {
				member.ClientURLs[i] = "http://client"
			}
		}
	}
}

func (n *normaliser) standIn(member uint64) uint64 {
	if member != 0 && member == n.member {
		return idsAsBefore
	}
	return member
}

// Of Status stay the version, the quota, the errors and the downgrade; the sizes and raft's numbers go. The storage version is set some time after a start.
func (n *normaliser) status(reply *pb.StatusResponse) {
	reply.DbSize, reply.DbSizeInUse = min(reply.DbSize, 1), min(reply.DbSizeInUse, 1)
	reply.RaftIndex, reply.RaftAppliedIndex, reply.RaftTerm = min(reply.RaftIndex, 1), min(reply.RaftAppliedIndex, 1), min(reply.RaftTerm, 1)
	reply.Leader = n.standIn(reply.Leader)
	reply.StorageVersion = ""
	for i, text := range reply.Errors {
		text = strings.ReplaceAll(text, fmt.Sprint("memberID:", n.member), "memberID:own")
		reply.Errors[i] = strings.Join(strings.Fields(text), " ") // the protobuf library's text form has one space or two, by build
	}
	sort.Strings(reply.Errors)
}

// etcd sorts by other targets than the key with an unstable sort; up to this many keys it is an insertion sort, thus stable.
const stableSortMax = 12

// Puts keys that are equal in the sort target into key order. Where the limit cut through a group of equal ones, their choice is the server's: only what they are equal in stays.
func settleTies(request *pb.RangeRequest, reply *pb.RangeResponse) {
	if request.SortTarget == pb.RangeRequest_KEY || reply.Count <= stableSortMax {
		return
	}
	equal := func(a, b *mvccpb.KeyValue) bool {
		switch request.SortTarget {
		case pb.RangeRequest_VERSION:
			return a.Version == b.Version
		case pb.RangeRequest_CREATE:
			return a.CreateRevision == b.CreateRevision
		case pb.RangeRequest_MOD:
			return a.ModRevision == b.ModRevision
		}
		return bytes.Equal(a.Value, b.Value)
	}
	if request.SortTarget == pb.RangeRequest_VALUE && request.KeysOnly && reply.More {
		// Without values nobody sees which ones are equal, nor which of them the limit left: only how many there are stays.
		for _, kv := range reply.Kvs {
			kv.Reset()
		}
		return
	}
	for from := 0; from < len(reply.Kvs); {
		to := from + 1
		for to < len(reply.Kvs) && equal(reply.Kvs[from], reply.Kvs[to]) {
			to++
		}
		group := reply.Kvs[from:to]
		slices.SortFunc(group, func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
		if to == len(reply.Kvs) && reply.More {
			for _, kv := range group {
				kept := onlyTarget(request.SortTarget, kv)
				kv.Reset()
				proto.Merge(kv, kept)
			}
		}
		from = to
	}
}

func onlyTarget(target pb.RangeRequest_SortTarget, kv *mvccpb.KeyValue) *mvccpb.KeyValue {
	switch target {
	case pb.RangeRequest_VERSION:
		return &mvccpb.KeyValue{Version: kv.Version}
	case pb.RangeRequest_CREATE:
		return &mvccpb.KeyValue{CreateRevision: kv.CreateRevision}
	case pb.RangeRequest_MOD:
		return &mvccpb.KeyValue{ModRevision: kv.ModRevision}
	}
	return &mvccpb.KeyValue{Value: kv.Value}
}

func settleTiesInTxn(request *pb.TxnRequest, reply *pb.TxnResponse) {
	branch := request.Failure
	if reply.Succeeded {
		branch = request.Success
	}
	if len(branch) != len(reply.Responses) {
		return
	}
	for i, operation := range branch {
		if request, reply := operation.GetRequestRange(), reply.Responses[i].GetResponseRange(); request != nil && reply != nil {
			settleTies(request, reply)
		}
		if request, reply := operation.GetRequestTxn(), reply.Responses[i].GetResponseTxn(); request != nil && reply != nil {
			settleTiesInTxn(request, reply)
		}
	}
}

// Remaining times to live are read at slightly different moments: up to this many seconds apart they count as equal.
const timeToLiveSlackSeconds = 2

// Why the two answers differ, or "".
func differ(expected, actual answer) string {
	if expected.code != actual.code {
		return fmt.Sprintf("code: %s, not %s", actual.code, expected.code)
	}
	if expected.text != actual.text {
		return fmt.Sprintf("error text: %q, not %q", actual.text, expected.text)
	}
	if len(expected.messages) != len(actual.messages) {
		return fmt.Sprintf("%d messages, not %d", len(actual.messages), len(expected.messages))
	}
	for i := range expected.messages {
		evenTimeToLive(expected.messages[i], actual.messages[i])
		if !proto.Equal(expected.messages[i], actual.messages[i]) {
			path := firstDifference(expected.messages[i].ProtoReflect(), actual.messages[i].ProtoReflect())
			if len(expected.messages) > 1 {
				path = fmt.Sprintf("message %d: %s", i, path)
			}
			return path
		}
	}
	if !slices.Equal(expected.notes, actual.notes) {
		return fmt.Sprintf("%q, not %q", actual.notes, expected.notes)
	}
	return ""
}

func evenTimeToLive(expected, actual proto.Message) {
	left, ok1 := expected.(*pb.LeaseTimeToLiveResponse)
	right, ok2 := actual.(*pb.LeaseTimeToLiveResponse)
	if ok1 && ok2 && left.TTL >= 0 && right.TTL >= 0 && max(left.TTL-right.TTL, right.TTL-left.TTL) <= timeToLiveSlackSeconds {
		right.TTL = left.TTL
	}
}

// The path of the first field in which two messages of one type differ, with both values.
func firstDifference(expected, actual protoreflect.Message) string {
	fields := expected.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if expected.Has(field) != actual.Has(field) {
			return fmt.Sprintf("%s: %s, not %s", field.Name(), showField(actual, field), showField(expected, field))
		}
		if !expected.Has(field) || expected.Get(field).Equal(actual.Get(field)) {
			continue
		}
		if field.IsList() {
			return differenceInList(field, expected.Get(field).List(), actual.Get(field).List())
		}
		if field.Message() != nil {
			return fmt.Sprintf("%s.%s", field.Name(), firstDifference(expected.Get(field).Message(), actual.Get(field).Message()))
		}
		return fmt.Sprintf("%s: %s, not %s", field.Name(), showField(actual, field), showField(expected, field))
	}
	return "unknown fields"
}

func differenceInList(field protoreflect.FieldDescriptor, expected, actual protoreflect.List) string {
	for i := range min(expected.Len(), actual.Len()) {
		if expected.Get(i).Equal(actual.Get(i)) {
			continue
		}
		if field.Message() != nil {
			return fmt.Sprintf("%s[%d].%s", field.Name(), i, firstDifference(expected.Get(i).Message(), actual.Get(i).Message()))
		}
		return fmt.Sprintf("%s[%d]: %v, not %v", field.Name(), i, actual.Get(i), expected.Get(i))
	}
	return fmt.Sprintf("%s: %d of them, not %d", field.Name(), actual.Len(), expected.Len())
}

func showField(message protoreflect.Message, field protoreflect.FieldDescriptor) string {
	if !message.Has(field) {
		return "unset"
	}
	value := message.Get(field)
	switch {
	case field.IsList():
		return fmt.Sprintf("%d of them", value.List().Len())
	case field.Message() != nil:
		return "{" + show(value.Message().Interface()) + "}"
	case field.Kind() == protoreflect.BytesKind:
		return quote(value.Bytes())
	}
	return value.String()
}
