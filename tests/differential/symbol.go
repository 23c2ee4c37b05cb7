package main

import (
	"fmt"
	"regexp"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Symbolic numbers stand in requests for revisions and ids that are known only while a sequence runs: "the revision two before the current one".
// So a sequence still makes sense when steps are left out of it, which is what shrinking does. They live in ranges of int64 that no real request uses:
//
//	symbolCurrent   + n   the current revision plus n (n may be negative)
//	symbolCompacted + n   the compacted revision plus n
//	symbolHistory   + n   some revision from 1 to the current one, chosen by n
//	symbolReadable  + n   some revision from the compacted one to the current one, chosen by n
//
// and, of uint64 fields, symbolMember: the member id of the server that the request goes to.
const (
	symbolSpan            = int64(1) << 30
	symbolCurrent   int64 = 1<<60 + 1*(1<<40)
	symbolCompacted int64 = 1<<60 + 2*(1<<40)
	symbolHistory   int64 = 1<<60 + 3*(1<<40)
	symbolReadable  int64 = 1<<60 + 4*(1<<40)

	symbolMember uint64 = 1<<63 + 77
)

func current(offset int64) int64   { return symbolCurrent + offset }
func compacted(offset int64) int64 { return symbolCompacted + offset }
func history(choice int64) int64   { return symbolHistory + choice%symbolSpan }
func readable(choice int64) int64  { return symbolReadable + choice%symbolSpan }

// What the symbolic numbers mean at one moment.
type meaning struct {
	current   int64
	compacted int64 // -1: never compacted
	member    uint64
}

func (m meaning) number(value int64) int64 {
	within := func(base int64) (int64, bool) {
		offset := value - base
		return offset, offset > -symbolSpan && offset < symbolSpan
	}
	if offset, ok := within(symbolCurrent); ok {
		return m.current + offset
	}
	if offset, ok := within(symbolCompacted); ok {
		return m.compacted + offset
	}
	if choice, ok := within(symbolHistory); ok {
		return 1 + choice%m.current
	}
	if choice, ok := within(symbolReadable); ok {
		first := max(m.compacted, 1)
		return first + choice%(m.current-first+1)
	}
	return value
}

// A copy of the message in which every symbolic number has its meaning.
func (m meaning) resolve(message proto.Message) proto.Message {
	copied := proto.Clone(message)
	m.resolveIn(copied.ProtoReflect())
	return copied
}

func (m meaning) resolveIn(message protoreflect.Message) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				m.resolveIn(value.List().Get(i).Message())
			}
		case field.IsList():
		case field.Message() != nil:
			m.resolveIn(value.Message())
		case field.Kind() == protoreflect.Int64Kind:
			message.Set(field, protoreflect.ValueOfInt64(m.number(value.Int())))
		case field.Kind() == protoreflect.Uint64Kind && value.Uint() == symbolMember:
			message.Set(field, protoreflect.ValueOfUint64(m.member))
		}
		return true
	})
}

var longNumber = regexp.MustCompile(`\d{19}`)

// Puts names in place of the symbolic numbers in a printed message.
func nameSymbols(text string) string {
	return longNumber.ReplaceAllStringFunc(text, func(digits string) string {
		if digits == strconv.FormatUint(symbolMember, 10) {
			return "<own member id>"
		}
		value, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			return digits
		}
		for _, symbol := range []struct {
			base int64
			name string
		}{{symbolCurrent, "current"}, {symbolCompacted, "compacted"}, {symbolHistory, "some of history"}, {symbolReadable, "some readable"}} {
			if offset := value - symbol.base; offset > -symbolSpan && offset < symbolSpan {
				return fmt.Sprintf("<%s%+d>", symbol.name, offset)
			}
		}
		return digits
	})
}
