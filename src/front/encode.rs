//! Answers as the wire carries them, written by hand where they are hot: prefix and message in one buffer, each value copied once.

use bytes::{BufMut, Bytes, BytesMut};

use crate::proto::etcdserverpb as pb;
use crate::proto::mvccpb::KeyValue;

use super::call::{MESSAGE_PREFIX_BYTES, message_prefix};

/// The wire's types of fields: a varint, or bytes with their length before them.
const VARINT: u32 = 0;
const BYTES: u32 = 2;

/// The bytes of a varint.
#[inline]
pub const fn varint_len(value: u64) -> usize {
    ((value | 1).ilog2() as usize * 9 + 73) / 64
}

/// Writes a varint.
#[inline]
pub fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// The bytes of a field with a number; none when it is 0. For field numbers up to 15.
#[inline]
pub const fn number_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

/// Writes a field with a number, unless it is 0.
#[inline]
pub fn put_number(out: &mut BytesMut, field: u32, value: u64) {
    if value != 0 {
        out.put_u8((field << 3 | VARINT) as u8);
        put_varint(out, value);
    }
}

/// The bytes of a field that is a message or bytes of `len`.
#[inline]
pub const fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// Writes the tag and length of a field that is a message or bytes.
#[inline]
pub fn put_field(out: &mut BytesMut, field: u32, len: usize) {
    out.put_u8((field << 3 | BYTES) as u8);
    put_varint(out, len as u64);
}

#[inline]
fn bytes_len(bytes: &Bytes) -> usize {
    if bytes.is_empty() { 0 } else { field_len(bytes.len()) }
}

#[inline]
fn put_bytes(out: &mut BytesMut, field: u32, bytes: &Bytes) {
    if !bytes.is_empty() {
        put_field(out, field, bytes.len());
        out.put_slice(bytes);
    }
}

/// A buffer for a message of `len` bytes with its prefix written.
pub fn framed(len: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(MESSAGE_PREFIX_BYTES + len);
    out.put_slice(&message_prefix(len));
    out
}

/// The bytes of a header's fields.
pub const fn header_len(header: &pb::ResponseHeader) -> usize {
    number_len(header.cluster_id)
        + number_len(header.member_id)
        + number_len(header.revision as u64)
        + number_len(header.raft_term)
}

/// Writes field 1, which is the header in every response.
pub fn put_header(out: &mut BytesMut, header: &pb::ResponseHeader) {
    put_field(out, 1, header_len(header));
    put_number(out, 1, header.cluster_id);
    put_number(out, 2, header.member_id);
    put_number(out, 3, header.revision as u64);
    put_number(out, 4, header.raft_term);
}

/// The bytes of a key's fields.
pub fn kv_len(kv: &KeyValue) -> usize {
    bytes_len(&kv.key)
        + number_len(kv.create_revision as u64)
        + number_len(kv.mod_revision as u64)
        + number_len(kv.version as u64)
        + bytes_len(&kv.value)
        + number_len(kv.lease as u64)
}

/// Writes a key as the message `field`.
pub fn put_kv(out: &mut BytesMut, field: u32, len: usize, kv: &KeyValue) {
    put_field(out, field, len);
    put_bytes(out, 1, &kv.key);
    put_number(out, 2, kv.create_revision as u64);
    put_number(out, 3, kv.mod_revision as u64);
    put_number(out, 4, kv.version as u64);
    put_bytes(out, 5, &kv.value);
    put_number(out, 6, kv.lease as u64);
}

/// A PutResponse.
pub fn put_response(header: &pb::ResponseHeader, prev: Option<&KeyValue>) -> Bytes {
    let prev = prev.map(|kv| (kv, kv_len(kv)));
    let len = field_len(header_len(header)) + prev.map_or(0, |(_, len)| field_len(len));
    let mut out = framed(len);
    put_header(&mut out, header);
    if let Some((kv, len)) = prev {
        put_kv(&mut out, 2, len, kv);
    }
    sealed(out, len)
}

/// A DeleteRangeResponse.
pub fn delete_response(header: &pb::ResponseHeader, deleted: i64, prevs: &[KeyValue]) -> Bytes {
    let lens: Vec<usize> = prevs.iter().map(kv_len).collect();
    let len =
        field_len(header_len(header)) + number_len(deleted as u64) + lens.iter().map(|&len| field_len(len)).sum::<usize>();
    let mut out = framed(len);
    put_header(&mut out, header);
    put_number(&mut out, 2, deleted as u64);
    for (kv, &len) in prevs.iter().zip(&lens) {
        put_kv(&mut out, 3, len, kv);
    }
    sealed(out, len)
}

/// A RangeResponse. Without a header: a chunk of a RangeStream that is not its last.
pub fn range_response(header: Option<&pb::ResponseHeader>, kvs: &[KeyValue], more: bool, count: i64) -> Bytes {
    let (len, lens) = range_len(header, kvs, more, count);
    let mut out = framed(len);
    put_range(&mut out, header, (kvs, &lens), more, count);
    sealed(out, len)
}

/// Keys as fields of a RangeResponse.
pub fn range_part(kvs: &[KeyValue]) -> Bytes {
    range_tail(kvs, false, 0)
}

/// Keys, and what comes behind them in a RangeResponse.
fn range_tail(kvs: &[KeyValue], more: bool, count: i64) -> Bytes {
    let (len, lens) = range_len(None, kvs, more, count);
    let mut out = BytesMut::with_capacity(len);
    put_range(&mut out, None, (kvs, &lens), more, count);
    assert_eq!(out.len(), len, "a part is as long as was reckoned");
    out.freeze()
}

/// A RangeResponse whose first keys are encoded, in parts: what comes before them, they, and what comes behind.
pub fn range_response_around(
    header: &pb::ResponseHeader,
    encoded: Vec<Bytes>,
    kvs: &[KeyValue],
    more: bool,
    count: i64,
) -> Vec<Bytes> {
    let before = field_len(header_len(header));
    let mut head = framed(before);
    put_header(&mut head, header);
    let tail = range_tail(kvs, more, count);
    let len = before + encoded.iter().map(Bytes::len).sum::<usize>() + tail.len();
    head[..MESSAGE_PREFIX_BYTES].copy_from_slice(&message_prefix(len));
    let mut parts = Vec::with_capacity(encoded.len() + 2);
    parts.push(head.freeze());
    parts.extend(encoded);
    parts.push(tail);
    parts
}

/// A RangeResponse with one key, or none.
pub fn get_response(header: &pb::ResponseHeader, kv: Option<&KeyValue>) -> Bytes {
    let kv_bytes = kv.map_or(0, kv_len);
    let count = u64::from(kv.is_some());
    let len = field_len(header_len(header)) + kv.map_or(0, |_| field_len(kv_bytes)) + number_len(count);
    let mut out = framed(len);
    put_header(&mut out, header);
    if let Some(kv) = kv {
        put_kv(&mut out, 2, kv_bytes, kv);
    }
    put_number(&mut out, 4, count);
    sealed(out, len)
}

/// A RangeStreamResponse.
pub fn range_stream_response(header: Option<&pb::ResponseHeader>, kvs: &[KeyValue], more: bool, count: i64) -> Bytes {
    let (len, lens) = range_len(header, kvs, more, count);
    let mut out = framed(field_len(len));
    put_field(&mut out, 1, len);
    put_range(&mut out, header, (kvs, &lens), more, count);
    sealed(out, field_len(len))
}

fn range_len(header: Option<&pb::ResponseHeader>, kvs: &[KeyValue], more: bool, count: i64) -> (usize, Vec<usize>) {
    let lens: Vec<usize> = kvs.iter().map(kv_len).collect();
    let len = header.map_or(0, |h| field_len(header_len(h)))
        + lens.iter().map(|&len| field_len(len)).sum::<usize>()
        + number_len(u64::from(more))
        + number_len(count as u64);
    (len, lens)
}

fn put_range(out: &mut BytesMut, header: Option<&pb::ResponseHeader>, kvs: (&[KeyValue], &[usize]), more: bool, count: i64) {
    if let Some(header) = header {
        put_header(out, header);
    }
    for (kv, &len) in kvs.0.iter().zip(kvs.1) {
        put_kv(out, 2, len, kv);
    }
    put_number(out, 3, u64::from(more));
    put_number(out, 4, count as u64);
}

/// The finished message; its length is what the prefix says.
fn sealed(out: BytesMut, len: usize) -> Bytes {
    assert_eq!(out.len(), MESSAGE_PREFIX_BYTES + len, "a message is as long as was reckoned");
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Prng;
    use crate::front::call::frame;

    fn header(rng: &mut Prng) -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: rng.u64() >> rng.below(64),
            member_id: rng.u64(),
            revision: rng.below(1 << 40) as i64,
            raft_term: rng.below(300),
        }
    }

    fn kv(rng: &mut Prng) -> KeyValue {
        let bytes = |rng: &mut Prng, max: u64| Bytes::from((0..rng.below(max)).map(|_| rng.u64() as u8).collect::<Vec<_>>());
        KeyValue {
            key: bytes(rng, 20),
            value: bytes(rng, 300),
            create_revision: rng.below(300) as i64,
            mod_revision: rng.below(1 << 50) as i64,
            version: rng.below(3) as i64,
            lease: rng.u64() as i64 >> rng.below(64),
        }
    }

    #[test]
    fn by_hand_is_as_prost_writes_it() {
        let rng = &mut Prng::new(3);
        for round in 0..2000 {
            let header = header(rng);
            let kvs: Vec<KeyValue> = (0..rng.below(5)).map(|_| kv(rng)).collect();
            let prev = kvs.first().cloned();
            let by_hand = put_response(&header, prev.as_ref());
            assert_eq!(by_hand, frame(&pb::PutResponse { header: Some(header), prev_kv: prev }), "round {round}");
            let one: Vec<KeyValue> = kvs.first().cloned().into_iter().collect();
            let got = get_response(&header, one.first());
            let count = one.len() as i64;
            let get = pb::RangeResponse { header: Some(header), kvs: one, more: false, count };
            assert_eq!(got, frame(&get), "round {round}");
            let (more, count) = (rng.chance(1, 2), rng.below(1000) as i64);
            let range = pb::RangeResponse { header: Some(header), kvs: kvs.clone(), more, count };
            assert_eq!(range_response(Some(&header), &kvs, more, count), frame(&range), "round {round}");
            let stream = pb::RangeStreamResponse { range_response: Some(pb::RangeResponse { header: None, ..range }) };
            assert_eq!(range_stream_response(None, &kvs, more, count), frame(&stream), "round {round}");
            let delete = pb::DeleteRangeResponse { header: Some(header), deleted: count, prev_kvs: kvs.clone() };
            assert_eq!(delete_response(&header, count, &kvs), frame(&delete), "round {round}");
        }
    }

    #[test]
    fn varints_are_as_long_as_said() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut out = BytesMut::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "{value}");
            }
        }
    }
}
