//! MS-TURN over real sockets. Its messages are written by `proto`, whose codec is compared with
//! libnice's bytes elsewhere: here it is about what sockets carry.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{SystemTime, UNIX_EPOCH};

use pool_key::PrivateKey;
use proto::auth::PoolKey;
use proto::auth::ms_token::{MsCredential, TokenGrant, mint};
use proto::dialect::ms::{Kind, Message, Numbered, Transaction, Type, Writer};
use proto::now::UnixTime;
use proto::stun::{MessageKey, PasswordAlgorithm};

use crate::site::{SOON, Site, pattern, peer};

/// Sizes of datagrams: empty, every padding, voice, video, beyond an Ethernet frame, huge.
const SIZES: [usize; 10] = [0, 1, 2, 3, 4, 160, 1_200, 1_473, 9_000, 65_000];

/// The realm of every relay here.
const REALM: &str = "example.org";

struct Client {
    socket: UdpSocket,
    credential: MsCredential,
    key: MessageKey,
    nonce: Vec<u8>,
    connection: [u8; 20],
    number: u32,
    transactions: u128,
}

impl Client {
    fn of(pool: &PoolKey, server: SocketAddr) -> Self {
        #[expect(clippy::disallowed_methods, reason = "credentials expire on the wall clock")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let expires = UnixTime(now + 600);
        let grant = TokenGrant { identity: "sip:alice@example.org", expires, side: None };
        let credential = mint(pool, &grant, 7).unwrap();
        let MsCredential { username, password } = &credential;
        let algorithm = PasswordAlgorithm::Md5;
        let key = MessageKey::long_term(algorithm, username, REALM, &password[..]);
        let local: IpAddr =
            if server.is_ipv4() { [127, 0, 0, 1].into() } else { "::1".parse().unwrap() };
        let socket = UdpSocket::bind((local, 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let (nonce, connection, number, transactions) = (Vec::new(), [0; 20], 0, 0);
        Self { socket, credential, key, nonce, connection, number, transactions }
    }

    fn send(&mut self, kind: Kind, fill: impl FnOnce(&Self, &mut Writer<'_>)) {
        self.transactions += 1;
        let mut buffer = vec![0; 65_507];
        let transaction = Transaction(self.transactions.to_be_bytes());
        let mut writer = Writer::new(&mut buffer, kind, transaction);
        fill(self, &mut writer);
        self.socket.send(writer.finish().unwrap()).unwrap();
    }

    fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let len = self.socket.recv(&mut buffer).unwrap();
        buffer.truncate(len);
        buffer
    }

    fn allocate(&mut self) -> SocketAddr {
        self.send(Kind::ALLOCATE, |_, _| ());
        let challenge = self.receive();
        let challenge = Message::parse(&challenge).unwrap();
        self.nonce = challenge.first(Type::NONCE).unwrap().to_vec();
        self.send(Kind::ALLOCATE, |client, writer| {
            writer
                .append(Type::REALM, REALM.as_bytes())
                .append(Type::NONCE, &client.nonce)
                .append(Type::USERNAME, &client.credential.username)
                .sign(&client.key);
        });
        let answer = self.receive();
        let answer = Message::parse(&answer).unwrap();
        assert_eq!(answer.kind(), Kind::ALLOCATE.success());
        assert!(answer.verify(&self.key));
        assert_eq!(
            answer.masked(Type::XOR_MAPPED_ADDRESS),
            Some(self.socket.local_addr().unwrap())
        );
        self.connection = answer.numbered().unwrap().connection;
        answer.address(Type::MAPPED_ADDRESS).unwrap()
    }

    fn numbered(&mut self, kind: Kind, fill: impl FnOnce(&mut Writer<'_>)) {
        self.number += 1;
        self.send(kind, |client, writer| {
            let numbered = Numbered { connection: client.connection, number: client.number };
            writer.append(Type::USERNAME, &client.credential.username).numbered(numbered);
            fill(writer);
            writer.sign(&client.key);
        });
    }
}

fn expect_at(socket: &UdpSocket, from: SocketAddr, bytes: &[u8]) {
    let mut buffer = vec![0; 65_536];
    let (len, source) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(source, from);
    assert!(&buffer[..len] == bytes, "{} bytes came out as {len}", bytes.len());
}

#[test]
fn mst_095_every_size_passes_both_ways_in_indications_and_bare() {
    let (home, key) = (tempfile::tempdir().unwrap(), PrivateKey::generate());
    let file = home.path().join("pool.pem");
    std::fs::write(&file, key.to_pem().as_bytes()).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let keys = format!(
        "[features]\nmicrosoft = true\n[pool]\nkey = {file:?}\n[limits]\n\
         microsoft_kbit_per_s_per_allocation = 100000000\nmicrosoft_kbit_per_s_per_user = 100000000\n"
    );
    let site = Site::open_with(44, 2, &keys);
    let mut client = Client::of(&key.pool_key(), site.server);
    let relayed = client.allocate();
    let (beside, active) = (peer(), peer());
    let (beside_at, active_at) = (beside.local_addr().unwrap(), active.local_addr().unwrap());
    client.numbered(Kind::SET_ACTIVE_DESTINATION, |writer| {
        writer.address(Type::DESTINATION_ADDRESS, active_at);
    });
    let answer = client.receive();
    let answer = Message::parse(&answer).unwrap();
    assert_eq!(answer.kind(), Kind::SET_ACTIVE_DESTINATION.success());
    for (index, size) in SIZES.into_iter().enumerate() {
        let mut bytes = pattern(index, size);
        client.numbered(Kind::SEND, |writer| {
            writer.address(Type::DESTINATION_ADDRESS, beside_at).append(Type::DATA, &bytes);
        });
        expect_at(&beside, relayed, &bytes);
        beside.send_to(&bytes, relayed).unwrap();
        let heard = client.receive();
        let message = Message::parse(&heard).unwrap();
        assert_eq!(message.kind(), Kind::DATA);
        assert_eq!(message.address(Type::REMOTE_ADDRESS), Some(beside_at));
        assert!(message.first(Type::DATA) == Some(&bytes[..]), "{size} bytes");
        // As media begins.
        if let Some(first) = bytes.first_mut() {
            *first = 0x80;
        }
        client.socket.send(&bytes).unwrap();
        expect_at(&active, relayed, &bytes);
        active.send_to(&bytes, relayed).unwrap();
        assert!(client.receive() == bytes, "{size} bytes");
    }
    let sizes: usize = SIZES.iter().sum();
    for direction in ["to_peer", "to_client"] {
        let labels = ["framing=\"destination\"", direction];
        let carried = site.metric("av_edge_relay_framed_bytes_total", &labels);
        assert_eq!(carried, sizes as u64, "{direction}");
    }
    site.close();
}
