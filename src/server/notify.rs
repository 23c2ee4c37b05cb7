//! Telling the service manager how it stands: systemd's `sd_notify` protocol, one datagram to `$NOTIFY_SOCKET`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Requests are served.
pub const READY: &str = "READY=1";
/// The member is on its way out.
pub const STOPPING: &str = "STOPPING=1";

/// Sends `state` to the socket named in `socket` (the value of `$NOTIFY_SOCKET`: a path, or `@name` for an abstract one).
/// Without one nothing is sent: `false`.
///
/// # Errors
/// The socket cannot be reached; the member goes on.
pub fn notify(socket: Option<&OsStr>, state: &str) -> io::Result<bool> {
    let Some(name) = socket.filter(|s| !s.is_empty()) else { return Ok(false) };
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(state.as_bytes(), &address)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let bytes = socket.recv(&mut buffer).expect("a datagram");
        String::from_utf8_lossy(&buffer[..bytes]).into_owned()
    }

    #[test]
    fn a_socket_file_is_told() {
        let dir = super::super::datadir::TestDir::new("notify");
        let path = dir.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        assert!(notify(Some(path.as_os_str()), READY).unwrap());
        assert_eq!(received(&socket), "READY=1");
    }

    #[test]
    fn an_abstract_socket_is_told() {
        let name = format!("etcring-notify-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        assert!(notify(Some(OsStr::new(&format!("@{name}"))), STOPPING).unwrap());
        assert_eq!(received(&socket), "STOPPING=1");
    }

    #[test]
    fn without_a_socket_nothing_happens() {
        assert!(!notify(None, READY).unwrap());
        assert!(!notify(Some(OsStr::new("")), READY).unwrap());
        assert!(notify(Some(OsStr::new("/nowhere/socket")), READY).is_err());
    }
}
