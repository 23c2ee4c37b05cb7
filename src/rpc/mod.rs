//! gRPC over HTTP/2: connections in, calls out.
//!
//! ```text
//! socket ⇄ Wire ⇄ h2 ⇄ Session ── Incoming ──▶ Port ──▶ pump ──▶ front
//!  64 KiB buffers,     one task      batches        ◀── send, finish ──
//!  shared, one recv    per connection
//!  and send per turn
//! ```
//!
//! A connection is one task, its *session*. A *turn* of it delivers what the front answered, lets h2 read and write until the socket has
//! no more, opens the calls that came in, and sends everything in one write. A unary call costs one [`Incoming`] event in and one or two
//! calls of the [`Port`] out; streams that wait for something are woken through a list of their own, so a turn touches only what changed.
//!
//! Invariants:
//!
//! * Every call opened at the port ends exactly once there: by [`Port::finish`], or by [`Incoming::Cancel`].
//! * What a client can make us hold is bounded: messages, partial messages, answers that it does not read, calls, connections
//!   (`base::limits`). A stream's answers are taken from the front as the client's window allows, and reported as [`Incoming::Sent`].
//! * Input is checked, never trusted; the texts of refusals are grpc-go's.
//!
//! What h2 does not let us do: see pings of the client (grpc-go closes connections that ping more often than every 5 s), and answer
//! a `:path` that is no path (h2 resets the stream where grpc-go says "malformed method name").

mod connections;
mod framing;
mod headers;
mod payload;
mod port;
mod queue;
mod session;
mod signal;
mod stream;
mod wire;

pub use connections::{Connections, Options, Stopping, accept};
pub use port::{Incoming, Port, place};
pub use wire::{Buffers, Wire};
