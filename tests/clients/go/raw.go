package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Calls made frame by frame, for what no grpc client would do.

func headerBlock(method string) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	encoder.SetMaxDynamicTableSize(0)
	for _, field := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "localhost"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		// Into memory: it cannot fail.
		_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	return block.Bytes()
}

// A range request in its gRPC frame.
func rangeMessage(key, end string) []byte {
	body, err := proto.Marshal(&pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end)})
	if err != nil {
		panic(fmt.Sprint("a range request is always encoded: ", err))
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
}

// Opens a connection and begins so many calls on it, each with these bytes. Nothing is read but the server's settings.
func rawCalls(endpoint string, count int, method string, body []byte) (net.Conn, error) {
	conn, err := idleConnection(endpoint)
	if err != nil {
		return nil, err
	}
	framer := http2.NewFramer(conn, nil)
	block := headerBlock(method)
	for i := range count {
		stream := uint32(2*i + 1)
		err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true})
		if err == nil {
			err = framer.WriteData(stream, true, body)
		}
		if err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}
