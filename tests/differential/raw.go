package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// A codec that sends bytes as they are, so that a message need not be valid protobuf, yet travels in a valid gRPC frame.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(value any) ([]byte, error) {
	bytes, ok := value.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("raw codec: %T", value)
	}
	return *bytes, nil
}

func (rawCodec) Unmarshal(data []byte, value any) error {
	bytes, ok := value.(*[]byte)
	if !ok {
		return fmt.Errorf("raw codec: %T", value)
	}
	*bytes = append([]byte{}, data...)
	return nil
}

const rawAnswersMax = 100

// Sends the raw messages to a method, which need not exist, closes the sending side, and takes what comes until the status.
func (c *session) raw(method string, messages [][]byte) answer {
	var a answer
	ctx, cancel := context.WithTimeout(context.Background(), callDeadline)
	defer cancel()
	description := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	path := method
	if path[0] != '/' {
		path = fullMethod(method)
	}
	stream, err := c.connection.NewStream(ctx, description, path, grpc.ForceCodec(rawCodec{}))
	if err != nil {
		a.fail(err)
		return a
	}
	for _, message := range messages {
		if err := stream.SendMsg(&message); err != nil {
			break // the status comes with RecvMsg
		}
	}
	stream.CloseSend()
	for range rawAnswersMax {
		var reply []byte
		if err := stream.RecvMsg(&reply); err != nil {
			if !errors.Is(err, io.EOF) {
				a.fail(err)
				a.text = withoutUnstableDetail(a.text)
			}
			return a
		}
		a.messages = append(a.messages, c.decode(method, messages, reply))
	}
	a.notes = append(a.notes, "more answers than fit")
	return a
}

// The answer as a message of the method's type, normalised; nil if it is none.
func (c *session) decode(method string, sent [][]byte, reply []byte) proto.Message {
	empty, ok := answers[method]
	if !ok {
		return nil
	}
	message := empty.ProtoReflect().New().Interface()
	if proto.Unmarshal(reply, message) != nil {
		return nil
	}
	c.normaliser.message(nil, message)
	return message
}
