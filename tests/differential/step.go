package main

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

type stepKind int

const (
	stepCall          stepKind = iota // a unary call of method with message
	stepRangeStream                   // KV/RangeStream, its chunks joined
	stepKeepAlive                     // one message on the lease keep-alive stream, one answer
	stepRaw                           // the bytes of raw as messages of method, valid protobuf or not
	stepWatchCreate                   // create a watch on stream number stream
	stepWatchCancel                   // cancel watch id number
	stepWatchProgress                 // ask for progress; answered if the model of watches says so
	stepWatchSilence                  // ask for progress, which must not be answered within a short time
	stepWatchNotified                 // wait until watch id number on the stream has been told, unasked, that it has everything of the current revision
	stepDrain                         // wait for all events of all watches, compare them
	stepShortLease                    // grant message (a lease that would soon expire), then revoke it at once
	stepRandomLease                   // grant a lease with an id of the server's choice, then revoke it
	stepAwaitExpiry                   // wait until lease number is gone on both
	stepRestart                       // stop both servers with SIGTERM, start them on the same data
)

// One thing to do to both servers. Steps are data, so that a sequence can be shrunk and printed.
type step struct {
	kind    stepKind
	method  string
	message proto.Message
	stream  int
	number  int64
	raw     [][]byte
}

func call(method string, message proto.Message) step {
	return step{kind: stepCall, method: method, message: message}
}

// The methods of unary calls, with the empty form of their answers.
var answers = map[string]proto.Message{
	"KV/Range":              &pb.RangeResponse{},
	"KV/RangeStream":        &pb.RangeStreamResponse{},
	"KV/Put":                &pb.PutResponse{},
	"KV/DeleteRange":        &pb.DeleteRangeResponse{},
	"KV/Txn":                &pb.TxnResponse{},
	"KV/Compact":            &pb.CompactionResponse{},
	"Lease/LeaseGrant":      &pb.LeaseGrantResponse{},
	"Lease/LeaseRevoke":     &pb.LeaseRevokeResponse{},
	"Lease/LeaseKeepAlive":  &pb.LeaseKeepAliveResponse{},
	"Lease/LeaseTimeToLive": &pb.LeaseTimeToLiveResponse{},
	"Lease/LeaseLeases":     &pb.LeaseLeasesResponse{},
	"Watch/Watch":           &pb.WatchResponse{},
	"Maintenance/Alarm":     &pb.AlarmResponse{},
	"Maintenance/Status":    &pb.StatusResponse{},
	"Maintenance/HashKV":    &pb.HashKVResponse{},
	"Cluster/MemberList":    &pb.MemberListResponse{},
}

func (s step) String() string {
	switch s.kind {
	case stepCall:
		return s.method + " " + show(s.message)
	case stepRangeStream:
		return "KV/RangeStream " + show(s.message)
	case stepKeepAlive:
		return fmt.Sprintf("Lease/LeaseKeepAlive ID:%d", s.number)
	case stepRaw:
		text := s.method + " with raw messages"
		for _, message := range s.raw {
			text += " " + quote(message)
		}
		return text
	case stepWatchCreate:
		return fmt.Sprintf("Watch/Watch stream %d create %s", s.stream, show(s.message))
	case stepWatchCancel:
		return fmt.Sprintf("Watch/Watch stream %d cancel watch_id:%d", s.stream, s.number)
	case stepWatchProgress:
		return fmt.Sprintf("Watch/Watch stream %d progress", s.stream)
	case stepWatchSilence:
		return fmt.Sprintf("Watch/Watch stream %d progress, which must not be answered", s.stream)
	case stepWatchNotified:
		return fmt.Sprintf("Watch/Watch stream %d wait for a progress notification of watch_id:%d", s.stream, s.number)
	case stepDrain:
		return "wait for the events of all watches"
	case stepShortLease:
		return "Lease/LeaseGrant, then revoke: " + show(s.message)
	case stepRandomLease:
		return "Lease/LeaseGrant with ID 0, then revoke: " + show(s.message)
	case stepAwaitExpiry:
		return fmt.Sprintf("wait until lease %d has expired", s.number)
	case stepRestart:
		return "restart both servers"
	}
	return "?"
}

const shownBytesMax = 48

func quote(value []byte) string {
	if len(value) > shownBytesMax {
		return fmt.Sprintf("%q... (%d bytes)", value[:shownBytesMax], len(value))
	}
	return fmt.Sprintf("%q", value)
}

// A message on one line, with long values cut and symbolic numbers by name.
func show(message proto.Message) string {
	if message == nil {
		return "nothing"
	}
	copied := proto.Clone(message)
	cutLongValues(copied.ProtoReflect())
	text := prototext.MarshalOptions{Multiline: false}.Format(copied)
	if text == "" {
		text = "{}"
	}
	return nameSymbols(text)
}

func cutLongValues(message protoreflect.Message) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				cutLongValues(value.List().Get(i).Message())
			}
		case field.IsList():
		case field.Message() != nil:
			cutLongValues(value.Message())
		case field.Kind() == protoreflect.BytesKind && len(value.Bytes()) > shownBytesMax:
			long := value.Bytes()
			cut := fmt.Appendf(append([]byte{}, long[:shownBytesMax]...), "... (%d bytes)", len(long))
			message.Set(field, protoreflect.ValueOfBytes(cut))
		}
		return true
	})
}
