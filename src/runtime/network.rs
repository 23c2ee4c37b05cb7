//! TCP sockets.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Executor;
use super::readiness::{Direction, Registered};
use crate::base::limits::LISTEN_BACKLOG;
use crate::io::{Listener, Network};

/// How long a silent connection is left in peace before TCP asks whether the peer is there, and between such questions (as Go's listener).
const KEEPALIVE_SECONDS: libc::c_int = 15;

/// A connection of this executor.
pub struct Socket(Registered<TcpStream>);

/// A connection taken and not yet tied to an executor.
pub struct AcceptedSocket(TcpStream);

/// A socket that listens.
pub struct BoundListener(Registered<TcpListener>);

/// The addresses that `host` (a name or an IP address, IPv6 without brackets) means: what etcd listens on for a URL with it.
/// `localhost` gives 127.0.0.1 and ::1 where the system resolves it to both.
pub fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for address in (host, port).to_socket_addrs()? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Listens on everything that `host` means. An address family that this machine does not have is left out as long as another is there.
/// The error is of the first address that cannot be listened on, in the words of etcd: `listen tcp 127.0.0.1:2379: bind: address already in
/// use`.
pub fn listen_on(executor: &Executor, host: &str, port: u16) -> io::Result<Vec<BoundListener>> {
    let mut listeners = Vec::new();
    let mut missing = None;
    for address in resolve(host, port)? {
        match executor.listen(address) {
            Ok(listener) => listeners.push(listener),
            Err(e) => {
                let is_missing = matches!(e.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
                    && host.parse::<IpAddr>().is_err();
                let error = describe(address, &e);
                if !is_missing {
                    return Err(error);
                }
                missing = missing.or(Some(error));
            }
        }
    }
    match missing {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

fn describe(address: SocketAddr, error: &io::Error) -> io::Error {
    let reason = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => "bind: address already in use".to_owned(),
        Some(libc::EADDRNOTAVAIL) => "bind: cannot assign requested address".to_owned(),
        Some(libc::EACCES) => "bind: permission denied".to_owned(),
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), format!("listen tcp {address}: {reason}"))
}

impl BoundListener {
    /// Ties a bound socket to this executor.
    ///
    /// # Errors
    /// The system's, when it does not listen.
    pub fn from_std(executor: &Executor, listener: TcpListener) -> io::Result<BoundListener> {
        // What is set here, the accepted sockets inherit. A peer that vanished without a word is noticed by TCP's own probes.
        for (level, option, value) in [
            (libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
            (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
            (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, KEEPALIVE_SECONDS),
            (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, KEEPALIVE_SECONDS),
        ] {
            set_option(listener.as_raw_fd(), level, option, value)?;
        }
        // SAFETY: the descriptor is open and listening; listening again only changes the backlog.
        if unsafe { libc::listen(listener.as_raw_fd(), LISTEN_BACKLOG) } != 0 {
            return Err(io::Error::last_os_error());
        }
        listener.set_nonblocking(true)?;
        Ok(BoundListener(Registered::new(executor.readiness(), listener)?))
    }
}

impl Network for Executor {
    type Stream = Socket;
    type Listener = BoundListener;

    fn listen(&self, address: SocketAddr) -> io::Result<BoundListener> {
        // The standard library sets SO_REUSEADDR and not SO_REUSEPORT: a port that another process listens on is refused.
        BoundListener::from_std(self, TcpListener::bind(address)?)
    }

    fn adopt(&self, accepted: AcceptedSocket) -> io::Result<Socket> {
        accepted.0.set_nonblocking(true)?;
        Ok(Socket(Registered::new(self.readiness(), accepted.0)?))
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Socket> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(e) => return Err(e.into()),
        }
        let socket = Registered::new(self.readiness(), TcpStream::from(socket))?;
        poll_fn(|cx| socket.poll(Direction::Write, cx, connected)).await?;
        socket.socket().set_nodelay(true)?;
        Ok(Socket(socket))
    }
}

/// How a connection attempt went; `WouldBlock` while it is under way.
fn connected(socket: &TcpStream) -> io::Result<()> {
    match (socket.take_error()?, socket.peer_addr()) {
        (Some(e), _) => Err(e),
        (None, Err(e)) if e.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
        (None, peer) => peer.map(|_| ()),
    }
}

fn set_option(socket: RawFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let bytes = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option's value is an int, and `value` is one for as long as the call lasts.
    let result = unsafe { libc::setsockopt(socket, level, option, (&raw const value).cast(), bytes) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Listener for BoundListener {
    type Accepted = AcceptedSocket;

    async fn accept(&self) -> io::Result<AcceptedSocket> {
        let (socket, _) = poll_fn(|cx| self.0.poll(Direction::Read, cx, TcpListener::accept)).await?;
        Ok(AcceptedSocket(socket))
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.socket().local_addr()
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Whoever reads passes initialised memory, so nothing is filled here.
        let unfilled = buf.initialize_unfilled();
        let room = unfilled.len();
        let read = std::task::ready!(self.0.poll(Direction::Read, cx, |mut socket| socket.read(unfilled)))?;
        if read < room {
            self.0.mark_drained();
        }
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll(Direction::Write, cx, |mut socket| socket.write(buf))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.socket().shutdown(Shutdown::Write) {
            // The peer was quicker.
            Err(e) if e.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(e)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
#[path = "network_test.rs"]
mod tests;
