//! The XML of a request: read by the schema of `mras.md` §4, strictly.
//!
//! Elements, their order, their namespace and every value must be those of the schema; unknown
//! attributes alone are let pass (pidgin-sipe sends one). There is no DTD, so nothing expands, and
//! what could make the parser work more than in proportion to its input is counted before.

use roxmltree::{Document, Node, ParsingOptions};

use crate::mras::reason::Reason;
use crate::mras::{NAMESPACE, uri};

/// Credentials in one request, at most (MRAS-13).
pub(crate) const ENTRIES_MAX: usize = 100;

/// Characters of an id.
const ID_MAX: usize = 64;

/// Characters of an identity.
const IDENTITY_MAX: usize = 64 * 1024;

/// Elements, texts and comments of a document.
const NODES_MAX: u32 = 65_536;

/// Equals signs between two `<`, so at least as many as a tag has attributes.
const ATTRIBUTES_MAX: usize = 128;

/// Declarations of namespaces in a document; one for each entry may be written by machines.
const NAMESPACES_MAX: usize = 256;

/// Versions we speak, in order (MRAS-14).
const VERSIONS: [(&str, (u64, u64)); 3] = [("1.0", (1, 0)), ("2.0", (2, 0)), ("3.0", (3, 0))];

/// A request of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) to: String,
    pub(crate) from: String,
    pub(crate) route: Route,
    /// At least one.
    pub(crate) entries: Vec<Entry>,
}

/// How relays shall be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// By the name of the pool.
    LoadBalanced,
    /// Each by its address.
    DirectIp,
}

/// Whose credential is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) identity: String,
    /// `None`: anywhere.
    pub(crate) location: Option<Location>,
    pub(crate) duration_min: Option<u64>,
}

/// Where the user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// Outside.
    Internet,
    /// Inside.
    Intranet,
}

impl Location {
    /// As the schema writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Internet => "internet",
            Self::Intranet => "intranet",
        }
    }
}

/// A body that is none of the schema, and what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl Request {
    /// Reads a body (MRAS-12).
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(body).map_err(|_| Malformed("not UTF-8"))?;
        let tags = text.split('<');
        if tags.into_iter().any(|tag| tag.matches('=').count() > ATTRIBUTES_MAX) {
            return Err(Malformed("too many attributes"));
        }
        if text.matches("xmlns").count() > NAMESPACES_MAX {
            return Err(Malformed("too many namespaces"));
        }
        let options =
            ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..Default::default() };
        let document = Document::parse_with_options(text, options)
            .map_err(|_| Malformed("not well-formed, or with a DTD"))?;
        let root = document.root_element();
        if !is(root, "request") {
            return Err(Malformed("the root is no request of the namespace"));
        }
        let entries =
            children(root)?.into_iter().map(Entry::read).collect::<Result<Vec<_>, _>>()?;
        if entries.is_empty() {
            return Err(Malformed("no credentialsRequest"));
        }
        let version = required(root, "version")?;
        numbers(version).ok_or(Malformed("version is no pair of numbers"))?;
        Ok(Self {
            id: id(root, "requestID")?,
            version: version.to_owned(),
            to: required(root, "to")?.to_owned(),
            from: required(root, "from")?.to_owned(),
            route: match optional(root, "route") {
                None | Some("loadbalanced") => Route::LoadBalanced,
                Some("directip") => Route::DirectIp,
                Some(_) => return Err(Malformed("an unknown route")),
            },
            entries,
        })
    }

    /// What is wrong with a request of the schema, in the order of MRAS-13 to MRAS-15.
    pub(crate) fn check(&self) -> Result<(), Reason> {
        if self.entries.len() > ENTRIES_MAX {
            return Err(Reason::RequestTooLarge);
        }
        let own = numbers(&self.version);
        if !VERSIONS.iter().any(|(_, known)| own == Some(*known)) {
            return Err(Reason::VersionMismatch);
        }
        let identities = self.entries.iter().map(|entry| &entry.identity);
        if [&self.to, &self.from].into_iter().chain(identities).any(|it| uri::parts(it).is_none()) {
            return Err(Reason::RequestMalformed);
        }
        Ok(())
    }

    /// The highest version of ours below the client's; the lowest if there is none.
    pub(crate) fn nearest_version(&self) -> &'static str {
        let below = |known| numbers(&self.version).is_none_or(|own| known < own);
        let found = VERSIONS.iter().rev().find(|(_, known)| below(*known));
        found.map_or("1.0", |(text, _)| text)
    }
}

impl Entry {
    fn read(node: Node<'_, '_>) -> Result<Self, Malformed> {
        if !is(node, "credentialsRequest") {
            return Err(Malformed("an unknown element in request"));
        }
        let mut elements = children(node)?.into_iter().peekable();
        let mut next = |name| elements.next_if(|element| is(*element, name)).map(text).transpose();
        let identity = next("identity")?.ok_or(Malformed("no identity"))?;
        let location = match next("location")?.as_deref() {
            None => None,
            Some("internet") => Some(Location::Internet),
            Some("intranet") => Some(Location::Intranet),
            Some(_) => return Err(Malformed("an unknown location")),
        };
        let duration = next("duration")?;
        let duration_min = duration.map(|text| positive(&text).ok_or(Malformed("no duration")));
        if elements.next().is_some() {
            return Err(Malformed("an unknown element in credentialsRequest, or in another order"));
        }
        if identity.chars().count() > IDENTITY_MAX {
            return Err(Malformed("an identity is too long"));
        }
        let duration_min = duration_min.transpose()?;
        Ok(Self { id: id(node, "credentialsRequestID")?, identity, location, duration_min })
    }
}

fn is(node: Node<'_, '_>, name: &str) -> bool {
    node.has_tag_name((NAMESPACE, name))
}

/// The elements of an element that holds nothing else.
fn children<'a, 'b>(node: Node<'a, 'b>) -> Result<Vec<Node<'a, 'b>>, Malformed> {
    let blank = |text: &str| text.chars().all(|char| " \t\r\n".contains(char));
    if node.children().any(|child| child.is_text() && !blank(child.text().unwrap_or_default())) {
        return Err(Malformed("text between elements"));
    }
    Ok(node.children().filter(Node::is_element).collect())
}

/// The text of an element that holds nothing else.
fn text(node: Node<'_, '_>) -> Result<String, Malformed> {
    if node.children().any(|child| child.is_element()) {
        return Err(Malformed("an element in a value"));
    }
    Ok(node.children().filter(Node::is_text).filter_map(|child| child.text()).collect())
}

/// An attribute of no namespace.
fn optional<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let mut own = node.attributes().filter(|it| it.namespace().is_none() && it.name() == name);
    own.next().map(|attribute| attribute.value())
}

fn required<'a>(node: Node<'a, '_>, name: &str) -> Result<&'a str, Malformed> {
    optional(node, name).ok_or(Malformed("an attribute is missing"))
}

fn id(node: Node<'_, '_>, name: &str) -> Result<String, Malformed> {
    let value = required(node, name)?;
    if value.chars().count() > ID_MAX {
        Err(Malformed("an id is too long"))
    } else {
        Ok(value.to_owned())
    }
}

/// `major.minor`; numbers beyond all versions are equal.
fn numbers(version: &str) -> Option<(u64, u64)> {
    let (major, minor) = version.split_once('.')?;
    Some((number(major)?, number(minor)?))
}

fn number(digits: &str) -> Option<u64> {
    let good = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// `xs:positiveInteger`.
fn positive(text: &str) -> Option<u64> {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    number(text.strip_prefix('+').unwrap_or(text)).filter(|&number| number > 0)
}
