//! The command line: every subcommand with its arguments, defaults and units.
//!
//! Only the grammar lives here. Each subcommand has a file of its own that takes its arguments
//! and does the work.

mod top;

use std::io::{self, IsTerminal};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use proto::addr::Side;
use proto::auth::Trace;

use crate::failure::Failure;
pub(crate) use top::{TopArgs, TopSort};

use crate::{
    auth, capture, check, conformance, control, credential, demo, doctor, explain, key, probe,
    relay,
};

/// An open A/V Edge: TURN media relay and its credential service in one binary.
#[derive(Debug, Parser)]
#[command(
    name = "av-edge",
    version,
    after_help = "\
Exit status: 0 success; 1 the job failed; 2 wrong arguments or configuration.\n\
AV_EDGE_LOG (or RUST_LOG) sets what is logged to standard error: error, warn (default of demo), \
info (default), debug, trace, or per module, as in AV_EDGE_LOG=warn,relay=debug."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How lines of the log look. Those of JSON have timestamp, level, target, message, and the
    /// fields of each event by name.
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value = "auto")]
    log_format: LogFormat,
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One object of JSON a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a voice call through a relay of its own, prove it, then serve a test page.
    Demo(DemoArgs),
    /// Run the media relay of a configuration file until SIGTERM or SIGINT.
    Relay(ServiceArgs),
    /// Run the credential service of a configuration file until SIGTERM or SIGINT.
    Auth(ServiceArgs),
    /// Make and look at pool keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Mint and examine credentials without the service.
    #[command(subcommand)]
    Credential(CredentialCommand),
    /// Ask a relay, as a client would, whether it works.
    Probe(ProbeArgs),
    /// Try any TURN server against the requirements of the RFCs, one verdict each.
    Conformance(ConformanceArgs),
    /// Look at a relay that runs on this host, and tell it what to do, through its socket.
    Control(ControlArgs),
    /// Watch a relay in a terminal: what is wrong, what it carries, and each call.
    Top(TopArgs),
    /// Say what a refusal or drop means, or why a client or an allocation fared as it did.
    Explain(ExplainArgs),
    /// Write down what an allocation sends and gets, for Wireshark.
    Capture(CaptureArgs),
    /// Say what a configuration file would start, or what is wrong with it.
    Check(CheckArgs),
    /// Look whether this host is a good place for a relay, and say what to change.
    Doctor(DoctorArgs),
}

/// Arguments of `av-edge demo`.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// End after the call; the exit status says whether it went through unharmed.
    #[arg(long)]
    pub(crate) once: bool,
    /// UDP port of the relay; without it 3478, or a free one if that is in use.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// Address of the test page; without it 127.0.0.1:8080, or another port if that is in use.
    /// The page asks nobody for a password: whoever reaches it can use the relay. Browsers offer
    /// a microphone only to pages of their own host or over HTTPS.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) page: Option<SocketAddr>,
    /// Address of the metrics; without it 127.0.0.1:9641, or another port if that is in use.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) metrics: Option<SocketAddr>,
}

/// Arguments of `av-edge relay` and `av-edge auth`.
#[derive(Args, Debug)]
pub(crate) struct ServiceArgs {
    /// Configuration file (TOML); relative paths in it start at its directory.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Subcommands of `av-edge key`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a new private key for a pool: unencrypted PKCS#8 in PEM.
    Generate(GenerateArgs),
    /// Show kind, fingerprint and key id of a private key, never the secret.
    Show(ShowArgs),
}

/// Arguments of `av-edge key generate`.
#[derive(Args, Debug)]
pub(crate) struct GenerateArgs {
    /// File to write, with mode 0600; an existing one is never overwritten. Without it the key
    /// goes to standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Kind of key.
    #[arg(long = "type", value_name = "TYPE", default_value = "p256")]
    pub(crate) kind: KeyType,
}

/// Kinds of key that can be made here; RSA keys can be read but not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyType {
    /// NIST P-256, which a certificate for the same pool can use too.
    P256,
    /// Ed25519.
    Ed25519,
}

/// Arguments of `av-edge key show`.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// Private key in PEM.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Subcommands of `av-edge credential`.
#[derive(Debug, Subcommand)]
pub(crate) enum CredentialCommand {
    /// Mint a credential with a pool key, without the service.
    Mint(MintArgs),
    /// Say what a user name means and whether a password belongs to it. Exit status 1 unless all
    /// that was given fits and the credential is still good.
    Inspect(InspectArgs),
    /// Derive the keys of a user for the relay's `auth.users_file`, from a password on standard
    /// input.
    Derive(DeriveArgs),
}

/// Arguments of `av-edge credential derive`.
#[derive(Args, Debug)]
pub(crate) struct DeriveArgs {
    /// The realm of the relay.
    #[arg(long, value_name = "REALM")]
    pub(crate) realm: String,
    /// The user name.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: String,
}

/// Arguments of `av-edge credential mint`.
#[derive(Args, Debug)]
pub(crate) struct MintArgs {
    /// The pool's private key in PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Opaque id of the user, 1 to 255 bytes; it travels in clear, so use no real name.
    #[arg(long, value_name = "ID", required_unless_present = "oauth", conflicts_with = "oauth")]
    pub(crate) user: Option<String>,
    /// Mint an access token of RFC 7635 instead, which relays with `auth.pool_tokens` take.
    #[arg(long, requires = "server_name")]
    pub(crate) oauth: bool,
    /// Mint a token as A/V authentication (MRAS) does, of a SIP URI; good in the dialect of
    /// Microsoft, and as text for any client. It has room for a side, but not for peers or limits.
    #[arg(long, requires = "user", conflicts_with_all = ["oauth", "allocations", "peers", "ports", "limit", "traceparent"])]
    pub(crate) mras: bool,
    /// What the relays are called in tokens: their `auth.server_name`, by default the realm.
    #[arg(long, value_name = "NAME", requires = "oauth")]
    pub(crate) server_name: Option<String>,
    /// How long it is good for new allocations, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=MINT_LIFETIME_MAX_S))]
    pub(crate) lifetime: u64,
    /// The only side of the edge it is good on; without it, both.
    #[arg(long, value_parser = sides())]
    pub(crate) side: Option<Side>,
    /// Allocations the user may hold at a time, if fewer than the relay's own limit.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) allocations: Option<u32>,
    /// The only peers it is good for, of those that the relay allows: ranges of addresses, at
    /// most 16.
    #[arg(long, value_name = "RANGE", value_delimiter = ',')]
    pub(crate) peers: Vec<String>,
    /// The only ports of peers it is good for: single ones or ranges, at most 8.
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    pub(crate) ports: Vec<String>,
    /// What all allocations of the user together may carry each way, if less than the relay's own
    /// limits say: `kbit_per_s=COUNT`, `packets_per_s=COUNT`, `allocations=COUNT`.
    #[arg(long, value_name = "NAME=COUNT", value_delimiter = ',')]
    pub(crate) limit: Vec<String>,
    /// The request it is minted in, as W3C Trace Context names it; the relay repeats it in its log
    /// and its usage records. Relays of earlier versions refuse such a credential.
    #[arg(long, value_name = "TRACEPARENT")]
    pub(crate) traceparent: Option<Trace>,
    /// Print one JSON object instead of two lines.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Longest lifetime `credential mint` gives: ten years. Relays accept what their own
/// `auth.max_lifetime_s` allows, which is far less.
const MINT_LIFETIME_MAX_S: u64 = 10 * 365 * 86_400;

/// Arguments of `av-edge credential inspect`.
#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// The user name of the credential; of an access token the key id.
    #[arg(value_name = "USERNAME")]
    pub(crate) username: String,
    /// Access token in base64 to open; needs --key and --server-name.
    #[arg(long, value_name = "BASE64", requires_all = ["key", "server_name"], conflicts_with = "password")]
    pub(crate) token: Option<String>,
    /// What the relays are called in tokens.
    #[arg(long, value_name = "NAME", requires = "token")]
    pub(crate) server_name: Option<String>,
    /// Private key in PEM of the pool it should belong to.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Password to verify, or - to read it from standard input; needs --key.
    #[arg(long, value_name = "PASSWORD", requires = "key")]
    pub(crate) password: Option<String>,
}

/// A side of the edge, by its name.
fn sides() -> impl TypedValueParser<Value = Side> {
    PossibleValuesParser::new(Side::ALL.map(Side::name)).try_map(|name| name.parse::<Side>())
}

/// Arguments of `av-edge probe`.
#[derive(Args, Debug)]
pub(crate) struct ProbeArgs {
    /// The relay, as in iceServers: `turn:HOST[:PORT][?transport=udp|tcp]` or
    /// `turns:HOST[:PORT][?transport=udp|tcp]` (TLS, over UDP DTLS); `stun:HOST[:PORT]` or
    /// `stuns:HOST[:PORT]` for the public address alone.
    #[arg(value_name = "URI")]
    pub(crate) uri: String,
    /// User name of a credential.
    #[arg(long, value_name = "USERNAME", requires = "proof")]
    pub(crate) username: Option<String>,
    /// Password of the credential; every user of this host can see it here.
    #[arg(long, value_name = "PASSWORD", requires = "username", group = "proof")]
    pub(crate) password: Option<String>,
    /// File with the password of the credential on its first line, or - for standard input.
    #[arg(long, value_name = "FILE", requires = "username", group = "proof")]
    pub(crate) password_file: Option<PathBuf>,
    /// Private key in PEM of the pool, to mint the credential with.
    #[arg(long, value_name = "FILE", conflicts_with = "username")]
    pub(crate) key: Option<PathBuf>,
    /// Datagrams to send through the relay and back.
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) count: u32,
    /// How long to wait for an answer, in milliseconds.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 3000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub(crate) timeout: u64,
    /// Print one JSON object instead of words.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
}

/// Which certificates a server may show.
#[derive(Args, Debug)]
pub(crate) struct TrustArgs {
    /// Certificate authorities in PEM that a turns: or stuns: server is checked by, instead of
    /// this host's.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Take any certificate: then nobody knows who answers.
    #[arg(long, conflicts_with = "ca")]
    pub(crate) insecure: bool,
}

/// Arguments of `av-edge conformance`.
#[derive(Args, Debug)]
#[command(after_help = "\
Each case is one requirement: pass, FAIL with what was expected and what was seen, or n.a. with the \
reason. Exit status 0 when no case fails. Peers are sockets of this host; cases that need one are \
n.a. unless the server lets its clients send there.")]
pub(crate) struct ConformanceArgs {
    /// The server: `turn:HOST[:PORT][?transport=udp|tcp]` or `turns:HOST[:PORT][?transport=udp|tcp]`
    /// (TLS, over UDP DTLS).
    #[arg(value_name = "URI", required_unless_present = "list")]
    pub(crate) uri: Option<String>,
    /// User name of a credential that may hold several allocations.
    #[arg(long, alias = "username", value_name = "USERNAME", requires = "proof")]
    pub(crate) user: Option<String>,
    /// Password of the credential; every user of this host can see it here.
    #[arg(long, value_name = "PASSWORD", requires = "user", group = "proof")]
    pub(crate) password: Option<String>,
    /// File with the password of the credential on its first line, or - for standard input.
    #[arg(long, value_name = "FILE", requires = "user", group = "proof")]
    pub(crate) password_file: Option<PathBuf>,
    /// User name of a second credential, for the cases that need two users.
    #[arg(long, value_name = "USERNAME", requires = "other_proof")]
    pub(crate) other_user: Option<String>,
    /// Password of the second credential.
    #[arg(long, value_name = "PASSWORD", requires = "other_user", group = "other_proof")]
    pub(crate) other_password: Option<String>,
    /// File with the password of the second credential on its first line.
    #[arg(long, value_name = "FILE", requires = "other_user", group = "other_proof")]
    pub(crate) other_password_file: Option<PathBuf>,
    /// Private key in PEM of the pool, to mint both credentials with.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "other_user"])]
    pub(crate) key: Option<PathBuf>,
    /// The secret the server shares with its credential service (TURN REST), to mint credentials
    /// with, and for the cases about them.
    #[arg(long, value_name = "SECRET", conflicts_with = "secret_file")]
    pub(crate) secret: Option<String>,
    /// File with that secret on its first line, or - for standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Address of this host that the server can send to and permits as a peer; may be given for
    /// IPv4 twice and for IPv6. Without it, the address this host speaks to the server from.
    #[arg(long, value_name = "IP")]
    pub(crate) peer: Vec<IpAddr>,
    /// Only these requirements, by id or area: STUN-005,CHAN.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// List the requirements that are tried, and end.
    #[arg(long)]
    pub(crate) list: bool,
    /// How long an answer may take, in milliseconds.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub(crate) timeout: u64,
    /// Print one JSON object instead of words.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
}

/// Arguments of `av-edge control`.
#[derive(Args, Debug)]
#[command(after_help = "\
The relay needs the table [control] in its configuration; whoever may write to the socket's file may \
do all of this. Exit status 1 when the relay refuses, or does not answer.")]
pub(crate) struct ControlArgs {
    /// The relay's socket: its `control.path`.
    #[arg(long, global = true, value_name = "PATH", default_value = "/run/av-edge/relay.sock")]
    pub(crate) socket: PathBuf,
    /// Print JSON, as the relay says it: one object, of allocations one a line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: ControlCommand,
}

/// Subcommands of `av-edge control`.
#[derive(Debug, Subcommand)]
pub(crate) enum ControlCommand {
    /// Say which version runs, how long, and what it does.
    Status,
    /// List the allocations; users are keyed hashes, as in metrics.
    Allocations {
        /// So many at most; without it, all.
        #[arg(long, value_name = "COUNT")]
        limit: Option<usize>,
    },
    /// End an allocation: its client hears of it when it asks next.
    End {
        /// The id that the list shows.
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Take no new allocation, and end with the last one or after the relay's `drain_s`, as at
    /// SIGTERM.
    Drain,
    /// Read the configuration again, as at SIGHUP.
    Reload,
}

/// Arguments of `av-edge explain`.
#[derive(Args, Debug)]
#[command(after_help = "\
What reasons mean is built in. About an allocation or a client the relay is asked, which needs the \
table [control] in its configuration. Exit status 1 when nothing is known of it, or the relay does \
not answer.")]
pub(crate) struct ExplainArgs {
    /// The name of a refusal or drop, as metrics have it; an allocation, as `av-edge control
    /// allocations` lists it; or a client, as IP or IP:port. Without it, all names are listed.
    #[arg(value_name = "REASON|ALLOCATION|CLIENT")]
    pub(crate) subject: Option<String>,
    /// The relay's socket, its `control.path`; by default /run/av-edge/relay.sock. With it, the
    /// relay is asked about reasons too: how often, and whom it befell.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Print one JSON object, or a list of all reasons.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `av-edge capture`.
#[derive(Args, Debug)]
#[command(after_help = "\
The file (pcapng) has two interfaces: client, between client and relay, and peer, between relay and \
peers. Headers of IP and UDP are made from the addresses; what came over TCP, TLS or DTLS is shown \
unsealed, a datagram for each message. Meanwhile the kernel relays nothing of the allocation by \
itself ([offload]). What the relay sees faster than it is taken is left out and counted in the file. \
The relay needs the table [control] in its configuration, and logs who is captured. \
tshark -r FILE -d udp.port==PORT,rtp reads media of a peer at that port; for the client's leg add \
-d udp.port==3478,stun --enable-heuristic rtp_stun, with the port of the listener.")]
pub(crate) struct CaptureArgs {
    /// The allocation, as `av-edge control allocations` lists it.
    #[arg(value_name = "ALLOCATION")]
    pub(crate) allocation: String,
    /// How long; it ends earlier with the allocation.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=240))]
    pub(crate) seconds: u16,
    /// How much of each datagram.
    #[arg(long, value_enum, value_name = "MUCH", default_value = "headers")]
    pub(crate) payload: Payload,
    /// Where to; without it, standard output, if that is no terminal.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// The relay's socket: its `control.path`.
    #[arg(long, value_name = "PATH", default_value = "/run/av-edge/relay.sock")]
    pub(crate) socket: PathBuf,
}

/// How much of a datagram is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Payload {
    /// Headers of IP, UDP, TURN and RTP, and nothing of what people say.
    Headers,
    /// Everything, encrypted as it may be.
    Whole,
}

/// Arguments of `av-edge check`.
#[derive(Args, Debug)]
#[command(after_help = "\
With --peer the exit status is 0 if the peer may be reached, and 1 if it may not; one or two \
sentences say by which range, of which registry or key. Live relayed ports are known to the relay \
alone.")]
pub(crate) struct CheckArgs {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", required_unless_present = "peer")]
    pub(crate) config: Option<PathBuf>,
    /// Which service it configures; without it, the file's keys tell.
    #[arg(long, conflicts_with = "peer")]
    pub(crate) kind: Option<ServiceKind>,
    /// Say instead whether clients of the relay that the file configures may reach this peer;
    /// without a file, what the built-in rules say.
    #[arg(long, value_name = "IP[:PORT]")]
    pub(crate) peer: Option<PeerName>,
    /// The side of the edge that the client is on.
    #[arg(long, requires = "peer", default_value = "external", value_parser = sides())]
    pub(crate) side: Side,
    /// User name of the client's credential, which may be good for fewer peers.
    #[arg(long, value_name = "USERNAME", requires = "peer")]
    pub(crate) username: Option<String>,
}

/// Arguments of `av-edge doctor`.
#[derive(Args, Debug)]
#[command(after_help = "\
Nothing is changed, opened or sent. Run it as the user that starts the relay, to see what that one \
may. Exit status 1 when it finds a problem: something that keeps the relay from working.")]
pub(crate) struct DoctorArgs {
    /// Configuration file (TOML) of the relay; without it, one with all defaults is meant.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON object a line instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A peer, with or without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerName {
    /// The host.
    pub(crate) ip: IpAddr,
    /// The port, if it matters.
    pub(crate) port: Option<u16>,
}

impl FromStr for PeerName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(Self { ip, port: None });
        }
        let peer: SocketAddr = text
            .parse()
            .map_err(|_| "write 192.0.2.1, 192.0.2.1:80, 2001:db8::1 or [2001:db8::1]:80")?;
        Ok(Self { ip: peer.ip(), port: Some(peer.port()) })
    }
}

/// A service that a file can configure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServiceKind {
    /// The media relay.
    Relay,
    /// The credential service.
    Auth,
}

impl Cli {
    /// What is logged unless the environment says otherwise: the demonstration tells its story
    /// itself, in words.
    pub(crate) fn log_level(&self) -> &'static str {
        if matches!(self.command, Command::Demo(_)) { "warn" } else { "info" }
    }

    /// How lines of the log look. What is no service speaks to people alone.
    pub(crate) fn log_format(&self) -> LogFormat {
        match (self.log_format, &self.command) {
            (LogFormat::Auto, Command::Relay(_) | Command::Auth(_))
                if !io::stderr().is_terminal() =>
            {
                LogFormat::Json
            }
            (LogFormat::Auto, _) => LogFormat::Text,
            (chosen, _) => chosen,
        }
    }

    /// Runs the chosen subcommand.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Demo(args) => demo::run(&args),
            Command::Probe(args) => probe::run(&args),
            Command::Conformance(args) => conformance::run(&args),
            Command::Relay(args) => relay::run(&args),
            Command::Auth(args) => auth::run(&args),
            Command::Key(command) => key::run(&command),
            Command::Credential(command) => credential::run(&command),
            Command::Control(args) => control::run(&args),
            Command::Top(args) => crate::top::run(&args),
            Command::Explain(args) => explain::run(&args),
            Command::Capture(args) => capture::run(&args),
            Command::Check(args) => check::run(&args),
            Command::Doctor(args) => doctor::run(&args),
        }
    }
}
