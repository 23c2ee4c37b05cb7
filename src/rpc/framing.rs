//! Whole gRPC messages out of the bytes of a stream.
//!
//! A message is one byte of flags (1: compressed), four of length, and the length's bytes; where DATA frames begin and end means nothing.

use bytes::{Bytes, BytesMut};

use crate::base::limits::MESSAGE_RESERVE_BYTES_MAX;
use crate::front::{Code, Kind, MESSAGE_PREFIX_BYTES, Status};

/// Cuts messages out of the bytes that come in.
#[derive(Debug)]
pub(super) struct Assembler {
    /// The largest message taken.
    bytes_max: usize,
    /// Bytes of a message that has not come in whole, its prefix included.
    partial: BytesMut,
}

impl Assembler {
    pub fn new(bytes_max: usize) -> Assembler {
        Assembler { bytes_max, partial: BytesMut::new() }
    }

    /// Bytes held of a message that has not come in whole.
    pub fn partial_bytes(&self) -> usize {
        self.partial.len()
    }

    /// Takes what is needed for the next message off the front of `input`. None when all of it is taken and the message is not whole.
    ///
    /// A message that lies whole in `input` shares its memory.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, Status> {
        if self.partial.is_empty()
            && let Some(len) = self.length(input)?
            && input.len() >= MESSAGE_PREFIX_BYTES + len
        {
            let mut message = input.split_to(MESSAGE_PREFIX_BYTES + len);
            check_flags(message[0])?;
            return Ok(Some(message.split_off(MESSAGE_PREFIX_BYTES)));
        }
        if self.partial.len() < MESSAGE_PREFIX_BYTES {
            let missing = (MESSAGE_PREFIX_BYTES - self.partial.len()).min(input.len());
            self.partial.extend_from_slice(&input.split_to(missing));
        }
        let Some(len) = self.length(&self.partial)? else { return Ok(None) };
        let whole = MESSAGE_PREFIX_BYTES + len;
        let missing = (whole - self.partial.len()).min(input.len());
        if self.partial.capacity() < whole {
            self.partial.reserve((whole - self.partial.len()).min(MESSAGE_RESERVE_BYTES_MAX.max(missing)));
        }
        self.partial.extend_from_slice(&input.split_to(missing));
        if self.partial.len() < whole {
            return Ok(None);
        }
        check_flags(self.partial[0])?;
        let mut message = std::mem::take(&mut self.partial).freeze();
        Ok(Some(message.split_off(MESSAGE_PREFIX_BYTES)))
    }

    /// The length of the message that `bytes` begin with, once it is known.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, Status> {
        let Some((&[_, a, b, c, d], _)) = bytes.split_first_chunk::<MESSAGE_PREFIX_BYTES>() else { return Ok(None) };
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if len > self.bytes_max {
            let text = format!("grpc: received message larger than max ({len} vs. {})", self.bytes_max);
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        Ok(Some(len))
    }

    /// The client sends no more. An error when that is in the middle of a message, or before the first one of a call that needs one;
    /// code and text are grpc-go's, which differ between unary calls and streams.
    pub fn end(&self, kind: Kind, seen_message: bool) -> Result<(), Status> {
        match (kind, self.partial.is_empty()) {
            (Kind::Unary, false) => Err(Status::new(Code::Unknown, "unexpected EOF")),
            (Kind::ServerStream | Kind::BidiStream, false) => Err(Status::new(Code::Internal, "unexpected EOF")),
            (Kind::Unary, true) if !seen_message => Err(Status::new(Code::Unknown, "EOF")),
            (Kind::ServerStream, true) if !seen_message => {
                let text = "cardinality violation: received no request message from non-client-streaming RPC";
                Err(Status::new(Code::Internal, text))
            }
            _ => Ok(()),
        }
    }
}

/// No compression is offered, so none is taken (a request that announces one is refused before, by its headers).
fn check_flags(flags: u8) -> Result<(), Status> {
    match flags {
        0 => Ok(()),
        1 => Err(Status::new(Code::Internal, "grpc: compressed flag set with identity or empty encoding")),
        other => Err(Status::new(Code::Internal, format!("grpc: received unexpected payload format {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Prng;
    use crate::front::message_prefix;

    fn framed(message: &[u8]) -> Vec<u8> {
        [&message_prefix(message.len())[..], message].concat()
    }

    #[test]
    fn messages_come_out_however_the_bytes_are_cut() {
        let mut rng = Prng::new(1);
        for _ in 0..500 {
            let messages: Vec<Vec<u8>> =
                (0..rng.below(6)).map(|i| vec![i as u8; if rng.chance(1, 4) { 0 } else { rng.below(300) as usize }]).collect();
            let mut rest = Bytes::from(messages.iter().flat_map(|m| framed(m)).collect::<Vec<u8>>());
            let mut assembler = Assembler::new(1000);
            let mut seen = Vec::new();
            while !rest.is_empty() {
                let mut input = rest.split_to((1 + rng.below(80) as usize).min(rest.len()));
                while let Some(message) = assembler.next(&mut input).expect("well formed") {
                    seen.push(message.to_vec());
                }
                assert!(input.is_empty());
            }
            assert_eq!(seen, messages);
            assert_eq!(assembler.end(Kind::BidiStream, false), Ok(()));
        }
    }

    #[test]
    fn what_is_wrong_has_the_texts_of_grpc_go() {
        let refused = |bytes: &[u8]| Assembler::new(10).next(&mut Bytes::copy_from_slice(bytes)).expect_err("refused");
        let large = refused(&framed(&[0; 11]));
        assert_eq!(
            (large.code, &*large.message),
            (Code::ResourceExhausted, "grpc: received message larger than max (11 vs. 10)")
        );
        assert_eq!(refused(&[0, 255, 255, 255, 255]).code, Code::ResourceExhausted);
        assert_eq!(refused(&[1, 0, 0, 0, 0]).message, "grpc: compressed flag set with identity or empty encoding");
        assert_eq!(refused(&[7, 0, 0, 0, 1, 0]).message, "grpc: received unexpected payload format 7");
        let mut assembler = Assembler::new(10);
        assert_eq!(assembler.end(Kind::Unary, false), Err(Status::new(Code::Unknown, "EOF")));
        assert_eq!(assembler.end(Kind::ServerStream, false).map_err(|s| s.code), Err(Code::Internal));
        assert_eq!(assembler.next(&mut Bytes::from_static(&[0, 0, 0])), Ok(None));
        assert_eq!(assembler.end(Kind::Unary, false), Err(Status::new(Code::Unknown, "unexpected EOF")));
        assert_eq!(assembler.end(Kind::BidiStream, true), Err(Status::new(Code::Internal, "unexpected EOF")));
    }

    #[test]
    fn a_length_alone_takes_little_memory() {
        let mut assembler = Assembler::new(1 << 30);
        assert_eq!(assembler.next(&mut Bytes::from_static(&[0, 0x3F, 0, 0, 0, 1])), Ok(None));
        assert!(assembler.partial.capacity() <= 2 * MESSAGE_RESERVE_BYTES_MAX);
    }
}
