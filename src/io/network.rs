//! TCP.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};

/// A bound socket that takes connections.
pub trait Listener: 'static {
    /// A connection taken; may be sent to another executor before [`Network::adopt`] ties it to one.
    type Accepted: Send + 'static;

    /// The next connection. An error is of one connection or for a while (too many open files): wait a little and go on.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Accepted>>;

    /// The address it is bound to, with the port that was chosen for port 0.
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// TCP sockets of one executor.
pub trait Network: Clone + 'static {
    /// A connection. Reads and writes go to the socket at once: whoever uses it coalesces its output.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;
    /// A bound socket.
    type Listener: Listener;

    /// Binds and listens (SO_REUSEADDR, as etcd does; a taken port is `AddrInUse`).
    fn listen(&self, address: SocketAddr) -> io::Result<Self::Listener>;

    /// Ties an accepted connection to this executor (TCP_NODELAY).
    fn adopt(&self, accepted: <Self::Listener as Listener>::Accepted) -> io::Result<Self::Stream>;

    /// Opens a connection.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>>;
}
