//! A coturn on loopback that ends with its guard.

use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use client::{Credentials, Options, TurnClient};

/// A running server; user `user`, password `pass`, realm `realm`.
pub(crate) struct Coturn {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Coturn {
    /// Starts one on a free port and waits until it answers.
    pub(crate) fn start() -> Self {
        let port = UdpSocket::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .expect("a free port on loopback")
            .port();
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let process = Command::new("turnserver")
            .args(["-n", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp", "--lt-cred-mech"])
            .args(["--allow-loopback-peers", "-u", "user:pass", "-r", "realm", "--cli-password=x"])
            .args(["-L", "127.0.0.1", "-E", "127.0.0.1", "-E", "::1", "-p", &port.to_string()])
            .args(["--min-port=23100", "--max-port=23999", "-m", "1", "--log-file=stdout"])
            .arg(format!("--pidfile={}", folder.path().join("pid").display()))
            .arg(format!("--userdb={}", folder.path().join("db").display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("coturn's turnserver: install Debian's package coturn");
        let server = Self { addr, process, _folder: folder };
        server.wait();
        server
    }

    fn wait(&self) {
        let options = Options {
            retransmit_after: Duration::from_millis(50),
            timeout: Duration::from_millis(500),
            ..Options::default()
        };
        let credentials = Credentials::new("user", "pass");
        let ready = (0..20).any(|_| {
            TurnClient::connect_with(self.addr, credentials.clone(), options.clone())
                .is_ok_and(|mut client| client.binding().is_ok())
        });
        assert!(ready, "coturn at {} does not answer", self.addr);
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
