//! A client of MRAS that knows nothing of the service's code: SIP as text, XML by names.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use roxmltree::{Document, Node};

use crate::harness::Service;

/// The body of requests and responses.
pub(super) const TYPE: &str = "application/msrtc-media-relay-auth+xml";

pub(super) const NAMESPACE: &str = "http://schemas.microsoft.com/2006/09/sip/mrasp";

/// Longer than an answer takes, shorter than a test may.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// Relays on both sides, and no limits that tests would notice.
pub(super) const SETTINGS: &str = r#"
[mras]
listen = "127.0.0.1:0"
realm = "edge.example.com"
limits = { server_per_s = 1e6, server_burst = 1000000, identity_per_s = 1e6, identity_burst = 1000000 }
[[mras.relays]]
location = "internet"
host_name = "av.example.com"
direct_ip = "192.0.2.10"
udp_port = 3478
tcp_port = 443
[[mras.relays]]
location = "internet"
host_name = "av.example.com"
direct_ip = "2001:db8::10"
udp_port = 3478
tcp_port = 443
[[mras.relays]]
location = "intranet"
host_name = "edge.corp.example"
direct_ip = "172.25.33.10"
udp_port = 3478
"#;

/// A service with MRAS in clear and metrics.
pub(super) fn service() -> Service {
    Service::start(&format!("{SETTINGS}\n[metrics]\naddress = \"127.0.0.1:0\""))
}

/// A stream of any kind.
pub(super) trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// A connection to MRAS.
pub(super) struct Client {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
}

/// A response of SIP.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Response {
    /// Values of a header, in order.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(own, _)| *own == name).map(|(_, value)| value).collect()
    }

    /// An attribute of the XML's root.
    pub(super) fn attribute(&self, name: &str) -> Option<String> {
        let document = Document::parse(&self.body).expect("well-formed XML");
        document.root_element().attribute(name).map(str::to_owned)
    }

    pub(super) fn reason(&self) -> String {
        assert_eq!((self.status, self.all("Content-Type")), (200, vec![TYPE]), "{}", self.head);
        self.attribute("reasonPhrase").expect("every response has one")
    }

    /// Texts of the elements at a path of local names, as pidgin-sipe looks for them (MRAS-36).
    pub(super) fn texts(&self, path: &str) -> Vec<String> {
        let document = Document::parse(&self.body).expect("well-formed XML");
        let root = document.root_element();
        assert_eq!(root.tag_name().namespace(), Some(NAMESPACE));
        let mut nodes = vec![root];
        for name in path.split('/') {
            let named = |node: Node<'_, '_>| node.tag_name().name() == name;
            nodes = nodes.iter().flat_map(|node| node.children().filter(|it| named(*it))).collect();
        }
        nodes.iter().map(|node| node.text().unwrap_or_default().to_owned()).collect()
    }
}

impl Client {
    pub(super) fn connect(service: &Service) -> Self {
        let addr = service.auth.mras_addr().expect("MRAS is configured");
        let stream = TcpStream::connect(addr).expect("the service listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
        stream.set_nodelay(true).expect("our own socket");
        Self::over(stream)
    }

    pub(super) fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), unread: Vec::new() }
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("an open connection");
        self.stream.flush().expect("an open connection");
    }

    /// Sends, although the service may have closed the connection.
    pub(super) fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
        let _ = self.stream.flush();
    }

    /// Reads a response.
    pub(super) fn response(&mut self) -> Response {
        self.try_response().expect("a response, not the end")
    }

    /// Reads a response; `None` if the connection ended instead.
    pub(super) fn try_response(&mut self) -> Option<Response> {
        let end = loop {
            match self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => self.more()?,
            }
        };
        let head = String::from_utf8(self.unread[..end].to_vec()).expect("a text");
        let status = head.strip_prefix("SIP/2.0 ").expect("a status line");
        let status = status[..3].parse().expect("a number");
        let response = Response { status, head, body: String::new() };
        let [length] = response.all("Content-Length")[..] else { panic!("no single length") };
        let whole = end + length.parse::<usize>().expect("a number");
        while self.unread.len() < whole {
            self.more()?;
        }
        let body = String::from_utf8(self.unread[end..whole].to_vec()).expect("a text");
        self.unread.drain(..whole);
        Some(Response { body, ..response })
    }

    /// Reads exactly these bytes.
    pub(super) fn expect(&mut self, bytes: &[u8]) {
        while self.unread.len() < bytes.len() {
            self.more().expect("more bytes, not the end");
        }
        assert_eq!(self.unread.drain(..bytes.len()).collect::<Vec<_>>(), bytes);
    }

    /// Whether the service closes the connection without a further byte.
    pub(super) fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && self.more().is_none()
    }

    fn more(&mut self) -> Option<()> {
        let mut chunk = [0; 4096];
        let count = match self.stream.read(&mut chunk) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("nothing came within {PATIENCE:?}")
            }
            Err(_) => 0,
        };
        self.unread.extend_from_slice(&chunk[..count]);
        (count > 0).then_some(())
    }

    /// Asks with a body and reads the answer.
    pub(super) fn ask(&mut self, body: &str) -> Response {
        self.send(message("SERVICE", body));
        self.response()
    }
}

/// A request of any method, with the headers of mras.md §5.1.
pub(super) fn message(method: &str, body: &str) -> String {
    format!(
        "{method} sip:MRASLoc.edge1.example.com@example.com SIP/2.0\r\n\
         Via: SIP/2.0/TLS fe1.example.net:50711;branch=z9hG4bK7a1;ms-received-cid=900\r\n\
         From: <sip:alice@example.com>;tag=4711;epid=0a1b2c3d4e5f\r\n\
         To: <sip:MRASLoc.edge1.example.com@example.com>\r\n\
         Call-ID: 5d3c77a0c1\r\n\
         CSeq: 1 {method}\r\n\
         Max-Forwards: 69\r\n\
         Content-Type: {TYPE}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A request for one credential of Alice, with these elements behind her identity.
pub(super) fn request(more: &str) -> String {
    xml("version=\"1.0\"", &[&format!("<identity>sip:alice@example.com</identity>{more}")])
}

/// A request with these attributes beside the ids and addresses, and these entries.
pub(super) fn xml(attributes: &str, entries: &[&str]) -> String {
    let mut text = format!(
        "<request requestID=\"77\" {attributes} to=\"sip:MRASLoc.x@example.com\" \
         from=\"sip:bob@example.com\" xmlns=\"{NAMESPACE}\">"
    );
    for (index, entry) in entries.iter().enumerate() {
        write!(
            text,
            "<credentialsRequest credentialsRequestID=\"c{index}\">{entry}</credentialsRequest>"
        )
        .expect("a string takes everything");
    }
    text + "</request>"
}
