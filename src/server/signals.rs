//! The signals that end the process.

use std::io;

/// SIGTERM and SIGINT, blocked in every thread and waited for in one.
pub struct Signals(libc::sigset_t);

impl Signals {
    /// To be called before there is any other thread: one that does not block them would be ended by them, and with it the process.
    ///
    /// # Errors
    /// The operating system says no.
    pub fn block() -> io::Result<Signals> {
        // SAFETY: a sigset is plain memory, made valid by sigemptyset before it is used.
        let (set, failed) = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGTERM);
            libc::sigaddset(&mut set, libc::SIGINT);
            (set, libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()))
        };
        if failed == 0 { Ok(Signals(set)) } else { Err(io::Error::from_raw_os_error(failed)) }
    }

    /// Waits in a thread of its own; what it gives is the signal's name.
    pub fn watch(&self) -> flume::Receiver<&'static str> {
        let (sender, receiver) = flume::bounded(1);
        let set = self.0;
        std::thread::spawn(move || {
            let mut signal = 0;
            // SAFETY: both pointers are to live values of the right types.
            unsafe { libc::sigwait(&set, &mut signal) };
            sender.send(if signal == libc::SIGINT { "interrupt" } else { "terminated" }).ok();
        });
        receiver
    }
}
