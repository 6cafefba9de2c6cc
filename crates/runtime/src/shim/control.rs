//! The control connections: the one that the shim was started with, and those of a daemon that was started later.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use droste_runtime::plan::Exit;
use droste_runtime::wire::{self, EXIT_NAME, Inbox, Message, Request, SOCKET_NAME, Status};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with};
use rustix::process::umask;

use super::pump::{Pump, nonblocking};

/// The kernel's limit for a socket's path, its end included.
const PATH_LIMIT: usize = 108;
const BACKLOG: i32 = 16;

struct Connection {
    socket: OwnedFd,
    inbox: Inbox,
    open: bool,
}

/// All connections, the socket for new ones, and the descriptors kept for the daemon.
pub(crate) struct Control {
    pub(crate) listener: OwnedFd,
    path: String,
    connections: Vec<Connection>,
    pub(crate) held: Vec<(u32, OwnedFd)>,
    pub(crate) pid: i32,
    pub(crate) pidfd: Option<OwnedFd>,
}

impl Control {
    pub(crate) fn new(state_dir: &str, first: OwnedFd) -> io::Result<Self> {
        let path = format!("{state_dir}/{SOCKET_NAME}");
        // What an earlier run left would be taken for this one's.
        for left in [&path, &format!("{state_dir}/{EXIT_NAME}")] {
            match std::fs::remove_file(left) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let listener = listen_at(state_dir, &path)?;
        let connections = vec![Connection { socket: first, inbox: Inbox::default(), open: true }];
        Ok(Self { listener, path, connections, held: Vec::new(), pid: 0, pidfd: None })
    }

    /// Tells that the process runs.
    pub(crate) fn tell_launched(&mut self) {
        for connection in &mut self.connections {
            connection.say(&Message::Launched(self.pid), self.pidfd.as_ref());
        }
    }

    /// Tells everybody.
    fn tell(&mut self, message: &Message) {
        for connection in &mut self.connections {
            connection.say(message, None);
        }
    }

    pub(crate) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.connections.iter().map(|connection| connection.socket.as_fd())
    }

    pub(crate) fn accept(&mut self) {
        if let Ok(socket) = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            self.connections.push(Connection { socket, inbox: Inbox::default(), open: true });
        }
    }

    /// Serves what a connection asks.
    pub(crate) fn serve(&mut self, index: usize, pump: &mut Pump) {
        let Self { connections, held, pid, pidfd, .. } = self;
        let connection = &mut connections[index];
        match connection.inbox.receive(connection.socket.as_fd()) {
            Ok(0) => connection.open = false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => connection.open = false,
            Ok(_) => loop {
                match connection.inbox.take() {
                    Ok(None) => break,
                    Ok(Some((request, fds))) => {
                        let (message, fd) = answer(request, fds, (*pid, pidfd.as_ref()), held, pump);
                        connection.say(&message, fd.as_ref());
                    }
                    Err(_) => {
                        connection.open = false;
                        break;
                    }
                }
            },
        }
    }

    pub(crate) fn sweep(&mut self) {
        self.connections.retain(|connection| connection.open);
    }

    /// Records the exit, tells it, and ends the service.
    pub(crate) fn end(&mut self, state_dir: &str, exit: Exit) -> io::Result<()> {
        let recorded = record(state_dir, exit);
        self.tell(&Message::Exited(exit));
        self.remove();
        recorded
    }

    pub(crate) fn remove(&self) {
        // The state directory may be gone already, with the container.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Connection {
    fn say(&mut self, message: &Message, fd: Option<&OwnedFd>) {
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
        let sent = wire::frame(message, fds.len()).and_then(|frame| wire::send_all(self.socket.as_fd(), &frame, &fds));
        // A daemon that does not even read small messages has to connect again.
        self.open &= sent.is_ok();
    }
}

fn answer(
    request: Request,
    fds: Vec<OwnedFd>,
    process: (i32, Option<&OwnedFd>),
    held: &mut [(u32, OwnedFd)],
    pump: &mut Pump,
) -> (Message, Option<OwnedFd>) {
    let result = match request {
        Request::Status => {
            let status = Status { pid: process.0, tty: pump.has_terminal() };
            return (Message::Status(status), process.1.and_then(|fd| fd.try_clone().ok()));
        }
        Request::Attach(streams) => match fds.into_iter().next() {
            Some(socket) => {
                pump.attach(socket, streams);
                Ok(())
            }
            None => Err(Errno::BADF.into()),
        },
        Request::Resize(size) => pump.resize(size),
        Request::CloseStdin => {
            pump.close_input();
            Ok(())
        }
        Request::TakeListener(index) => match held.iter().find(|(held, _)| *held == index.0) {
            Some((_, fd)) => match fd.try_clone() {
                Ok(fd) => return (Message::Done, Some(fd)),
                Err(error) => Err(error),
            },
            None => Err(Errno::BADF.into()),
        },
        Request::Launch(_) | Request::Exec(_) | Request::Oci(_) => Err(Errno::BUSY.into()),
    };
    match result {
        Ok(()) => (Message::Done, None),
        Err(error) => (Message::Refused(error.raw_os_error().unwrap_or(libc::EIO)), None),
    }
}

fn record(state_dir: &str, exit: Exit) -> io::Result<()> {
    let bytes = wire::frame(&exit, 0)?;
    let partial = format!("{state_dir}/.{}", EXIT_NAME);
    std::fs::write(&partial, bytes)?;
    std::fs::rename(partial, format!("{state_dir}/{}", EXIT_NAME))
}

fn listen_at(state_dir: &str, path: &str) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let old = umask(Mode::from_raw_mode(0o177));
    let bound = if path.len() < PATH_LIMIT {
        SocketAddrUnix::new(path).and_then(|address| bind(&socket, &address))
    } else {
        let directory = open(state_dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let short = format!("/proc/self/fd/{}/{SOCKET_NAME}", std::os::fd::AsRawFd::as_raw_fd(&directory));
        SocketAddrUnix::new(short).and_then(|address| bind(&socket, &address))
    };
    umask(old);
    bound?;
    listen(&socket, BACKLOG)?;
    nonblocking(socket.as_fd())?;
    Ok(socket)
}
