//! `couplet-context`: who calls, on which path. `1;<path>;<root>;<depth>;<call>;<evidence>;<service>`.

use couplet_telemetry::names::is_service_name;
use couplet_telemetry::outcome::Evidence;
use couplet_telemetry::path::PathId;

use super::text::Text;
use super::{MAX_BYTES, decimal, fields, hex64};

/// The calling context that a caller's proxy sends along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Calling<'a> {
    /// Path of the handler that calls.
    pub(crate) path: PathId,
    /// Path of the chain's root.
    pub(crate) root: PathId,
    /// Depth of the handler that calls; 0 for a root.
    pub(crate) depth: u32,
    /// Names this call, so that both ends of it can be put together.
    pub(crate) call: u64,
    /// The weakest link from the root to here.
    pub(crate) evidence: Evidence,
    /// The service that calls.
    pub(crate) service: &'a str,
}

impl<'a> Calling<'a> {
    /// Reads a header value. Fields behind the known ones are a later release's and are passed over.
    pub(crate) fn parse(value: &'a [u8]) -> Option<Self> {
        let mut fields = fields(Some(value).filter(|value| value.len() <= MAX_BYTES)?);
        let mut next = || fields.next();
        if next()? != b"1" {
            return None;
        }
        let calling = Self {
            path: PathId::parse(next()?)?,
            root: PathId::parse(next()?)?,
            depth: next().filter(|depth| depth.len() <= 3).and_then(decimal)?.try_into().ok()?,
            call: hex64(next()?)?,
            evidence: match next()? {
                b"e" => Evidence::Exact,
                b"i" => Evidence::Inferred,
                b"u" => Evidence::Unknown,
                _ => return None,
            },
            service: next().and_then(|service| std::str::from_utf8(service).ok())?,
        };
        is_service_name(calling.service).then_some(calling)
    }

    /// As a header value.
    pub(crate) fn text(&self) -> Text<MAX_BYTES> {
        let evidence: &[u8] = match self.evidence {
            Evidence::Exact => b";e;",
            Evidence::Inferred => b";i;",
            Evidence::Unknown => b";u;",
        };
        let mut text = Text::new();
        text.push(b"1;");
        text.hex(self.path.get());
        text.push(b";");
        text.hex(self.root.get());
        text.push(b";");
        text.decimal(u64::from(self.depth));
        text.push(b";");
        text.hex(self.call);
        text.push(evidence);
        text.push(self.service.as_bytes());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn calling(service: &str) -> Calling<'_> {
        let path = PathId::root("shop", "GET /");
        Calling { path, root: path, depth: 255, call: 7, evidence: Evidence::Inferred, service }
    }

    #[test]
    fn a_context_reads_back_as_what_it_was_within_160_bytes() {
        let longest = "s".repeat(63);
        let text = calling(&longest).text().to_string();
        assert!(text.len() <= MAX_BYTES);
        assert_eq!(Calling::parse(text.as_bytes()), Some(calling(&longest)));
    }

    #[test]
    fn fields_of_a_later_release_are_passed_over() {
        let text = format!("{};more", calling("shop").text());
        assert_eq!(Calling::parse(text.as_bytes()), Some(calling("shop")));
    }

    #[test]
    fn what_is_not_well_formed_is_no_context() {
        let good = calling("shop").text().to_string();
        let long = format!("{good};{}", "x".repeat(160));
        for wrong in [
            "",
            "1",
            "2;x",
            &good.replace("1;", "2;"),
            &good.replace(";i;", ";x;"),
            &good.replace("shop", "sh op"),
            &good.replace("shop", ""),
            &good.replace(";255;", ";-1;"),
            &good.replace(";255;", ";99999999999;"),
            &long,
        ] {
            assert_eq!(Calling::parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Calling::parse(&bytes);
        }
    }
}
