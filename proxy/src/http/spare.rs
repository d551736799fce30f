//! The head of a request that may have to be sent again, while a codec has the request itself. Of many such heads one is
//! ever wanted back: they are written down, in one piece of memory, and only that one is read.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};

/// What was written of a head.
pub(crate) struct Spare {
    method: Method,
    uri: Uri,
    version: Version,
    /// For each field, in their order: the length of its name, that of its value, whether the value must not be
    /// indexed, the name, and the value.
    fields: Vec<u8>,
}

/// What stands before each field: two lengths in four bytes each, and a flag.
const LENGTHS: usize = 9;

impl Spare {
    /// Writes a head down, but for its extensions: codecs leave notes there, for themselves.
    pub(crate) fn of(head: &Parts) -> Self {
        let size = |(name, value): (&HeaderName, &HeaderValue)| LENGTHS + name.as_str().len() + value.len();
        let mut fields = Vec::with_capacity(head.headers.iter().map(size).sum());
        for (name, value) in &head.headers {
            let name = name.as_str().as_bytes();
            // No codec takes a head that is larger than this can tell.
            fields.extend_from_slice(&(name.len() as u32).to_ne_bytes());
            fields.extend_from_slice(&(value.len() as u32).to_ne_bytes());
            fields.push(u8::from(value.is_sensitive()));
            fields.extend_from_slice(name);
            fields.extend_from_slice(value.as_bytes());
        }
        Self { method: head.method.clone(), uri: head.uri.clone(), version: head.version, fields }
    }

    /// The head again.
    pub(crate) fn head(self) -> Option<Parts> {
        let (mut head, ()) = Request::new(()).into_parts();
        let mut left = self.fields.as_slice();
        while let Some((name, lengths)) = left.split_first_chunk() {
            let (value, behind) = lengths.split_first_chunk()?;
            let (sensitive, behind) = behind.split_first()?;
            let (name, behind) = behind.split_at_checked(u32::from_ne_bytes(*name) as usize)?;
            let (value, behind) = behind.split_at_checked(u32::from_ne_bytes(*value) as usize)?;
            let mut value = HeaderValue::from_bytes(value).ok()?;
            value.set_sensitive(*sensitive != 0);
            head.headers.append(HeaderName::from_bytes(name).ok()?, value);
            left = behind;
        }
        (head.method, head.uri, head.version) = (self.method, self.uri, self.version);
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_the_same_again() {
        let request = Request::post("http://shop:8080/orders?x=1").version(Version::HTTP_2);
        let request = request.header("accept", "a").header("x-own", "").header("accept", "b").header("x-z", "\u{e9}");
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        head.headers.get_mut("x-own").unwrap().set_sensitive(true);
        let again = Spare::of(&head).head().unwrap();
        assert_eq!((&again.method, &again.uri, again.version), (&head.method, &head.uri, head.version));
        let fields = |head: &Parts| {
            let fields = head.headers.iter();
            let fields = fields.map(|(name, value)| (name.clone(), value.as_bytes().to_vec(), value.is_sensitive()));
            fields.collect::<Vec<_>>()
        };
        assert_eq!(fields(&again), fields(&head));
        let (bare, ()) = Request::new(()).into_parts();
        assert!(Spare::of(&bare).head().unwrap().headers.is_empty());
    }
}
