//! Values as scenario files and flags write them: `20s`, `4ms..20ms`, `GET /orders/{id}`, `orders GET /orders/{id}`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::random::Random;

/// A method and a path template, such as `GET /orders/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct EndpointName {
    text: String,
    method: http::Method,
}

impl EndpointName {
    /// The method.
    pub(crate) fn method(&self) -> &http::Method {
        &self.method
    }

    /// The path template, beginning with `/`.
    pub(crate) fn template(&self) -> &str {
        self.text.split_once(' ').map_or("/", |(_, path)| path)
    }

    /// Whether a request with this method and path is one for this endpoint.
    pub(crate) fn matches(&self, method: &http::Method, path: &str) -> bool {
        let (mut template, mut path) = (self.template().split('/'), path.split('/'));
        let same = |(a, b): (&str, &str)| a == b || (a.starts_with('{') && !b.is_empty());
        *method == self.method
            && template.clone().count() == path.clone().count()
            && std::iter::from_fn(|| template.next().zip(path.next())).all(same)
    }

    /// A path of this endpoint, with a number for every `{parameter}`.
    pub(crate) fn path(&self, random: &Random) -> String {
        let number = |segment: &str| match segment.starts_with('{') {
            true => (1 + random.below(9_999)).to_string(),
            false => segment.to_owned(),
        };
        self.template().split('/').map(number).collect::<Vec<_>>().join("/")
    }
}

impl TryFrom<String> for EndpointName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = || format!("`{text}` is not an endpoint such as `GET /orders/{{id}}`");
        let (method, path) = text.split_once(' ').ok_or_else(wrong)?;
        let method = method.parse::<http::Method>().ok().filter(|_| METHODS.contains(&method)).ok_or_else(wrong)?;
        let segment = |segment: &str| match segment.strip_prefix('{') {
            Some(rest) => rest.strip_suffix('}').is_some_and(|name| !name.is_empty() && name.bytes().all(is_word)),
            None => segment.bytes().all(|b| is_word(b) || b == b'.'),
        };
        match path.strip_prefix('/') {
            Some(rest) if rest.split('/').all(segment) => Ok(Self { method, text }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// An endpoint of a service, such as `orders GET /orders/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct EndpointRef {
    /// The service.
    pub(crate) service: String,
    /// Its endpoint.
    pub(crate) endpoint: EndpointName,
}

impl TryFrom<String> for EndpointRef {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (service, endpoint) = text
            .split_once(' ')
            .filter(|(_, endpoint)| endpoint.contains(' '))
            .ok_or_else(|| format!("`{text}` is not an endpoint of a service such as `orders GET /orders/{{id}}`"))?;
        Ok(Self { service: service.to_owned(), endpoint: endpoint.to_owned().try_into()? })
    }
}

impl fmt::Display for EndpointRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.service, self.endpoint)
    }
}

impl Serialize for EndpointRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How long a service's own work takes: `4ms..20ms` is log-normal with median 4 ms and 99th percentile 20 ms.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Work {
    median: Duration,
    p99: Duration,
}

impl Work {
    /// The time of one piece of work, at most twice the 99th percentile.
    pub(crate) fn sample(self, random: &Random) -> Duration {
        /// The 99th percentile of the standard normal distribution.
        const Z99: f64 = 2.326;
        let sigma = (self.p99.as_secs_f64() / self.median.as_secs_f64()).ln() / Z99;
        let seconds = self.median.as_secs_f64() * (sigma * random.normal()).exp();
        Duration::try_from_secs_f64(seconds).unwrap_or(self.p99).min(self.p99 * 2)
    }
}

impl TryFrom<String> for Work {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (median, p99) =
            text.split_once("..").ok_or_else(|| format!("`{text}` is not a range such as `4ms..20ms`"))?;
        let (median, p99) = (parse_duration(median)?, parse_duration(p99)?);
        if median.is_zero() || p99 < median {
            return Err(format!("`{text}`: the median must be above zero and not above the 99th percentile"));
        }
        Ok(Self { median, p99 })
    }
}

/// Reads a duration such as `250ms`, `20s` or `1m30s`.
///
/// # Errors
/// A sentence that shows the expected form.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as `20s`, `250ms` or `1m30s`");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (digits, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        total = total.saturating_add(Duration::from_millis(count.saturating_mul(milliseconds)));
        rest = tail;
    }
    Ok(total)
}

/// A duration in a scenario file.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> EndpointName {
        text.to_owned().try_into().unwrap()
    }

    #[test]
    fn durations_have_units_and_may_add_up() {
        for (text, milliseconds) in [("250ms", 250), ("20s", 20_000), ("1m30s", 90_000), ("1h", 3_600_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for wrong in ["", "20", "s", "20x", "-5s", "1.5s", "20 s", "99999999999999999999s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_endpoint_matches_the_paths_that_it_makes_and_no_others() {
        let random = Random::new(1);
        let (line, home) = (endpoint("GET /orders/{id}/lines/{line}"), endpoint("GET /"));
        assert!(line.matches(&http::Method::GET, &line.path(&random)));
        assert!(home.matches(&http::Method::GET, "/"));
        for path in ["/", "/orders/1/lines", "/orders//lines/2", "/orders/1/lines/2/3", "/orders/1/rows/2"] {
            assert!(!line.matches(&http::Method::GET, path), "{path}");
        }
        assert!(!line.matches(&http::Method::POST, "/orders/1/lines/2"));
    }

    #[test]
    fn what_is_not_an_endpoint_is_refused() {
        for wrong in
            ["", "GET", "/orders", "FETCH /orders", "GET orders", "GET /a b", "GET /{", "GET /x{id}", "GET /a?b=c"]
        {
            assert!(EndpointName::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
        for wrong in ["orders", "orders GET", "GET /orders"] {
            assert!(EndpointRef::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn work_has_the_median_and_the_tail_that_were_asked_for() {
        let work: Work = "4ms..20ms".to_owned().try_into().unwrap();
        let random = Random::new(7);
        let mut times: Vec<_> = (0..10_000).map(|_| work.sample(&random)).collect();
        times.sort_unstable();
        let milliseconds = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e3;
        assert!((3.8..4.2).contains(&milliseconds(50)), "{}", milliseconds(50));
        assert!((18.0..22.0).contains(&milliseconds(99)), "{}", milliseconds(99));
        assert!(times[times.len() - 1] <= Duration::from_millis(40));
    }

    #[test]
    fn work_that_takes_no_time_or_shrinks_is_refused() {
        for wrong in ["4ms", "0ms..4ms", "9ms..4ms", "4..9"] {
            assert!(Work::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
