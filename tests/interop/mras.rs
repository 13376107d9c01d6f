//! A front end asks for its users' credentials over SIP: SIPp, with stunnel for its TLS, which Debian's SIPp lacks.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use client::{AllocateOptions, Credentials};

use crate::coturn::{RUNS, for_coturn, start_peers};
use crate::edge::{AUTH_METRICS, Home, await_ready, command, connect, http_get, start_relay};
use crate::netns::must;
use crate::process::Process;
use crate::site::{EXTERNAL, INTERNAL, Site};

/// How long SIPp may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Where SIPp finds the service, on its own loopback.
const TUNNEL: &str = "127.0.0.1:5060";

#[test]
fn mras_056_sipp_obtains_credentials_that_relay_and_that_no_log_holds() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let auth = start_mras(&site, &home);
    let credentials = by_sipp(&site, &home, "intranet", 2);
    let _relay = start_relay(&site, &home, &for_coturn());
    let _peers = start_peers(&site);
    let run = RUNS.iter().find(|run| run.case == "channels").expect("a plain run");
    let [Credentials { username, password }, other] = &credentials[..] else { panic!("two") };
    run.demand_all_back(&site.client, &["-u", username, "-w", password]);
    let mut client = site.client.enter(|| connect(INTERNAL, other));
    client.allocate(&AllocateOptions::default()).expect("the other one is as good");
    let log = auth.output();
    assert!(log.contains("MRAS") && log.contains("fe1.corp.example: OK"), "it logs much:\n{log}");
    for Credentials { username, password } in &credentials {
        let held = [username, password].map(|secret| log.contains(secret.as_str()));
        assert_eq!(held, [false; 2], "a credential is in the log");
    }
    let metrics = site.relay.enter(|| http_get(&format!("http://{AUTH_METRICS}/metrics")));
    let metrics = metrics.expect("metrics");
    assert!(metrics.contains("av_edge_mras_credentials_issued_total 2\n"), "{metrics}");
}

#[test]
fn mras_002_sipp_without_a_trusted_certificate_is_refused_at_the_handshake() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _auth = start_mras(&site, &home);
    home.authority("others");
    home.vouched("others", "fe1.corp.example", "stranger");
    for (case, files) in
        [("no certificate", String::new()), ("another authority's", home.pem_files("stranger"))]
    {
        let _tunnel = start_tunnel(&site, &home, &files);
        let (mut sipp, log) = start_sipp(&site, &home, "internet", 1);
        assert!(!sipp.wait(LIMIT).success(), "{case}: {}", sipp.output());
        assert_eq!(read_log(&log), [], "{case}");
    }
    let metrics = site.relay.enter(|| http_get(&format!("http://{AUTH_METRICS}/metrics")));
    let metrics = metrics.expect("metrics");
    assert!(metrics.contains("av_edge_mras_credentials_issued_total 0\n"), "{metrics}");
    assert!(!metrics.contains("av_edge_auth_tls_failures_total 0\n"), "{metrics}");
}

/// Starts `av-edge auth` with MRAS on the DMZ host's internal side. Its certificate has the pool's key, as in the
/// product; `fe1.corp.example` may ask.
pub(crate) fn start_mras(site: &Site, home: &Home) -> Process {
    home.authority("ca");
    home.vouched("ca", "edge.corp.example", "pool");
    home.vouched("ca", "fe1.corp.example", "fe1");
    let toml = format!(
        r#"listen = "127.0.0.1:8443"
uris = ["turn:{INTERNAL}:3478?transport=udp"]
pool = {{ key = "pool.pem" }}
callers = [{{ name = "nobody", key = "interop-caller-key-51d0" }}]
metrics = {{ address = "{AUTH_METRICS}" }}
[mras]
listen = "{INTERNAL}"
tls = {{ certificate = "pool.crt", key = "pool.pem", client_ca = "ca.crt" }}
trusted_servers = ["fe1.corp.example"]
realm = "turn.example.org"
relays = [
    {{ location = "intranet", host_name = "{INTERNAL}", udp_port = 3478, tcp_port = 443 }},
    {{ location = "internet", host_name = "{EXTERNAL}", udp_port = 3478, tcp_port = 443 }},
]
"#
    );
    let file = home.write("mras.toml", &toml);
    let file = file.to_str().expect("a path in UTF-8");
    let mut service = command(&site.relay, &["auth", "--config", file]);
    let mut process = Process::start(service.env("AV_EDGE_LOG", "trace"));
    await_ready(&site.relay, &mut process, AUTH_METRICS);
    process
}

/// What SIPp obtains in `count` requests on one connection of `fe1.corp.example`, from the client's machine.
pub(crate) fn by_sipp(site: &Site, home: &Home, location: &str, count: usize) -> Vec<Credentials> {
    let _tunnel = start_tunnel(site, home, &home.pem_files("fe1"));
    let (mut sipp, log) = start_sipp(site, home, location, count);
    let status = sipp.wait(LIMIT);
    assert!(status.success(), "{status}\n{}", sipp.output());
    let credentials = read_log(&log);
    assert_eq!(credentials.len(), count, "{}", sipp.output());
    credentials
        .into_iter()
        .map(|(username, password)| Credentials::new(username, password))
        .collect()
}

/// User names and passwords that SIPp wrote down.
fn read_log(log: &PathBuf) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.trim().split_once(' '));
    pairs.map(|(username, password)| (username.to_owned(), password.to_owned())).collect()
}

/// TLS for SIPp, with these lines about certificates.
fn start_tunnel(site: &Site, home: &Home, files: &str) -> Process {
    let authorities = home.path("ca.crt");
    let text = format!(
        "foreground = yes\npid =\nsyslog = no\n[mras]\nclient = yes\naccept = {TUNNEL}\n\
         connect = {INTERNAL}:5062\nCAfile = {}\nverifyChain = yes\n\
         checkHost = edge.corp.example\n{files}",
        authorities.display()
    );
    let file = home.write("stunnel.conf", &text);
    let mut tunnel = Process::start(site.client.command("stunnel").arg(file));
    tunnel.until(LIMIT, "stunnel to listen", |_| {
        let sockets = must(site.client.command("ss").args(["-Hltn", "sport = :5060"]));
        (!sockets.stdout.is_empty()).then_some(())
    });
    tunnel
}

/// SIPp, and the file it writes what it obtains to.
fn start_sipp(site: &Site, home: &Home, location: &str, count: usize) -> (Process, PathBuf) {
    let scenario = home.write("mras.xml", &SCENARIO.replace("LOCATION", location));
    let log = home.write("sipp.log", "");
    let mut sipp = site.client.command("sipp");
    sipp.args([TUNNEL, "-t", "t1", "-nostdin", "-timeout", "10s", "-timeout_error"])
        .args(["-max_reconnect", "0", "-m", &count.to_string(), "-trace_logs", "-log_file"])
        .arg(&log)
        .arg("-sf")
        .arg(scenario)
        .env("TERM", "dumb");
    (Process::start(&mut sipp), log)
}

const SCENARIO: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<scenario name="MRAS">
  <send>
    <![CDATA[

      SERVICE sip:MRASLoc.edge.corp.example@example.com SIP/2.0
      Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
      From: <sip:user[call_number]@example.com>;tag=[call_number];epid=0a1b2c3d4e5f
      To: <sip:MRASLoc.edge.corp.example@example.com>
      Call-ID: [call_id]
      CSeq: 1 SERVICE
      Max-Forwards: 70
      Content-Type: application/msrtc-media-relay-auth+xml
      Content-Length: [len]

      <request requestID="[call_number]" from="sip:user[call_number]@example.com" version="1.0" to="sip:MRASLoc.edge.corp.example@example.com" xmlns="http://schemas.microsoft.com/2006/09/sip/mrasp"><credentialsRequest credentialsRequestID="[call_number]"><identity>sip:user[call_number]@example.com</identity><location>LOCATION</location><duration>480</duration></credentialsRequest></request>

    ]]>
  </send>
  <recv response="200">
    <action>
      <ereg regexp="reasonPhrase=.OK." search_in="body" check_it="true" assign_to="ok"/>
      <ereg regexp="&lt;username&gt;([^&lt;]+)&lt;/username&gt;&lt;password&gt;([^&lt;]+)&lt;" search_in="body" check_it="true" assign_to="both,username,password"/>
      <log message="[$username] [$password]"/>
    </action>
  </recv>
  <Reference variables="ok,both"/>
</scenario>
"#;

impl Home {
    /// Makes an authority, `NAME.crt` with `NAME.key`.
    fn authority(&self, name: &str) {
        self.sign("CA:TRUE", None, name, (name, &format!("{name}.key")));
    }

    /// Makes the certificate `FILE.crt` that an authority vouches for, with the key `FILE.pem`, which may be there.
    fn vouched(&self, authority: &str, host: &str, file: &str) {
        self.sign("CA:FALSE", Some(authority), host, (file, &format!("{file}.pem")));
    }

    fn sign(&self, constraints: &str, issuer: Option<&str>, host: &str, files: (&str, &str)) {
        let (file, key) = files;
        let path = self.path(key);
        if !path.exists() {
            self.openssl_key(key, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        }
        let config = self.write(
            "openssl.cnf",
            &format!(
                "[req]\ndistinguished_name = dn\nx509_extensions = own\n[dn]\n\
                 [own]\nbasicConstraints = critical,{constraints}\nsubjectAltName = DNS:{host}\n"
            ),
        );
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-new", "-days", "30", "-subj", &format!("/CN={host}")]);
        openssl.arg("-config").arg(config).arg("-key").arg(path);
        if let Some(issuer) = issuer {
            openssl.arg("-CA").arg(self.path(&format!("{issuer}.crt")));
            openssl.arg("-CAkey").arg(self.path(&format!("{issuer}.key")));
        }
        must(openssl.arg("-out").arg(self.path(&format!("{file}.crt"))));
    }

    /// Lines for stunnel about a certificate and its key.
    fn pem_files(&self, file: &str) -> String {
        let [certificate, key] = ["crt", "pem"].map(|end| self.path(&format!("{file}.{end}")));
        format!("cert = {}\nkey = {}\n", certificate.display(), key.display())
    }
}
