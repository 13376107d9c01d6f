//! Finds the private key of a PEM text (RFC 7468).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::error::Problem;

/// How the bytes of a block are structured, by its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `PRIVATE KEY`, RFC 5958.
    Pkcs8,
    /// `RSA PRIVATE KEY`, RFC 8017 appendix A.1.2.
    Pkcs1,
    /// `EC PRIVATE KEY`, RFC 5915.
    Sec1,
}

/// One decoded block.
pub(crate) struct Block {
    pub(crate) form: Form,
    pub(crate) der: Zeroizing<Vec<u8>>,
}

/// The only private key of the text.
pub(crate) fn private_key(text: &str) -> Result<Block, Problem> {
    let mut labels = Vec::new();
    let mut keys = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|l| l.strip_suffix("-----"))
        else {
            continue;
        };
        let end = format!("-----END {label}-----");
        let mut body = Zeroizing::new(String::with_capacity(text.len()));
        loop {
            match lines.next() {
                Some(line) if line == end => break,
                Some(line) => {
                    body.push_str(line);
                    body.push('\n');
                }
                None => return Err(Problem::Damaged("its END line is missing")),
            }
        }
        let form = match label {
            "PRIVATE KEY" => Form::Pkcs8,
            "RSA PRIVATE KEY" => Form::Pkcs1,
            "EC PRIVATE KEY" => Form::Sec1,
            "ENCRYPTED PRIVATE KEY" => return Err(Problem::Encrypted),
            _ => {
                labels.push(label);
                continue;
            }
        };
        keys.push((form, body));
    }
    match keys.as_slice() {
        [(form, body)] => Ok(Block { form: *form, der: decode(body)? }),
        [] => Err(Problem::NoKey(match labels.as_slice() {
            [] if text.trim().is_empty() => "an empty file".into(),
            [] => "no PEM block".into(),
            labels => labels.join(", "),
        })),
        several => Err(Problem::Several(several.len())),
    }
}

fn decode(body: &str) -> Result<Zeroizing<Vec<u8>>, Problem> {
    if body.contains("ENCRYPTED") {
        return Err(Problem::Encrypted);
    }
    let compact: Zeroizing<String> =
        Zeroizing::new(body.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    STANDARD
        .decode(compact.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| Problem::Damaged("its base64 text is broken"))
}

/// The PEM text of a PKCS#8 structure.
pub(crate) fn write(pkcs8: &[u8]) -> Zeroizing<String> {
    let text = Zeroizing::new(STANDARD.encode(pkcs8));
    let mut pem = Zeroizing::new(String::with_capacity(text.len() + text.len() / 64 + 64));
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}
