//! As much of DER (X.690) as private keys need.

use zeroize::Zeroizing;

/// Tags of universal types.
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OBJECT_ID: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;

/// Whole elements that name algorithms.
pub(crate) const RSA: &[u8] = &[6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 1];
pub(crate) const EC: &[u8] = &[6, 7, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1];
pub(crate) const P256: &[u8] = &[6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7];
pub(crate) const ED25519: &[u8] = &[6, 3, 0x2B, 0x65, 0x70];
pub(crate) const NULL: &[u8] = &[5, 0];

/// Reads elements from the front of a byte string.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// The content of the next element, if it has this tag.
    pub(crate) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&[found, first], rest) = self.0.split_first_chunk::<2>()?;
        if found != tag {
            return None;
        }
        let (length, rest) = match first {
            0..=0x7F => (usize::from(first), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
                (bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }

    /// The next element as a reader of its parts.
    pub(crate) fn enter(&mut self, tag: u8) -> Option<Self> {
        self.take(tag).map(Self)
    }

    /// The next element as a positive integer without leading zeros.
    pub(crate) fn integer(&mut self) -> Option<&'a [u8]> {
        let bytes = self.take(INTEGER)?;
        if bytes.first()? & 0x80 != 0 {
            return None;
        }
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        bytes.get(zeros..)
    }
}

/// One element.
pub(crate) fn element(tag: u8, content: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length: usize = content.iter().map(|part| part.len()).sum();
    let [.., a, b, c] = length.to_be_bytes();
    let mut out = Zeroizing::new(Vec::with_capacity(length + 5));
    out.push(tag);
    match length {
        0..=0x7F => out.push(c),
        0x80..=0xFF => out.extend([0x81, c]),
        0x100..=0xFFFF => out.extend([0x82, b, c]),
        _ => out.extend([0x83, a, b, c]),
    }
    for part in content {
        out.extend_from_slice(part);
    }
    out
}

/// A PKCS#8 structure around an older form.
pub(crate) fn pkcs8(algorithm: &[&[u8]], key: &[u8]) -> Zeroizing<Vec<u8>> {
    let algorithm = element(SEQUENCE, algorithm);
    let key = element(OCTET_STRING, &[key]);
    element(SEQUENCE, &[&[INTEGER, 1, 0], &algorithm, &key])
}
